"""What changes a tokenizer changes that one alone, and wholly or not at all."""

from __future__ import annotations

import copy

import pytest

from llamatok import AddedToken, LlamaTokenizer


@pytest.fixture
def tokenizer() -> LlamaTokenizer:
    return LlamaTokenizer.default(legacy=False)


def test_a_shallow_copy_has_added_tokens_of_its_own(tokenizer: LlamaTokenizer) -> None:
    tokenizer("x")
    other = copy.copy(tokenizer)
    other.add_tokens(["AAA"])
    tokenizer.add_tokens(["BBB"])
    size = tokenizer.vocab_size
    assert (len(tokenizer), len(other)) == (size + 1, size + 1)
    assert (other.decode([size]), tokenizer.decode([size])) == ("AAA", "BBB")
    assert size in other("AAA")["input_ids"]
    assert size not in tokenizer("AAA")["input_ids"]


def test_tokens_are_added_all_or_none(tokenizer: LlamaTokenizer) -> None:
    tokenizer("x")
    with pytest.raises(TypeError, match="a token must be a str or an AddedToken, not None"):
        tokenizer.add_tokens(["newtok", None])  # type: ignore[list-item]
    assert len(tokenizer) == tokenizer.vocab_size
    assert tokenizer("newtok")["input_ids"] == LlamaTokenizer.default(legacy=False)("newtok")["input_ids"]


def test_added_tokens_are_handed_out_as_copies(tokenizer: LlamaTokenizer) -> None:
    before = tokenizer("<s>XX")["input_ids"]
    tokenizer.added_tokens_decoder[1].content = "XX"
    assert tokenizer("<s>XX")["input_ids"] == before


def test_tokens_with_names_of_a_models_own_can_be_set() -> None:
    tokenizer = LlamaTokenizer.default(legacy=False, extra_special_tokens={"image_token": "<image>"})
    tokenizer.add_tokens([AddedToken("<im2>", special=True)])
    tokenizer.image_token = "<im2>"
    assert tokenizer.image_token_id == tokenizer.convert_tokens_to_ids("<im2>")
    assert tokenizer.special_tokens_map["image_token"] == "<im2>"
    tokenizer.image_token_id = 5
    assert tokenizer.image_token == tokenizer.convert_ids_to_tokens(5)


def test_long_texts_are_warned_of_once(caplog):
    """Not once for each length, of which there is no end."""
    tokenizer = LlamaTokenizer.default(model_max_length=13)
    for length in range(20, 40):
        tokenizer("a " * length)
    warnings = [record for record in caplog.records if "> 13)" in record.getMessage()]
    assert len(warnings) == 1
