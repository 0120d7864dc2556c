"""Special-token injection: text becomes a control id only where its reader has asked for that."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llamatok
from llamatok import _core
from support import llama_files

CONTROL = {0, 1, 2}
#: What an attacker would write: the tokens, parts of them, and how they look once spaces are escaped.
BAIT = (
    "<s>", "</s>", "<unk>", "<pad>", "<", "s", "/s", ">", "<s", "</", "s>", " ", "\u2581", "\u2581<s>",
    "<\u200bs>", "<0x01>", "<0x02>", "\x00", "\x01", "\x02", "<S>", "< s >", "\ufeff", "\n", "a", "🦙",
    "[INST]", "<|im_end|>",
)  # fmt: skip
TEXTS = st.one_of(st.lists(st.sampled_from(BAIT), max_size=12).map("".join), st.text(max_size=30))


def _tokenizers() -> list[Any]:
    model = str(llama_files.model_file())
    made = [
        llamatok.LlamaTokenizer(model, legacy=True),
        llamatok.LlamaTokenizer(model, legacy=False),
        llamatok.LlamaTokenizer.from_pretrained(str(llama_files.json_folder(legacy=True))),
        llamatok.LlamaTokenizer.from_pretrained(str(llama_files.json_folder(legacy=False))),
    ]
    for tokenizer in made:
        tokenizer.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<|im_end|>"]})
    return made


@pytest.fixture(scope="module")
def tokenizers() -> list[Any]:
    return _tokenizers()


@given(TEXTS, st.booleans())
def test_split_special_tokens(tokenizers: list[Any], text: str, in_batch: bool) -> None:
    """With `split_special_tokens=True`, no text gives a control id, nor that of another special token."""
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        return
    for tokenizer in tokenizers:
        options = {"add_special_tokens": False, "split_special_tokens": True}
        if in_batch:
            ids = tokenizer([text, text + "x"], **options)["input_ids"][0]
        else:
            ids = tokenizer(text, **options)["input_ids"]
        assert not set(ids) & {*tokenizer.all_special_ids, *CONTROL}, text
        assert not set(tokenizer.tokenize(text, split_special_tokens=True)) & {*tokenizer.all_special_tokens}


@given(TEXTS)
def test_as_a_setting(tokenizers: list[Any], text: str) -> None:
    """The attribute says the same for every call, pairs and words among them."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return
    for tokenizer in tokenizers:
        tokenizer.split_special_tokens = True
        try:
            pair = tokenizer(text, text, add_special_tokens=False)["input_ids"]
            words = tokenizer([text, text], is_split_into_words=True, add_special_tokens=False)["input_ids"]
        finally:
            tokenizer.split_special_tokens = False
        assert not {*pair, *words} & {*tokenizer.all_special_ids, *CONTROL}, text


@given(TEXTS)
def test_low_level_by_default(text: str) -> None:
    """The low level takes every text for text unless `parse_special` is set."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return
    tokenizer = _low_level()
    assert not set(tokenizer.encode(text)) & CONTROL, text
    assert not set(tokenizer.encode_batch([text]).ids.tolist()) & CONTROL, text
    assert not set(tokenizer.encode(text.encode())) & CONTROL, text


@functools.cache
def _low_level() -> _core.Tokenizer:
    return llamatok.Tokenizer.from_file(llama_files.model_file())


def test_they_are_found_when_asked_for(tokenizers: list[Any]) -> None:
    """The same texts do give control ids where special tokens are read, so the tests above can fail."""
    for tokenizer in tokenizers:
        assert tokenizer("</s>", add_special_tokens=False)["input_ids"][-1] == 2
    assert _low_level().encode("</s>", parse_special=True)[-1] == 2
