"""Every output of transformers 4.37.2, 4.57.6 and 5.23.0 that was written down: ours is the same, or it is
the one that `docs/compatibility.md` gives, which another of these libraries has."""

from __future__ import annotations

import collections
import functools
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import sentencepiece

import llamatok
from compat.cases import Answerer
from support import oracle, oracle_files

Case = dict[str, Any]
SLOW, FAST = "transformers-4.57.6-slow", "transformers-4.57.6-fast"


def _load(path: str, **init: Any) -> Any:
    if path.endswith(".model"):
        return llamatok.LlamaTokenizer(vocab_file=path, **init)
    return llamatok.LlamaTokenizer.from_pretrained(path, **init)


@pytest.fixture(scope="module")
def answerer() -> Iterator[Answerer]:
    # What is warned of and logged is tested where it is written.
    log = logging.getLogger("llamatok")
    log.disabled = logging.getLogger("llamatok.tokenization").disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield Answerer({"ours": _load}, llamatok.AddedToken)
    log.disabled = logging.getLogger("llamatok.tokenization").disabled = False


class Difference(NamedTuple):
    """A row of `docs/compatibility.md`: where a library is not followed, and what the answer is instead."""

    row: str
    applies: Callable[[Case], bool]
    ours: Callable[[Case, Answerer], Any]


def of_slow(case: Case, _: Answerer) -> Any:
    """What the SentencePiece-backed class of 4.57 says (`legacy=True` where it is not given)."""
    legacy = case["options"].get("legacy", True)
    return oracle_files.answers(SLOW, legacy)[oracle_files.key(case)]


def of_fast(case: Case, _: Answerer) -> Any:
    """What the fast class of 4.57 says, whose `tokenizer.json` it is."""
    legacy = "nonlegacy" not in case["options"].get("load", "") and case["options"].get("legacy", True)
    return oracle_files.answers(FAST, legacy)[oracle_files.key(case)]


def from_model_in_5(case: Case, answerer: Answerer) -> Any:
    """As the slow class. That one has no offsets: they are those of the fast class, whose legacy ids are the
    same for these texts. The ids to decode are those of 5.x's own encoding, so they may be new."""
    if case["op"] == "offsets":
        return of_fast(case, answerer)
    try:
        return of_slow(case, answerer)
    except KeyError:
        assert case["op"] == "decode"
        return decoded_by_sentencepiece(case)


@functools.cache
def _processor(model: str) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(oracle_files.model_file(model)))


def decoded_by_sentencepiece(case: Case) -> str:
    """The legacy slow class's `convert_tokens_to_string`, over SentencePiece."""
    processor = _processor(case["model"])
    specials = ("<unk>", "<s>", "</s>")
    pieces = [processor.id_to_piece(number) for number in case["input"]]
    if case["options"].get("skip_special_tokens"):
        pieces = [piece for piece in pieces if piece not in specials]
    if pieces and pieces[0].startswith("\u2581"):
        pieces[0] = pieces[0][1:]
    text, pending, after_special = "", [], False
    for index, piece in enumerate(pieces):
        if piece in specials:
            space = "" if after_special or index == 0 else " "
            text += space + processor.decode(pending) + piece
            pending, after_special = [], True
        else:
            if after_special and index == 1 and not piece.startswith("\u2581"):
                text += " "
            pending.append(piece)
            after_special = False
    return text + str(processor.decode(pending))


def default_template(case: Case, answerer: Answerer) -> Any:
    """No template is used that the user has not chosen; chosen, 4.37's default gives what it gave there."""
    ours = oracle_files.for_us(case)
    tokenizer = answerer._tokenizer(json.dumps(ours["tokenizer"], sort_keys=True))
    chosen = {**ours, "call": {**ours["call"], "chat_template": tokenizer.default_chat_template}}
    assert oracle_files.same(case, answerer.answer(chosen)), case
    return {"error": "ValueError"}


def is_5(case: Case) -> bool:
    return bool(case["source"] == "transformers-5.23.0")


def is_fast_4(case: Case) -> bool:
    return case["source"] in ("transformers-4.37.2-fast", FAST)


def is_error(case: Case) -> bool:
    return isinstance(case["expected"], dict) and "error" in case["expected"]


DECODING = ("decode", "convert_tokens_to_string")
#: The first that applies to a case counts.
DIFFERENCES = (
    Difference(
        "D23 special-token mask of ids without special tokens",
        lambda case: is_error(case) and case["op"] == "get_special_tokens_mask",
        lambda case, answerer: oracle_files.answers(SLOW, True)[oracle_files.key(case)],
    ),
    Difference(
        "D22 type ids and special tokens around ids",
        lambda case: is_5(case) and is_error(case) and case["op"] in (
            "create_token_type_ids_from_sequences", "build_inputs_with_special_tokens"
        ),
        of_fast,
    ),
    Difference(
        "D21 too short to be cut as asked",
        lambda case: is_error(case) and case["op"] == "pair" and not case["source"].endswith("slow"),
        lambda case, answerer: {"error": "TokenizerError"},
    ),
    Difference(
        "D27 default chat template",
        lambda case: "4.37" in case["source"] and case["op"] in ("chat", "chat_ids"),
        default_template,
    ),
    Difference(
        "no tokens to a string",
        lambda case: is_error(case) and case["op"] == "convert_tokens_to_string" and case["input"] == [],
        lambda case, answerer: "",
    ),
    Difference(
        "D2 5.x from tokenizer.model",
        lambda case: is_5(case) and case["options"]["load"] == "tokenizer.model",
        from_model_in_5,
    ),
    Difference(
        "D26 clean-up",
        lambda case: is_5(case) and case["options"].get("clean_up_tokenization_spaces") is True,
        of_fast,
    ),
    Difference(
        "files that are saved",
        lambda case: is_5(case) and case["op"] == "save_pretrained",
        lambda case, answerer: {
            "files": ["pre-special_tokens_map.json", "pre-tokenizer.json", "pre-tokenizer_config.json"],
            "returned": ["pre-tokenizer_config.json", "pre-special_tokens_map.json", "pre-tokenizer.json"],
        },
    ),
    Difference(
        "a tokenizer.json beside tokenizer.model",
        lambda case: case["source"].endswith("slow") and case["op"] == "save_pretrained",
        lambda case, answerer: {
            "files": sorted([*case["expected"]["files"], "pre-tokenizer.json"]),
            "returned": [*case["expected"]["returned"], "pre-tokenizer.json"],
        },
    ),
    Difference(
        "D3 5.x on a legacy tokenizer.json",
        lambda case: (
            is_5(case)
            and case["options"]["class"] == "LlamaTokenizer"
            and case["options"]["load"] == "llama2-legacy.tokenizer.json"
        ),
        of_fast,
    ),
    Difference(
        "D8 decoding after BOS",
        lambda case: case["source"] == "transformers-4.37.2-slow" and case["op"] in DECODING,
        of_slow,
    ),
    Difference(
        "D17 4.37 fast has no split_special_tokens",
        lambda case: "4.37.2-fast" in case["source"] and case["tag"] == "split_special",
        of_fast,
    ),
    Difference(
        "D25 special tokens given to add_tokens",
        lambda case: (
            "4.37.2-fast" in case["source"] and case["op"] == "decode" and case["tag"] == "added"
        ),
        of_fast,
    ),
    Difference(
        "can_save_slow_tokenizer of the slow class",
        lambda case: case["op"] == "meta" and case["source"].endswith("slow"),
        lambda case, answerer: {**case["expected"], "can_save_slow_tokenizer": True},
    ),
)  # fmt: skip


def agrees(answer: Any, expected: Any) -> bool:
    if isinstance(expected, dict) and "error" in expected:
        return isinstance(answer, dict) and answer.get("error") == expected["error"]
    return bool(answer == expected)


@pytest.mark.parametrize("source", oracle_files.SOURCES)
def test_every_case(source: str, answerer: Answerer) -> None:
    """The answer of the library, or the documented one."""
    cases = oracle_files.cases(source)
    asked = [(json.dumps((ours := oracle_files.for_us(case))["tokenizer"]), ours, case) for case in cases]
    asked.sort(key=lambda entry: entry[0])  # so that each tokenizer is made once
    used: collections.Counter[str] = collections.Counter()
    failures = []
    for _, ours, case in asked:
        answer = answerer.answer(ours)
        if oracle_files.same(case, answer):
            continue
        found = next((difference for difference in DIFFERENCES if difference.applies(case)), None)
        try:
            documented = case["expected"] if found is None else found.ours(case, answerer)
        except KeyError:
            documented = "an answer that no oracle has"
        if found is not None and agrees(oracle_files.of_interest(case, answer), documented):
            used[found.row] += 1
            continue
        failures.append(
            f"{case['id']} ({found and found.row}): {case['op']} {oracle.shortened(case['options'])} "
            f"{oracle.shortened(case['input'])}: "
            f"{oracle.shortened(answer)} but {oracle.shortened(documented)}"
        )
    assert not failures, f"{len(failures)} of {len(cases)}: " + "\n".join(failures[:20])
    assert set(used) == ROWS_USED[source]


#: Which rows each source needs: one that is needed no longer is to go.
ROWS_USED = {
    "transformers-4.37.2-slow": {
        "D8 decoding after BOS", "D27 default chat template", "no tokens to a string",
        "can_save_slow_tokenizer of the slow class", "a tokenizer.json beside tokenizer.model",
    },
    "transformers-4.37.2-fast": {
        "D17 4.37 fast has no split_special_tokens", "D21 too short to be cut as asked",
        "D23 special-token mask of ids without special tokens", "D25 special tokens given to add_tokens",
        "D27 default chat template",
    },
    SLOW: {
        "no tokens to a string", "can_save_slow_tokenizer of the slow class",
        "a tokenizer.json beside tokenizer.model",
    },
    FAST: {"D21 too short to be cut as asked", "D23 special-token mask of ids without special tokens"},
    "transformers-5.23.0": {
        "D2 5.x from tokenizer.model", "D3 5.x on a legacy tokenizer.json",
        "D21 too short to be cut as asked", "D22 type ids and special tokens around ids",
        "D23 special-token mask of ids without special tokens", "D26 clean-up", "files that are saved",
    },
}  # fmt: skip
