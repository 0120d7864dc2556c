"""sentencepiece as the definition of right, and comparisons whose failures can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sentencepiece


def load(data: bytes) -> Any:
    """The reference for a model file."""
    return sentencepiece.SentencePieceProcessor(model_proto=data)


def first_difference(ours: Sequence[Any], theirs: Sequence[Any]) -> int:
    """The first index at which two sequences differ."""
    for index, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a != b:
            return index
    return min(len(ours), len(theirs))


def assert_same_ids(ours: Iterable[int], theirs: Iterable[int], text: object, where: str = "") -> None:
    """Fail, with the place and the neighbourhood of the first difference, unless both id lists are equal."""
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray) and np.array_equal(ours, theirs):
        return
    a, b = [int(i) for i in ours], [int(i) for i in theirs]
    if a == b:
        return
    at = first_difference(a, b)
    raise AssertionError(
        f"{where}: ids differ at {at} of {len(a)} (sentencepiece: {len(b)}): "
        f"{a[max(0, at - 3) : at + 5]} but sentencepiece {b[max(0, at - 3) : at + 5]}; text {shortened(text)}"
    )


def assert_same_text(ours: str, theirs: str, ids: object, where: str = "") -> None:
    """Fail, with the place of the first difference, unless both texts are equal."""
    if ours == theirs:
        return
    at = first_difference(ours, theirs)
    raise AssertionError(
        f"{where}: text differs at {at}: {ours[max(0, at - 8) : at + 8]!r} but sentencepiece "
        f"{theirs[max(0, at - 8) : at + 8]!r}; ids {shortened(ids)}"
    )


def shortened(value: object) -> str:
    """A representation that does not flood the terminal."""
    text = repr(value[:400]) if isinstance(value, (str, bytes, list)) else repr(value)
    return text if len(text) <= 400 else text[:400] + "..."
