"""A line on standard error that tells how far the work is."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from llamatok.cli.io import Inputs

SHOW_AFTER = 1.0
REDRAW_AFTER = 0.1
BAR_WIDTH = 24


class Progress:
    """Counts documents and bytes; draws only on a terminal, and only when the work lasts."""

    def __init__(self, inputs: Inputs, writes_to_terminal: bool) -> None:
        self._inputs = inputs
        self._enabled = sys.stderr.isatty() and not writes_to_terminal
        self._started = time.monotonic()
        self._next = self._started + SHOW_AFTER
        self._drawn = False
        self.documents = 0
        self.size = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            if error is None:
                sys.stderr.write(self._line() + "\n")
            sys.stderr.flush()

    def add(self, documents: int, size: int) -> None:
        """Counts work that is done."""
        self.documents += documents
        self.size += size
        now = time.monotonic()
        if self._enabled and now >= self._next:
            self._next = now + REDRAW_AFTER
            self._drawn = True
            sys.stderr.write(f"\r\x1b[K{self._line()}")
            sys.stderr.flush()

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        megabytes = self.size / 1e6
        line = f"{self.documents:,} documents  {megabytes:,.1f} MB  {megabytes / seconds:,.1f} MB/s"
        if self._inputs.total:
            share = min(self._inputs.done / self._inputs.total, 1.0)
            filled = round(share * BAR_WIDTH)
            line = f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {share:4.0%}  {line}"
        return line


def to_terminal(output: str | None) -> bool:
    """Whether the results of a command go to the terminal, where a bar would get in between."""
    return output in (None, "-") and sys.stdout.isatty()
