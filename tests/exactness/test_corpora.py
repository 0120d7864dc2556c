"""Real documents: each has sentencepiece's ids, with Llama 2's vocabulary, Mistral's and the default one.

The default run takes a sample of the documents; ``-m slow`` takes all.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from llamatok import Tokenizer
from support import locations, oracle

CORPORA = ("en", "multi", "code", "public-domain")
MODELS = ("llama2", "mistral-v1", "default")
CHUNK = 8_000_000
SAMPLED_EVERY, SAMPLED_LENGTH = 40, 20_000


@functools.cache
def _pair(name: str) -> tuple[Tokenizer, Any]:
    if name == "default":
        return Tokenizer.default(), oracle.load(locations.DEFAULT_MODEL.read_bytes())
    data = locations.shared_file("models", name, "tokenizer.model").read_bytes()
    return Tokenizer.from_bytes(data), oracle.load(data)


def _documents(corpus: str) -> Iterator[str]:
    zstandard = pytest.importorskip("zstandard", reason="the corpora are compressed with zstandard")
    path = locations.shared_file("corpora", f"{corpus}.jsonl.zst")
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
            yield json.loads(line)["text"]


def _chunks(documents: Iterator[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in documents:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _compare(name: str, documents: Iterator[str], where: str) -> int:
    """Encode all documents in both libraries, and decode them; returns how many there were."""
    tokenizer, reference = _pair(name)
    number = 0
    for chunk in _chunks(documents):
        batch = tokenizer.encode_batch(chunk)
        expected = reference.encode(chunk, num_threads=2)
        assert len(batch) == len(chunk)
        flat = np.fromiter((i for row in expected for i in row), np.uint32, sum(map(len, expected)))
        lengths = np.fromiter(map(len, expected), np.int64, len(expected))
        if not (np.array_equal(np.diff(batch.offsets), lengths) and np.array_equal(batch.ids, flat)):
            for index, (row, ids) in enumerate(zip(batch.to_lists(), expected, strict=True)):
                oracle.assert_same_ids(row, ids, chunk[index], f"{where}, document {number + index}, {name}")
            raise AssertionError(f"{where}, {name}: ids and offsets of the batch disagree with its lists")
        decoded = tokenizer.decode_batch(batch)
        for index, (text, other) in enumerate(
            zip(decoded, reference.decode(expected, num_threads=2), strict=True)
        ):
            oracle.assert_same_text(
                text, other, expected[index], f"{where}, document {number + index}, {name}"
            )
        number += len(chunk)
    return number


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("corpus", CORPORA)
def test_sample(corpus: str, name: str) -> None:
    """Some documents of each corpus, their beginnings."""
    picked = (t[:SAMPLED_LENGTH] for i, t in enumerate(_documents(corpus)) if i % SAMPLED_EVERY == 7)
    assert _compare(name, picked, corpus) > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("corpus", CORPORA)
def test_every_document(corpus: str, name: str) -> None:
    """Every document of each corpus, whole."""
    assert _compare(name, _documents(corpus), corpus) > 800
