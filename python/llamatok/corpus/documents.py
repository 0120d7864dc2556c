"""Documents on their way: raw blocks, parsed blocks, blocks of tokens.

A *block* is a few megabytes of one input, cut where documents end. Blocks do not depend on the number of
workers, so neither does what is made of them, as long as they are taken in order.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llamatok.corpus.settings import Settings

__all__ = ["Documents", "Parsed", "RawBlock", "Reject", "TokenBlock", "Unit", "keep_rows", "signature_of"]

EXCERPT_CHARACTERS = 200
SIGNATURE_BYTES = 4096

Tokens = npt.NDArray[np.integer[Any]]
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Unit:
    """A part of the work: all of input number `input`, or the part of it from `start` to `stop`.

    What the two count depends on the kind of input: bytes, row groups, record batches, rows.
    """

    index: int
    input: int
    start: int
    stop: int | None
    stored: int


@dataclass(frozen=True)
class Reject:
    """A document that cannot be used: its line or row within the block (from 0), why, and how it begins."""

    line: int
    reason: str
    excerpt: str = ""


@dataclass
class Parsed:
    """The documents of a block: texts (no nulls, valid UTF-8), their ids and further columns."""

    texts: Any
    ids: Any = None
    columns: pa.Table | None = None
    rejects: list[Reject] = field(default_factory=list)
    #: Lines or rows that the block spans, rejected ones included.
    lines: int = 0
    dropped_fields: int = 0


class RawBlock(Protocol):
    """A block as a reader cut it."""

    #: Bytes of content.
    size: int
    #: Bytes of the stored input that have been read by now, for showing progress.
    stored: int
    #: Differs where the content does; see `signature_of`.
    signature: int

    def parse(self, settings: Settings) -> Parsed:
        """The documents of the block."""


@dataclass
class Documents:
    """Tokens of documents back to back: those of document `i` are `tokens[offsets[i]:offsets[i + 1]]`.

    `columns` has a row for each document; `positions` has a number for each token, in packed sequences.
    """

    tokens: Tokens
    offsets: Offsets
    columns: pa.Table | None = None
    positions: Tokens | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Offsets:
        """The number of tokens of each document."""
        return np.diff(self.offsets)

    def slice(self, start: int, stop: int) -> Documents:
        """Documents `start` to `stop`, without a copy of their tokens."""
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        return Documents(
            self.tokens[low:high],
            self.offsets[start : stop + 1] - low,
            None if self.columns is None else self.columns.slice(start, stop - start),
            None if self.positions is None else self.positions[low:high],
        )

    def where(self, mask: npt.NDArray[np.bool_]) -> Documents:
        """The documents for which `mask` is true."""
        if mask.all():
            return self
        tokens, offsets = keep_rows(self.tokens, self.offsets, mask)
        columns = None if self.columns is None else self.columns.filter(pa.array(mask))
        return Documents(tokens, offsets, columns)

    def take(self, order: npt.NDArray[np.int64]) -> Documents:
        """The documents in another order."""
        lengths = self.lengths[order]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        # Where each new token comes from: its place in the new document, counted from the old one's start.
        source = np.repeat(self.offsets[:-1][order] - offsets[:-1], lengths)
        source += np.arange(len(source))
        columns = None if self.columns is None else self.columns.take(pa.array(order))
        return Documents(self.tokens[source], offsets, columns)


@dataclass
class TokenBlock:
    """What a worker makes of a block: the documents that are left, and everything to account for."""

    unit: int
    index: int
    documents: Documents
    #: Two numbers of 64 bits for each document: a hash of its text; and one of its id or text, for splitting.
    text_hashes: npt.NDArray[np.uint64] | None
    split_hashes: npt.NDArray[np.uint64] | None
    rejects: list[Reject]
    lines: int
    #: Sums over the block; see `llamatok.corpus.report.COUNTERS`.
    counts: dict[str, int]
    signature: int
    stored: int
    #: Seconds of processor time by stage.
    seconds: dict[str, float]


def keep_rows(tokens: Tokens, offsets: Offsets, mask: npt.NDArray[np.bool_]) -> tuple[Tokens, Offsets]:
    """The tokens and offsets of the documents for which `mask` is true."""
    lengths = np.diff(offsets)
    kept = tokens[offsets[0] : offsets[-1]][np.repeat(mask, lengths)]
    return kept, np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths[mask])))


def signature_of(content: memoryview) -> int:
    """A number that tells contents apart by their length, head and tail, at no cost for the middle."""
    head = zlib.crc32(content[:SIGNATURE_BYTES], len(content) & 0xFFFFFFFF)
    return zlib.crc32(content[-SIGNATURE_BYTES:], head)


def excerpt(content: bytes | str) -> str:
    """How a rejected document begins, for the reject file."""
    if isinstance(content, bytes):
        content = content[: EXCERPT_CHARACTERS * 4].decode("utf-8", "replace")
    return content[:EXCERPT_CHARACTERS].strip()
