"""Very long inputs, and above all those without a place to cut: the same ids, and nothing runs out."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest

from llamatok import Tokenizer
from support import locations, models, oracle, texts

MILLION = 1_000_000


@functools.cache
def _pair(name: str) -> tuple[Tokenizer, Any]:
    data = locations.DEFAULT_MODEL.read_bytes() if name == "default" else models.model(name)
    return Tokenizer.from_bytes(data), oracle.load(data)


def _random_letters(count: int) -> str:
    return "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=count))


def _one_line(count: int) -> str:
    part = " ".join(texts.training_text(1, 2_000, models.EUROPE)).replace("\n", " ")
    return (part * (count // len(part) + 1))[:count]


LONG = {
    "a": lambda: "a" * MILLION,
    "spaces": lambda: " " * MILLION,
    "spaces and a word": lambda: " " * MILLION + "the",
    "block": lambda: texts.SPACE * MILLION,
    "newlines": lambda: "\n" * MILLION,
    "NUL": lambda: "\0" * MILLION,
    "=-": lambda: "=-" * (MILLION // 2),
    "ab": lambda: "ab" * (MILLION // 2),
    "the without spaces": lambda: "the" * (MILLION // 3),
    "random letters": lambda: _random_letters(MILLION),
    "digits": lambda: "0123456789" * (MILLION // 10),
    "two-byte letters": lambda: "é" * (MILLION // 2),
    "ideographs": lambda: "漢字" * (MILLION // 6),
    "emoji": lambda: "🦙" * (MILLION // 4),
    "combining marks": lambda: "e" + "\u0301" * (MILLION // 2),
    "joiners": lambda: "\u200d👩" * (MILLION // 7),
    "one line": lambda: _one_line(2 * MILLION),
    "many lines": lambda: "\n".join(texts.training_text(1, 10_000, models.EUROPE)),
}
# Vocabularies for which different ways of merging are right: Llama's layout, merges across words, equal
# scores everywhere, re-segmentation, spaces as suffix, symbols that are matched first.
NAMES = (
    "default", "llama_like", "across_words_kept", "equal_scores", "shuffled_scores", "unused", "unused_deep",
    "nmt_nfkc", "suffix_spaces_kept", "user_defined",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text_name", list(LONG))
def test_long(text_name: str, name: str) -> None:
    """A text of about a million bytes: ids and the text decoded from them are sentencepiece's."""
    tokenizer, reference = _pair(name)
    text = LONG[text_name]()
    expected = reference.encode(text)
    ids = tokenizer.encode(text)
    oracle.assert_same_ids(ids, expected, text, f"{text_name}, {name}")
    oracle.assert_same_text(tokenizer.decode(ids), reference.decode(expected), ids, f"{text_name}, {name}")


@pytest.mark.parametrize("name", ["default", "llama_like"])
def test_ten_megabytes_on_one_line(name: str) -> None:
    """10 MB without a line break."""
    tokenizer, reference = _pair(name)
    text = _one_line(10 * MILLION)
    oracle.assert_same_ids(tokenizer.encode(text), reference.encode(text), text, name)


def test_ten_megabytes_without_a_space() -> None:
    """10 MB of random letters: one word to the tokenizer."""
    tokenizer, reference = _pair("default")
    text = _random_letters(10 * MILLION)
    oracle.assert_same_ids(tokenizer.encode(text), reference.encode(text), text)


def test_many_short_texts() -> None:
    """200,000 texts in a batch, most of them empty or of one character."""
    tokenizer, reference = _pair("default")
    rng = random.Random(2)
    short = [
        "" if rng.random() < 0.3 else texts.random_text(rng, rng.randrange(1, 5)) for _ in range(2_000)
    ] * 100
    batch = tokenizer.encode_batch(short)
    assert batch.to_lists() == reference.encode(short[:2_000]) * 100
