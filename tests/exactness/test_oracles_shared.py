"""Outputs written down elsewhere: sentencepiece 0.2.3's cases, and llama.cpp's for a GGUF vocabulary."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamatok import Tokenizer
from support import locations, models, oracle, texts

MODEL_FILES = {"llama2": ("models", "llama2"), "mistral_v1": ("models", "mistral-v1")}

# Every operation of the file is either answered below or stands here: Hugging Face's interface answers it, in
# `tests/tokenization/test_oracles_sentencepiece.py`.
ANSWERED_THERE = {"byte_offsets", "sample_stats"}
# Options of cases that are answered there, too.
OPTIONS_ANSWERED_THERE = {"alpha"}
OPTIONS = {
    "add_dummy_prefix",
    "add_bos",
    "add_eos",
    "input_encoding",
    "enable_sampling",
    "nbest_size",
    "alpha",
}


@functools.cache
def _cases() -> list[dict[str, Any]]:
    path = locations.shared_file("oracles", "sentencepiece-0.2.3.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@functools.cache
def _tokenizer(name: str, add_dummy_prefix: bool) -> Tokenizer:
    data = locations.shared_file(*MODEL_FILES[name], "tokenizer.model").read_bytes()

    def change(message: Any) -> None:
        message.normalizer_spec.add_dummy_prefix = False

    return Tokenizer.from_bytes(data if add_dummy_prefix else models.edited(data, change))


def _input(case: dict[str, Any]) -> Any:
    return (
        bytes.fromhex(case["input"])
        if case["options"].get("input_encoding") == "hex-bytes"
        else case["input"]
    )


def _encode(tokenizer: Tokenizer, case: dict[str, Any]) -> list[int]:
    options = {key: value for key, value in case["options"].items() if key in ("add_bos", "add_eos")}
    return tokenizer.encode(_input(case), **options)


def _tokenize(tokenizer: Tokenizer, case: dict[str, Any]) -> list[str]:
    return [tokenizer.id_to_piece(i) for i in _encode(tokenizer, case)]


def _decode(tokenizer: Tokenizer, case: dict[str, Any]) -> str:
    return tokenizer.decode(case["input"])


def _meta(tokenizer: Tokenizer, case: dict[str, Any]) -> dict[str, Any]:
    special = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.pad_id)
    found = dict(zip(("bos", "eos", "unk", "pad"), (-1 if i is None else i for i in special), strict=True))
    return {**case["expected"], "piece_size": tokenizer.vocab_size, **found}


ANSWERS: dict[str, Callable[[Tokenizer, dict[str, Any]], Any]] = {
    "encode": _encode,
    "tokenize": _tokenize,
    "decode": _decode,
    "meta": _meta,
}


def _is_answered(case: dict[str, Any]) -> bool:
    return case["op"] in ANSWERS and not any(case["options"].get(key) for key in OPTIONS_ANSWERED_THERE)


def test_every_case_has_its_place() -> None:
    """No operation and no option of the file is passed over by accident."""
    assert {case["op"] for case in _cases()} == set(ANSWERS) | ANSWERED_THERE
    assert {key for case in _cases() for key in case["options"]} <= OPTIONS


@pytest.mark.parametrize("op", list(ANSWERS))
@pytest.mark.parametrize("name", list(MODEL_FILES))
def test_sentencepiece_cases(name: str, op: str) -> None:
    """Every case of the operation has the expected answer."""
    cases = [case for case in _cases() if case["op"] == op and case["model"] == name and _is_answered(case)]
    assert cases
    for case in cases:
        tokenizer = _tokenizer(name, case["options"].get("add_dummy_prefix", True))
        expected = case["expected"]
        if isinstance(expected, dict) and "error" in expected:
            with pytest.raises((IndexError, ValueError, TypeError, OverflowError)):
                ANSWERS[op](tokenizer, case)
            continue
        assert ANSWERS[op](tokenizer, case) == expected, (
            f"case {case['id']}: {oracle.shortened(case['input'])}"
        )


def _vectors() -> tuple[Path, list[tuple[str, list[int]]]]:
    gguf = locations.shared_file("vectors", "ggml-vocab-llama-spm.gguf")
    given = gguf.with_name(gguf.name + ".inp").read_bytes().decode()
    wanted = gguf.with_name(gguf.name + ".out").read_text()
    inputs = given.split("\n__ggml_vocab_test__\n")
    outputs = [[int(i) for i in line.split()] for line in wanted.split("\n")]
    while len(outputs) > len(inputs):
        assert outputs.pop() == []
    if inputs[-1] == "" and len(inputs) > len(outputs):
        inputs.pop()
    assert len(inputs) == len(outputs)
    return gguf, list(zip(inputs, outputs, strict=True))


def test_gguf_vectors() -> None:
    """llama.cpp's own inputs give its own ids, through its own vocabulary file."""
    gguf, pairs = _vectors()
    tokenizer = Tokenizer.from_file(gguf)
    assert len(pairs) > 40
    for text, expected in pairs:
        oracle.assert_same_ids(tokenizer.encode(text), expected, text, "GGUF")


def test_gguf_is_the_model() -> None:
    """The GGUF file and the tokenizer.model it was made from encode and decode alike."""
    gguf = Tokenizer.from_file(locations.shared_file("vectors", "ggml-vocab-llama-spm.gguf"))
    model = _tokenizer("llama2", True)
    assert gguf.vocab_size == model.vocab_size
    for text in texts.tricky():
        ids = model.encode(text)
        oracle.assert_same_ids(gguf.encode(text), ids, text, "GGUF against tokenizer.model")
        oracle.assert_same_text(gguf.decode(ids), model.decode(ids), ids, "GGUF against tokenizer.model")
