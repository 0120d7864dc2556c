"""Text that arrives in parts is the text of the whole, and no part ends within a character."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="generation needs torch")

import torch

from llamatok import Tokenizer
from llamatok.generation.stopping import stop_strings
from llamatok.generation.streamers import TextIteratorStreamer, TextStreamer
from llamatok.generation.text import text_decoder

TOKENIZER = Tokenizer.default()
TEXTS = st.text(st.sampled_from("ab é中🦙👩‍👩‍👧\n.,'"), max_size=40)


class OnlyDecode:
    """A tokenizer without a stream decoder, as transformers' are."""

    def decode(self, ids: Any, *, skip_special_tokens: bool = False) -> str:
        return TOKENIZER.decode(ids, skip_special_tokens=skip_special_tokens)


class Runs:
    """Ids are bytes; a run that is no valid UTF-8 is spoiled as a whole, as by the tokenizers library."""

    def decode(self, ids: Any, *, skip_special_tokens: bool = False) -> str:
        try:
            return bytes(ids).decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(ids)


@given(prompt=TEXTS, text=TEXTS)
def test_the_context_begins_with_a_whole_character(prompt: str, text: str) -> None:
    before, new = prompt.encode(), text.encode()
    decoder = text_decoder(Runs(), prefill=list(before))
    assert "".join([decoder.push(id) for id in new] + [decoder.finish()]) == text


@pytest.mark.parametrize("tokenizer", [TOKENIZER, OnlyDecode()])
@given(prompt=TEXTS, text=TEXTS)
def test_parts_make_the_whole(tokenizer: Any, prompt: str, text: str) -> None:
    ids = TOKENIZER.encode(prompt + text)
    for cut in (0, len(ids) // 2):
        decoder = text_decoder(tokenizer, prefill=ids[:cut])
        parts = [decoder.push(id) for id in ids[cut:]] + [decoder.finish()]
        assert TOKENIZER.decode(ids).endswith("".join(parts))
        if cut == 0:
            assert "".join(parts) == TOKENIZER.decode(ids)
            assert not any("\ufffd" in part for part in parts)


@pytest.mark.parametrize("tokenizer", [TOKENIZER, OnlyDecode()])
def test_a_space_after_the_prompt_is_kept(tokenizer: Any) -> None:
    prompt = TOKENIZER.encode("Hello")
    new = TOKENIZER.encode("Hello world")[len(prompt) :]
    decoder = text_decoder(tokenizer, prefill=prompt)
    assert "".join([decoder.push(id) for id in new] + [decoder.finish()]) == " world"


@pytest.mark.parametrize("skip_prompt", [False, True])
def test_streamers_give_the_text(skip_prompt: bool, capsys: pytest.CaptureFixture[str]) -> None:
    prompt, new = TOKENIZER.encode("Grüße,"), TOKENIZER.encode("Grüße, 🦙 und mehr")
    new = new[len(prompt) :]
    expected = TOKENIZER.decode(prompt + new)[len("Grüße,") if skip_prompt else 0 :]
    for streamer in (TextStreamer(TOKENIZER, skip_prompt), TextIteratorStreamer(TOKENIZER, skip_prompt)):
        streamer.put(torch.tensor([prompt]))
        for id in new:
            streamer.put(torch.tensor([id]))
        streamer.end()
    assert capsys.readouterr().out == expected + "\n"
    assert "".join(streamer) == expected


def test_a_text_streamer_refuses_two_rows() -> None:
    with pytest.raises(ValueError, match="a text streamer takes one row, got 2"):
        TextStreamer(TOKENIZER).put(torch.zeros((2, 3), dtype=torch.int64))


@given(text=TEXTS, stop=st.sampled_from(["a", "ab", "b a", "é中", "🦙", ".", " ", "a.\n"]))
def test_stop_strings_end_with_the_token_that_completes_them(text: str, stop: str) -> None:
    ids = TOKENIZER.encode("ok " + text)
    criterion = stop_strings(TOKENIZER, [stop, "never there"])
    prompt = len(TOKENIZER.encode("ok "))
    for length in range(prompt + 1, len(ids) + 1):
        before = TOKENIZER.decode(ids[: length - 1]).rstrip("\ufffd")
        now = TOKENIZER.decode(ids[:length])
        at = now.find(stop, max(0, len(before) - len(stop) + 1))
        found = criterion(torch.tensor([ids[:length]]), None)
        assert found.tolist() == [at >= 0]
