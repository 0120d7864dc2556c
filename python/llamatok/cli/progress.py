"""A line on standard error that tells how far the work is."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from llamatok._terminal import StatusLine, bar
from llamatok.cli.io import Inputs

SHOW_AFTER = 1.0
REDRAW_AFTER = 0.1


class Progress:
    """Counts documents and bytes; draws only on a terminal, and only when the work lasts."""

    def __init__(self, inputs: Inputs, writes_to_terminal: bool) -> None:
        self._inputs = inputs
        enabled = sys.stderr.isatty() and not writes_to_terminal
        self._status = StatusLine(enabled, SHOW_AFTER, REDRAW_AFTER)
        self._started = time.monotonic()
        self.documents = 0
        self.size = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.end(self._line() if error is None else None)

    def add(self, documents: int, size: int) -> None:
        """Counts work that is done."""
        self.documents += documents
        self.size += size
        if self._status.is_due():
            self._status.draw(self._line())

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        megabytes = self.size / 1e6
        line = f"{self.documents:,} documents  {megabytes:,.1f} MB  {megabytes / seconds:,.1f} MB/s"
        if self._inputs.total:
            line = f"{bar(self._inputs.done / self._inputs.total)}  {line}"
        return line


def to_terminal(output: str | None) -> bool:
    """Whether the results of a command go to the terminal, where a bar would get in between."""
    return output in (None, "-") and sys.stdout.isatty()
