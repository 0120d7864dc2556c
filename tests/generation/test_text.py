"""Text that arrives in parts is the text of the whole, and no part ends within a character."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="generation needs torch")

import torch

from llamatok import LlamaTokenizer, Tokenizer
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


@pytest.fixture(scope="module", params=["tokenizer.model", "legacy", "tokenizer.json"])
def llama(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LlamaTokenizer:
    """Hugging Face's interface by each of its rules, with an added token that is not special."""
    found = LlamaTokenizer.default(legacy=request.param == "legacy")
    found.add_tokens(["<added>"])
    if request.param == "tokenizer.json":
        folder = tmp_path_factory.mktemp("tokenizer")
        found.save_pretrained(folder)
        found = LlamaTokenizer(folder / "tokenizer.json")
    assert found.is_fast is (request.param == "tokenizer.json")
    return found


def _parts(tokenizer: LlamaTokenizer, ids: list[int], skip: bool, cut: int = 0) -> list[str]:
    decoder = text_decoder(tokenizer, skip_special_tokens=skip, prefill=ids[:cut])
    return [decoder.push(id) for id in ids[cut:]] + [decoder.finish()]


@given(
    texts=st.lists(TEXTS | st.sampled_from(["<s>", "</s>", "<unk>", "<added>", "</s></s> x"]), max_size=6),
    pieces=st.lists(st.integers(259, 31_999), max_size=12),
    skip=st.booleans(),
)
def test_parts_make_the_whole_with_special_tokens(
    llama: LlamaTokenizer, texts: list[str], pieces: list[int], skip: bool
) -> None:
    ids = llama.encode("".join(texts)) + pieces
    parts, whole = _parts(llama, ids, skip), llama.decode(ids, skip_special_tokens=skip)
    if llama.legacy and not llama.is_fast and not skip:
        # A special token puts a space before text that was given already.
        assert "".join(parts).replace(" ", "") == whole.replace(" ", "")
    else:
        assert "".join(parts) == whole
    assert not any("\ufffd" in part for part in parts)


@given(pieces=st.lists(st.integers(259, 31_999), min_size=9, max_size=30), special=st.integers(1, 12))
def test_special_tokens_that_are_left_out_take_no_space_away(
    llama: LlamaTokenizer, pieces: list[int], special: int
) -> None:
    ids = [*pieces[:4], *[llama.eos_token_id] * special, *pieces[4:]]
    whole = llama.decode(ids, skip_special_tokens=True)
    for cut in (0, 2, 4 + special):
        before = llama.decode(ids[:cut], skip_special_tokens=True)
        assert before + "".join(_parts(llama, ids, True, cut)) == whole


@given(ids=st.lists(st.integers(0, 31_999) | st.integers(3, 258), max_size=30), skip=st.booleans())
@example(ids=[3 + byte for byte in b"\xc4\x80\x80"], skip=False)
def test_no_text_is_lost_or_told_twice_around_wrong_bytes(
    llama: LlamaTokenizer, ids: list[int], skip: bool
) -> None:
    def without_bytes(text: str) -> str:
        return "".join(c for c in text if c >= "\u0100" and c != "\ufffd")

    # Bytes that happen to be characters beyond Latin-1 would count as pieces do, also where the bytes behind
    # them spoil them in the whole text.
    left_out = llama.all_special_ids if skip else []
    of_bytes = b"".join(bytes([id - 3]) if 3 <= id <= 258 else b" " for id in ids if id not in left_out)
    assume(not without_bytes(of_bytes.decode(errors="ignore")))
    plain = [id for id in ids if not 3 <= id <= 258]
    expected = without_bytes(llama.decode(plain, skip_special_tokens=skip))
    assert without_bytes("".join(_parts(llama, ids, skip))) == expected


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


@given(text=TEXTS, stop=st.sampled_from(["a", "ab", "b a", "é中", "🦙", ".", " ", "a.\n"]) | TEXTS)
def test_stop_strings_end_with_the_token_that_completes_them(text: str, stop: str) -> None:
    _assert_ended(text, stop or "a")


@given(text=TEXTS, rest=TEXTS, data=st.data())
def test_long_stop_strings_end_with_the_token_that_completes_them(
    text: str, rest: str, data: st.DataObject
) -> None:
    # The end of the string comes again and again, its beginning once.
    stop = data.draw(st.sampled_from("ab中🦙")) + text
    _assert_ended(f"{text}{text}{stop}{rest}{text}", stop)


def _assert_ended(text: str, stop: str) -> None:
    ids = TOKENIZER.encode("ok " + text)
    criterion = stop_strings(TOKENIZER, [stop, "never there"])
    prompt = len(TOKENIZER.encode("ok "))
    for length in range(prompt + 1, len(ids) + 1):
        before = TOKENIZER.decode(ids[: length - 1]).rstrip("\ufffd")
        now = TOKENIZER.decode(ids[:length])
        at = now.find(stop, max(0, len(before) - len(stop) + 1))
        found = criterion(torch.tensor([ids[:length]]), None)
        assert found.tolist() == [at >= 0]
