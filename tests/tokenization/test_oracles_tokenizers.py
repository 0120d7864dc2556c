"""Every output of tokenizers 0.23.3 on the saved files, legacy and not, that was written down."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from llamatok import _core
from support import oracle, oracle_files

SOURCE = "tokenizers-0.23.3"
Case = dict[str, Any]


@functools.cache
def _pipeline(stem: str) -> _core.Pipeline:
    return _core.Pipeline.from_tokenizer_json(
        (oracle_files.saved_folder(stem) / "tokenizer.json").read_bytes()
    )


def _column(batch: _core.EncodingBatch, column: Any) -> list[Any]:
    return batch.lists(column)[0]


def _offsets(pipeline: _core.Pipeline, case: Case) -> Any:
    batch = pipeline.encode_batch([case["input"]], offsets=True)
    return [list(span) for span in _column(batch, "offset_mapping")]


def _pair(pipeline: _core.Pipeline, case: Case) -> Any:
    first, second = case["input"]
    batch = pipeline.encode_batch([first], [second], offsets=True)
    return {
        "ids": _column(batch, "input_ids"),
        "type_ids": _column(batch, "token_type_ids"),
        "special_tokens_mask": _column(batch, "special_tokens_mask"),
        "attention_mask": _column(batch, "attention_mask"),
        "offsets": [list(span) for span in _column(batch, "offset_mapping")],
        "sequence_ids": _column(batch, "sequence_ids"),
        "word_ids": _column(batch, "word_ids"),
        "tokens": batch.tokens(0),
    }


ANSWERS: dict[str, Callable[[_core.Pipeline, Case], Any]] = {
    "encode": lambda pipeline, case: pipeline.encode(case["input"]),
    "tokenize": lambda pipeline, case: pipeline.tokenize(case["input"], add_special_tokens=True),
    "offsets": _offsets,
    "word_ids": lambda pipeline, case: _column(
        pipeline.encode_batch([case["input"]], offsets=True), "word_ids"
    ),
    "decode": lambda pipeline, case: pipeline.decode(
        case["input"], skip_special_tokens=case["options"]["skip_special_tokens"]
    ),
    "pair": _pair,
}


def test_every_case_has_its_place() -> None:
    """No operation and no option of the file is passed over by accident."""
    cases = oracle_files.cases(SOURCE)
    assert {case["op"] for case in cases} == set(ANSWERS)
    assert {key for case in cases for key in case["options"]} <= {"load", "skip_special_tokens"}


@pytest.mark.parametrize("op", list(ANSWERS))
def test_every_case(op: str) -> None:
    """The library's answer, to every case; none is left out."""
    cases = [case for case in oracle_files.cases(SOURCE) if case["op"] == op]
    assert cases
    for case in cases:
        answer = ANSWERS[op](_pipeline(case["options"]["load"].removesuffix(".tokenizer.json")), case)
        if op == "pair":
            answer = {key: answer[key] for key in case["expected"]}
        assert answer == case["expected"], f"{case['id']}: {oracle.shortened(case['input'])}"
