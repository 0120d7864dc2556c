"""Which documents were seen before, for any number of them, in little memory.

Hashes of 128 bits lie in sorted runs, each at most half as long as the one before; a new run that is longer
is merged. So there are few runs, each look-up is a binary search in each, and every hash is merged a
logarithmic number of times. Long runs are files mapped into memory. What a resumed run needs is the plain log
of all new hashes, from which the runs are built again.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from llamatok.corpus.files import AppendFile, writing

__all__ = ["SeenHashes"]

Hashes = npt.NDArray[np.uint64]

HASH_BYTES = 16
#: Runs of at least so many hashes are files.
FILE_RUN = 1 << 20
#: Hashes merged at a time.
MERGED_AT_ONCE = 1 << 20


class SeenHashes:
    """A set of hashes, each a row of two numbers of 64 bits."""

    def __init__(self, folder: str, length: int = 0) -> None:
        self._folder = folder
        self._log = AppendFile(os.path.join(folder, "seen"), length)
        self._runs: list[Hashes] = []
        self._files = 0
        if length:
            with open(self._log.path, "rb") as file:
                left = length
                while left:
                    part = file.read(min(left, FILE_RUN * HASH_BYTES))
                    left -= len(part)
                    self._add(_sorted(np.frombuffer(part, "<u8").reshape(-1, 2)))

    @property
    def length(self) -> int:
        """Bytes of the log, from which the set can be built again."""
        return self._log.length

    def add(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Adds hashes and tells which are new: neither in the set nor earlier among `hashes`."""
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: of equal ones, the first comes first
        ordered = hashes[order]
        is_new = np.ones(len(hashes), bool)
        if len(hashes) > 1:
            is_new[order[1:]] = (ordered[1:] != ordered[:-1]).any(axis=1)
        for run in self._runs:
            is_new &= ~_contained(hashes, run)
        if is_new.any():
            self._log.write(np.ascontiguousarray(hashes[is_new], "<u8"))
            self._add(_sorted(hashes[is_new]))
        return is_new

    def sync(self) -> None:
        """Brings the log to the disk."""
        self._log.sync()

    def close(self) -> None:
        """Closes the log."""
        self._runs = []
        self._log.close()

    def _add(self, run: Hashes) -> None:
        merged = [run]
        size = len(run)
        while self._runs and len(self._runs[-1]) < 2 * size:
            merged.append(self._runs.pop())
            size += len(merged[-1])
        self._runs.append(run if len(merged) == 1 else self._merge(merged, size))

    def _merge(self, runs: list[Hashes], size: int) -> Hashes:
        if size < FILE_RUN:
            return _sorted(np.concatenate(runs))
        path = os.path.join(self._folder, f"seen-{self._files}")
        self._files += 1
        # Hashes are spread evenly, so equal ranges of values hold about as many each.
        pieces = -(-size // MERGED_AT_ONCE)
        bounds = np.array([(1 << 64) * i // pieces for i in range(1, pieces)], np.uint64)
        cuts = [[0, *np.searchsorted(run[:, 0], bounds).tolist(), len(run)] for run in runs]
        with writing(path), open(path, "wb") as file:
            for piece in range(pieces):
                parts = [run[cut[piece] : cut[piece + 1]] for run, cut in zip(runs, cuts, strict=True)]
                file.write(_sorted(np.concatenate(parts)).tobytes())
        for run in runs:
            _unlink(run)
        mapped: Any = np.memmap(path, "<u8", "r", shape=(size, 2))
        return mapped  # type: ignore[no-any-return]


def _unlink(run: Hashes) -> None:
    """Removes the file of a run that has been merged; what is still mapped stays readable."""
    path = getattr(run, "filename", None)
    if path is not None:
        os.unlink(path)


def _sorted(hashes: Hashes) -> Hashes:
    return np.ascontiguousarray(hashes[np.lexsort((hashes[:, 1], hashes[:, 0]))])


def _contained(hashes: Hashes, run: Hashes) -> npt.NDArray[np.bool_]:
    """Which hashes are in a sorted run."""
    found = np.zeros(len(hashes), bool)
    place = np.searchsorted(run[:, 0], hashes[:, 0])
    open_ = np.arange(len(hashes))
    while len(open_):
        inside = open_[place[open_] < len(run)]
        same = run[place[inside], 0] == hashes[inside, 0]
        open_ = inside[same]
        hit = run[place[open_], 1] == hashes[open_, 1]
        found[open_[hit]] = True
        # Two hashes may share their first half: look at the next one.
        open_ = open_[~hit]
        place[open_] += 1
    return found
