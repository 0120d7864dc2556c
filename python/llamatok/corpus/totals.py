"""What a run counts as it goes, and takes up again when it is resumed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["COUNTERS", "LENGTH_BINS", "Totals", "length_bounds"]

#: Counters of a run and of each input. Bytes are those of texts, not of files; `documents` and `tokens` are
#: those written (before packing), `tokens_read` those of all texts.
COUNTERS = (
    "documents_read", "bytes_read", "tokens_read", "documents", "tokens", "empty", "rejected", "duplicates",
    "too_short", "too_long", "truncated", "dropped_fields",
)  # fmt: skip

#: The histogram of lengths has four bins for each doubling.
BINS_PER_DOUBLING = 4
LENGTH_BINS = 32 * BINS_PER_DOUBLING
MOST_REASONS = 500


def length_bounds() -> list[int]:
    """The lower bound of each bin, in tokens; bin 0 holds documents without tokens."""
    return [0, *(int(np.ceil(2 ** (i / BINS_PER_DOUBLING))) for i in range(LENGTH_BINS - 1))]


def _bins_of(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    bins = np.zeros(len(lengths), np.int64)
    full = lengths > 0
    bins[full] = 1 + np.floor(np.log2(lengths[full]) * BINS_PER_DOUBLING + 1e-9).astype(np.int64)
    return bins


@dataclass
class Totals:
    """Counters, the histogram of document lengths, reasons of rejects, and processor time by stage."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    lengths: list[int] = field(default_factory=lambda: [0] * LENGTH_BINS)
    reasons: dict[str, int] = field(default_factory=dict)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    #: Seconds of all attempts at the run.
    elapsed: float = 0.0

    def add_lengths(self, lengths: npt.NDArray[np.int64]) -> None:
        """Counts documents by their number of tokens."""
        found = np.bincount(_bins_of(lengths), minlength=LENGTH_BINS)
        for place in np.flatnonzero(found).tolist():
            self.lengths[place] += int(found[place])

    def add_reason(self, reason: str) -> None:
        """Counts a reject by its reason, numbers and names taken out of it."""
        kind = re.sub(r"\d+", "N", reason)
        if kind not in self.reasons and len(self.reasons) >= MOST_REASONS:
            kind = "other"
        self.reasons[kind] = self.reasons.get(kind, 0) + 1

    def add_split(self, split: str, documents: int, tokens: int) -> None:
        """Counts what goes to a split."""
        found = self.splits.setdefault(split, {"documents": 0, "tokens": 0})
        found["documents"] += documents
        found["tokens"] += tokens

    def add_seconds(self, seconds: dict[str, float]) -> None:
        """Counts processor time."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def to_json(self) -> dict[str, Any]:
        """The totals as plain values."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Totals:
        """The totals that `to_json` gave."""
        return cls(**values)
