"""What holds for every text and every list of ids, searched for counterexamples.

HYPOTHESIS_PROFILE=long makes it a long search (20,000 examples a test).
"""

from __future__ import annotations

import codecs
import functools
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatok import Tokenizer
from support import locations, models, oracle, texts, ways

TRAINED = sorted(set(models.RECIPES) - models.MAY_BE_REFUSED)
NAMES = ["default", *TRAINED]


@functools.cache
def _pair(name: str) -> tuple[Tokenizer, Any]:
    data = locations.DEFAULT_MODEL.read_bytes() if name == "default" else models.model(name)
    return Tokenizer.from_bytes(data), oracle.load(data)


@functools.cache
def _every_way(name: str) -> dict[str, Tokenizer]:
    data = _pair(name)[1].serialized_model_proto()
    return {way: ways.load(data, way) for way in ways.WAYS}


@functools.cache
def _byte_ids(name: str) -> list[int]:
    reference = _pair(name)[1]
    return [i for i in range(reference.vocab_size()) if reference.is_byte(i)]


_character = st.one_of(
    *(st.sampled_from(alphabet) for alphabet in texts.ALPHABETS.values()),
    st.characters(exclude_categories=["Cs"]),
)
_word = st.one_of(
    *(st.text(st.sampled_from(alphabet), max_size=8) for alphabet in texts.ALPHABETS.values()),
    st.sampled_from(["the", "cat", "foo", "bar", "foobar", "hello", "Hello", "x", "ab", *texts.PIECE_NAMES]),
)
_run = st.builds(
    lambda letter, n: letter * n, st.one_of(_character, st.sampled_from(" aqx.=\n▁")), st.integers(1, 70)
)
_texts = st.one_of(
    st.text(_character, max_size=40),
    st.lists(st.one_of(_word, _word, st.just(" "), _run, st.text(_character, max_size=3)), max_size=14).map(
        "".join
    ),
    st.lists(_word, max_size=10).map(" ".join),
)
_byte_strings = st.one_of(
    st.binary(max_size=40),
    st.lists(st.one_of(_word.map(str.encode), st.binary(max_size=3)), max_size=10).map(b"".join),
)
_names = st.sampled_from(NAMES)


@st.composite
def _ids(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A model and ids: any ids, runs of bytes whole and cut, special ids between them."""
    name = draw(_names)
    size = _pair(name)[1].vocab_size()
    byte_ids = _byte_ids(name)
    any_id = st.integers(0, size - 1).map(lambda i: [i])
    parts = [any_id, st.integers(0, min(size, 12) - 1).map(lambda i: [i])]
    if byte_ids:
        parts.append(st.binary(max_size=6).map(lambda data: [byte_ids[b] for b in data]))
        cut = st.tuples(_character, st.integers(0, 3), st.integers(1, 4)).map(
            lambda t: t[0].encode()[t[1] : t[2]]
        )
        parts.append(cut.map(lambda data: [byte_ids[b] for b in data]))
        parts.append(_character.map(lambda c: [byte_ids[b] for b in c.encode()]))
    chunks = draw(st.lists(st.one_of(parts), max_size=20))
    return name, [i for chunk in chunks for i in chunk]


@given(_names, _texts)
def test_encode(name: str, text: str) -> None:
    """encode is sentencepiece's, by every way; count is its length; bytes of the text give the same."""
    tokenizer, reference = _pair(name)
    ids = tokenizer.encode(text)
    oracle.assert_same_ids(ids, reference.encode(text), text, name)
    for way, other in _every_way(name).items():
        oracle.assert_same_ids(other.encode(text), ids, text, f"{name}, {way}")
    assert tokenizer.encode(text.encode()) == ids
    assert tokenizer.count([text]).tolist() == [len(ids)]
    oracle.assert_same_text(tokenizer.decode(ids), reference.decode(ids), ids, name)


@given(_names, _byte_strings)
def test_encode_bytes(name: str, data: bytes) -> None:
    """encode of any bytes is sentencepiece's."""
    tokenizer, reference = _pair(name)
    oracle.assert_same_ids(tokenizer.encode(data), reference.encode(data), data, name)


@given(_names, st.lists(_texts, max_size=8), st.integers(1, 4))
def test_batch_is_single(name: str, batch: list[str], threads: int) -> None:
    """A batch is its texts, one by one, in order."""
    tokenizer, _ = _pair(name)
    rows = tokenizer.encode_batch(batch, num_threads=threads).to_lists()
    assert rows == [tokenizer.encode(text) for text in batch]
    assert tokenizer.decode_batch(rows) == [tokenizer.decode(row) for row in rows]


@given(_ids())
def test_decode(case: tuple[str, list[int]]) -> None:
    """decode of any ids is sentencepiece's."""
    name, ids = case
    tokenizer, reference = _pair(name)
    oracle.assert_same_text(tokenizer.decode(ids), reference.decode(ids), ids, name)


def _unfinished(tokenizer: Tokenizer, reference: Any, ids: list[int], skip: bool) -> int:
    """How many bytes at the end of the text of the ids may yet become a character."""
    if skip:
        ids = [i for i in ids if not reference.is_control(i) and not reference.is_unknown(i)]
    run = bytearray()
    for i in reversed(ids):
        if not reference.is_byte(i):
            break
        run.insert(0, int(tokenizer.id_to_piece(i)[3:5], 16))
    at = 0
    while at < len(run):
        width = _first_character(bytes(run[at:]))
        if width is None:
            return len(run) - at
        at += max(width, 1)
    return 0


def _first_character(data: bytes) -> int | None:
    """The bytes of the character at the start; 0 if there is none, None if it may still be completed."""
    for width in range(1, min(4, len(data)) + 1):
        try:
            data[:width].decode()
        except UnicodeDecodeError:
            continue
        return width
    if data[0] == 0xED and data[1:2] >= b"\xa0":
        return 0  # a surrogate, which Python's incremental decoder waits for the end of
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return 0
    return None


@pytest.mark.parametrize("skip", [False, True])
@given(case=_ids(), cuts=st.lists(st.integers(0, 60), max_size=12), single=st.booleans())
def test_stream_is_whole(skip: bool, case: tuple[str, list[int]], cuts: list[int], single: bool) -> None:
    """However ids are pushed, the parts joined are decode of all.

    After each push the text shown is that of the ids so far, less only the bytes that may yet become a
    character. So nothing shown is ever taken back, no U+FFFD stands for a character that is still coming,
    and nothing complete is held back.
    """
    name, ids = case
    tokenizer, reference = _pair(name)
    stream = tokenizer.stream_decoder(skip_special_tokens=skip)
    marks = sorted({0, *(cut for cut in cuts if cut < len(ids)), len(ids)})
    if single:
        marks = list(range(len(ids) + 1))
    shown = ""
    for start, end in itertools.pairwise(marks):
        part = ids[start:end]
        shown += stream.push(part[0] if single else part)
        so_far = tokenizer.decode(ids[:end], skip_special_tokens=skip)
        held = _unfinished(tokenizer, reference, ids[:end], skip)
        assert so_far.endswith("\ufffd" * held)
        oracle.assert_same_text(shown, so_far[: len(so_far) - held], ids[:end], f"{name}, after a push")
    shown += stream.finish()
    oracle.assert_same_text(shown, tokenizer.decode(ids, skip_special_tokens=skip), ids, name)
