"""What sentencepiece 0.2.3 wrote down and the low-level interface does not give: offsets, and BPE-dropout."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llamatok import LlamaTokenizer
from support import locations, models, oracle

MODEL_FILES = {"llama2": ("models", "llama2"), "mistral_v1": ("models", "mistral-v1")}
SAMPLING = {"enable_sampling", "nbest_size", "alpha"}


@functools.cache
def _cases(op: str) -> list[dict[str, Any]]:
    path = locations.shared_file("oracles", "sentencepiece-0.2.3.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [case for case in map(json.loads, lines) if case["op"] == op]


def _tokenizer(folder: Path, case: dict[str, Any]) -> LlamaTokenizer:
    """The rules of SentencePiece alone: special tokens are text, and none are added."""
    data = locations.shared_file(*MODEL_FILES[case["model"]], "tokenizer.model").read_bytes()
    if not case["options"].get("add_dummy_prefix", True):

        def change(message: Any) -> None:
            message.normalizer_spec.add_dummy_prefix = False

        data = models.edited(data, change)
    path = folder / "tokenizer.model"
    path.write_bytes(data)
    sampling = {key: case["options"][key] for key in SAMPLING & set(case["options"])}
    return LlamaTokenizer(
        str(path),
        legacy=True,
        add_bos_token=False,
        split_special_tokens=True,
        sp_model_kwargs=sampling or None,
        seed=7,
    )


def _of_bytes(text: str, tokens: list[str], spans: list[tuple[int, int]], prefix: bool) -> list[list[int]]:
    """Ranges of characters as SentencePiece tells them: of bytes; the prefix alone is nothing, and of a
    character that is spelled in bytes the last byte has it all."""
    ends = [0]
    for c in text:
        ends.append(ends[-1] + len(c.encode()))
    found = [[ends[start], ends[end]] for start, end in spans]
    if prefix and tokens[:1] == ["▁"]:
        found[0] = [0, 0]
    for index, (token, following) in enumerate(itertools.pairwise(tokens)):
        is_byte = len(token) == 6 and token.startswith("<0x")
        if is_byte and following.startswith("<0x") and spans[index] == spans[index + 1]:
            found[index][1] = found[index][0]
    return found


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("model", list(MODEL_FILES))
def test_offsets(model: str, prefix: bool, tmp_path: Path) -> None:
    """The place in the text of each piece."""
    cases = [
        case
        for case in _cases("byte_offsets")
        if case["model"] == model and case["options"].get("add_dummy_prefix", True) is prefix
    ]
    assert cases
    tokenizer = _tokenizer(tmp_path, cases[0])
    for case in cases:
        encoded = tokenizer(case["input"], return_offsets_mapping=True)
        tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        found = _of_bytes(case["input"], tokens, encoded["offset_mapping"], prefix)
        assert found == case["expected"], f"case {case['id']}: {oracle.shortened(case['input'])}"


def test_all_merges_dropped(tmp_path: Path) -> None:
    """With `alpha` 1 each character stands alone: no chance is left."""
    cases = [case for case in _cases("encode") if case["options"].get("alpha")]
    assert cases
    assert {case["options"]["alpha"] for case in cases} == {1.0}
    made: dict[str, LlamaTokenizer] = {}
    for case in cases:
        key = json.dumps([case["model"], case["options"]])
        tokenizer = made.get(key) or made.setdefault(key, _tokenizer(tmp_path, case))
        assert tokenizer(case["input"])["input_ids"] == case["expected"], case["id"]


def _chi_square(ours: Counter[str], theirs: dict[str, int], total: int) -> tuple[float, int]:
    """Of two samples of `total` each, over the outcomes that `theirs` names and all others as one."""
    pairs = [(ours[outcome], count) for outcome, count in theirs.items()]
    pairs.append((total - sum(a for a, _ in pairs), total - sum(b for _, b in pairs)))
    pairs = [(a, b) for a, b in pairs if a + b >= 10]
    return sum((a - b) ** 2 / (a + b) for a, b in pairs), len(pairs) - 1


def test_samples(tmp_path: Path) -> None:
    """Each way to part a text is drawn as often as SentencePiece draws it."""
    cases = _cases("sample_stats")
    assert cases
    for case in cases:
        total = case["expected"]["n"]
        theirs = dict(case["expected"]["top"])
        rows = _tokenizer(tmp_path, case)([case["input"]] * total)["input_ids"]
        ours = Counter(" ".join(map(str, row)) for row in rows)
        statistic, freedom = _chi_square(ours, theirs, total)
        # Beyond this by chance: one case in some ten thousand; the seed is fixed.
        assert statistic <= freedom + 4 * (2 * freedom) ** 0.5 + 8, (case["id"], statistic, freedom)
        distinct = case["expected"]["distinct"]
        assert abs(len(ours) - distinct) <= 5 * distinct**0.5 * (distinct > len(theirs)) + 2 * (distinct > 1)
