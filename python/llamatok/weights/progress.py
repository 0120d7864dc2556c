"""A line on standard error that tells how far a long load is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

#: Called with the bytes that are done and the bytes in all.
ProgressCallback = Callable[[int, int], None]

SHOW_AFTER = 2.0
REDRAW_AFTER = 0.2
BAR_WIDTH = 24


class Progress:
    """Counts bytes. `shown` is None (a line on a terminal, once the work lasts 2 s), True (the same wherever
    standard error leads), False (nothing), or a callback."""

    def __init__(self, what: str, total: int, shown: bool | ProgressCallback | None = None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._callback = shown if callable(shown) else None
        self._draws = not callable(shown) and (sys.stderr.isatty() if shown is None else shown)
        self._next = time.monotonic() + SHOW_AFTER
        self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def add(self, size: int) -> None:
        """Counts `size` bytes as done."""
        self._done += size
        if self._callback is not None:
            self._callback(self._done, self._total)
        now = time.monotonic()
        if self._draws and now >= self._next:
            self._next = now + REDRAW_AFTER
            self._drawn = True
            share = min(self._done / max(self._total, 1), 1.0)
            filled = round(share * BAR_WIDTH)
            bar = f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {share:4.0%}"
            size_text = f"{self._done / 1e9:,.1f} of {self._total / 1e9:,.1f} GB"
            sys.stderr.write(f"\r\x1b[K{self._what}  {bar}  {size_text}")
            sys.stderr.flush()
