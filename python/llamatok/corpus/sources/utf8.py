"""Checking that texts are UTF-8, as fast as Arrow can, and finding those that are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from llamatok.corpus.documents import Parsed, Reject, excerpt

__all__ = ["checked_texts", "first_fault", "valid_utf8"]


def valid_utf8(content: memoryview | bytes) -> bool:
    """Whether all of `content` is UTF-8."""
    size = np.array([0, len(content)], np.int64)
    whole = pa.LargeStringArray.from_buffers(1, pa.py_buffer(size), pa.py_buffer(content))
    try:
        whole.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def first_fault(content: bytes) -> str | None:
    """The reason to reject `content`, unless it is UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 at byte {error.start}: {error.reason}"
    return None


def checked_texts(parsed: Parsed, rows: Any, invalid_utf8: str) -> Parsed:
    """`parsed` without the documents whose text is not UTF-8, or with those mended ("replace").

    `rows` gives the line or row of each document, for the rejects.
    """
    try:
        for chunk in _chunks(parsed.texts):
            chunk.validate(full=True)
        return parsed
    except pa.ArrowInvalid:
        pass
    binary = pa.large_binary()
    contents = (
        [content.as_py() for content in pa.chunked_array(parsed.texts).cast(binary)]
        if isinstance(parsed.texts, pa.ChunkedArray)
        else [content.as_py() for content in parsed.texts.cast(binary)]
    )
    if invalid_utf8 == "replace":
        parsed.texts = pa.array(
            [content.decode("utf-8", "replace") for content in contents], pa.large_string()
        )
        return parsed
    faults = [first_fault(content) for content in contents]
    parsed.rejects += [
        Reject(int(rows[index]), fault, excerpt(contents[index]))
        for index, fault in enumerate(faults)
        if fault is not None
    ]
    keep = pa.array([fault is None for fault in faults])
    parsed.texts = parsed.texts.filter(keep)
    parsed.ids = None if parsed.ids is None else parsed.ids.filter(keep)
    parsed.columns = None if parsed.columns is None else parsed.columns.filter(keep)
    return parsed


def _chunks(texts: Any) -> list[Any]:
    return list(texts.chunks) if isinstance(texts, pa.ChunkedArray) else [texts]
