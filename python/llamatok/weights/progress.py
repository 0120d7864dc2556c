"""A line on standard error that tells how far a long load is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from llamatok._terminal import StatusLine, bar

#: Called with the bytes that are done and the bytes in all.
ProgressCallback = Callable[[int, int], None]

SHOW_AFTER = 2.0
REDRAW_AFTER = 0.2


class Progress:
    """Counts bytes. `shown` is None (a line on a terminal, once the work lasts 2 s), True (the same wherever
    standard error leads), False (nothing), or a callback."""

    def __init__(self, what: str, total: int, shown: bool | ProgressCallback | None = None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._callback = shown if callable(shown) else None
        draws = not callable(shown) and (sys.stderr.isatty() if shown is None else shown)
        self._status = StatusLine(draws, SHOW_AFTER, REDRAW_AFTER)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.end()

    def add(self, size: int) -> None:
        """Counts `size` bytes as done."""
        self._done += size
        if self._callback is not None:
            self._callback(self._done, self._total)
        if self._status.is_due():
            size_text = f"{self._done / 1e9:,.1f} of {self._total / 1e9:,.1f} GB"
            self._status.draw(f"{self._what}  {bar(self._done / max(self._total, 1))}  {size_text}")
