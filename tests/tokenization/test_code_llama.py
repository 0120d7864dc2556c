"""Infilling: what comes before and after a gap, and the tokens between."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamatok import CodeLlamaTokenizer, LlamaTokenizer
from support.locations import DEFAULT_MODEL, shared_file


@pytest.fixture(params=["model", "json"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> CodeLlamaTokenizer:
    made = CodeLlamaTokenizer(DEFAULT_MODEL)
    if request.param == "json":
        made.save_pretrained(tmp_path, legacy_format=False)
        made = CodeLlamaTokenizer.from_pretrained(tmp_path)
        assert made.is_fast
    return made


def test_tokens(tokenizer: CodeLlamaTokenizer) -> None:
    size = tokenizer.vocab_size
    assert tokenizer.prefix_token == "▁<PRE>"
    found = (tokenizer.prefix_id, tokenizer.middle_id, tokenizer.suffix_id, tokenizer.eot_id)
    assert found == (size, size + 1, size + 2, size + 3)
    assert tokenizer.additional_special_tokens == ["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"]


def test_infilling(tokenizer: CodeLlamaTokenizer) -> None:
    before = tokenizer.tokenize("def f(x):")
    bare = LlamaTokenizer(DEFAULT_MODEL, legacy=False, add_prefix_space=False)
    after = bare.tokenize(" return x")
    expected = ["▁<PRE>", *before, "▁<SUF>", *after, "▁<MID>"]
    turned = ["▁<PRE>", "▁<SUF>", *after, "▁<MID>", *before]
    text = "def f(x):<FILL_ME> return x"
    assert tokenizer.tokenize(text) == tokenizer.tokenize("def f(x):", " return x") == expected
    assert tokenizer.tokenize(text, suffix_first=True) == turned
    ids = [tokenizer.bos_token_id, *tokenizer.convert_tokens_to_ids(expected)]
    assert tokenizer(text)["input_ids"] == tokenizer.encode(text) == ids
    assert tokenizer("def f(x):", suffix=" return x")["input_ids"] == ids
    assert tokenizer([text, "plain"])["input_ids"] == [ids, tokenizer("plain")["input_ids"]]
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids[1:]
    assert tokenizer(text, return_tensors="np")["input_ids"].tolist() == [ids]
    tokenizer.pad_token = tokenizer.eos_token
    padded = tokenizer([text, "plain"], padding=True, return_tensors="np")
    assert padded["attention_mask"].sum(axis=1).tolist() == [len(ids), len(tokenizer("plain")["input_ids"])]


def test_special_tokens_around_a_gap_are_text(tokenizer: CodeLlamaTokenizer) -> None:
    ids = tokenizer.encode("a</s>▁<MID><FILL_ME></s>")
    assert tokenizer.eos_token_id not in ids
    assert ids.count(tokenizer.middle_id) == 1


def test_gaps_that_cannot_be(tokenizer: CodeLlamaTokenizer) -> None:
    with pytest.raises(ValueError, match="one gap"):
        tokenizer.tokenize("a<FILL_ME>b<FILL_ME>c")
    without = CodeLlamaTokenizer(DEFAULT_MODEL, suffix_token=None)
    with pytest.raises(ValueError, match="infilling"):
        without.tokenize("a<FILL_ME>b")


def test_without_a_gap_it_is_a_llama_tokenizer(tokenizer: CodeLlamaTokenizer) -> None:
    for text in ("Hello world", "<s>a", "a </s> b", ""):
        plain = LlamaTokenizer(DEFAULT_MODEL, legacy=False)
        assert tokenizer(text)["input_ids"] == plain(text)["input_ids"]
    assert tokenizer("a<FILL_ME>")["input_ids"] == tokenizer("a")["input_ids"]


def test_settings_are_saved(tmp_path: Path) -> None:
    tokenizer = CodeLlamaTokenizer(DEFAULT_MODEL, eot_token="<end>", suffix_first=True, fill_token="<gap>")
    tokenizer.save_pretrained(tmp_path)
    again = CodeLlamaTokenizer.from_pretrained(tmp_path)
    assert (again.eot_token, again.suffix_first, again.fill_token) == ("<end>", True, "<gap>")
    assert again("a<gap>b").data == tokenizer("a<gap>b").data
    # Read as a plain Llama tokenizer, it has these as special tokens, and knows of no gap.
    plain = LlamaTokenizer.from_pretrained(tmp_path)
    assert plain("a<gap>b")["input_ids"] != tokenizer("a<gap>b")["input_ids"]


def test_ids_of_transformers() -> None:
    """What `CodeLlamaTokenizer` of transformers 4.57.6 gives for Llama 2's vocabulary."""
    tokenizer = CodeLlamaTokenizer(shared_file("models", "llama2", "tokenizer.model"))
    assert tokenizer.tokenize("pre", "suf") == ["▁<PRE>", "▁pre", "▁<SUF>", "s", "uf", "▁<MID>"]
    assert tokenizer.encode("def f(x):<FILL_ME>return x") == [
        1,
        32000,
        822,
        285,
        29898,
        29916,
        1125,
        32002,
        2457,
        921,
        32001,
    ]
