"""How far a run is: a live view on a terminal, lines of log elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from llamatok.corpus.documents import Unit
from llamatok.corpus.totals import Totals

__all__ = ["LogProgress", "Progress", "TerminalProgress", "progress_for"]

LOG_AFTER = 10.0
DRAW_AFTER = 0.1

logger = logging.getLogger("llamatok.corpus")


class Progress:
    """Follows a run without showing anything; `done` and `total` are bytes of input as stored."""

    interval = float("inf")

    def __init__(self) -> None:
        self.done = self.total = 0
        self._before: list[int] = []
        self._next = 0.0
        self._started = time.monotonic()
        self._first_done = 0
        self._first_bytes = 0

    def begin(self, total: int, done: int, totals: Totals) -> None:
        """Starts at a place of the input that an earlier attempt may have reached."""
        self.total, self.done = total, done
        self._started = time.monotonic()
        self._next = self._started + self.interval
        self._first_done, self._first_bytes = done, totals.counts["bytes_read"]

    def update(self, unit: int, units: list[Unit], stored: int, totals: Totals) -> None:
        """Tells that a block of a unit is done, `stored` bytes into it."""
        if len(self._before) != len(units):
            self._before = [0, *accumulate(unit.stored for unit in units)]
        self.done = self._before[unit] + min(stored, units[unit].stored)
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self.interval
            self.show(totals)

    def show(self, totals: Totals) -> None:
        """Shows where the run is."""

    def end(self) -> None:
        """Leaves the terminal as it was."""

    def speed(self, totals: Totals) -> float:
        """Megabytes of text a second, of this attempt."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        return (totals.counts["bytes_read"] - self._first_bytes) / 1e6 / seconds

    def seconds_left(self) -> float | None:
        """How long the rest of the input takes at the speed up to now."""
        done = self.done - self._first_done
        if done <= 0 or self.total <= 0:
            return None
        return (time.monotonic() - self._started) * max(0, self.total - self.done) / done

    def line(self, totals: Totals) -> str:
        """Where the run is, in a line."""
        counts = totals.counts
        left = self.seconds_left()
        share = f"{min(self.done / self.total, 1.0):.0%}  " if self.total else ""
        eta = f"  {_duration(left)} left" if left is not None else ""
        rejects = f"  {counts['rejected']:,} rejects" if counts["rejected"] else ""
        return (
            f"{share}{counts['documents']:,} documents  {counts['bytes_read'] / 1e6:,.1f} MB  "
            f"{counts['tokens']:,} tokens  {self.speed(totals):,.1f} MB/s{eta}{rejects}"
        )


class LogProgress(Progress):
    """A line every ten seconds."""

    interval = LOG_AFTER

    def __init__(self, write: Callable[[str], object] = logger.info) -> None:
        super().__init__()
        self._write = write

    def show(self, totals: Totals) -> None:
        """Writes a line."""
        self._write(self.line(totals))


class TerminalProgress(Progress):
    """A bar and the counters, drawn by rich."""

    interval = DRAW_AFTER

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._task: Any = None

    def begin(self, total: int, done: int, totals: Totals) -> None:
        """Draws the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        super().begin(total, done, totals)
        self._bar = Bar(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}", markup=False),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=10,
        )
        self._task = self._bar.add_task("", total=total or None, completed=done, line="")
        self._bar.start()

    def show(self, totals: Totals) -> None:
        """Redraws the bar."""
        self._bar.update(self._task, completed=self.done, line=self.line(totals))

    def end(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def progress_for(show: bool | None) -> Progress:
    """The view for `show`: always, never, or (None) only on a terminal; elsewhere the log gets lines."""
    if show is False:
        return Progress()
    if show or sys.stderr.isatty():
        try:
            import rich  # noqa: F401

            return TerminalProgress() if sys.stderr.isatty() else LogProgress(_to_stderr)
        except ImportError:
            return LogProgress(_to_stderr)
    return LogProgress()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
