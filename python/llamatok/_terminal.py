"""A line on standard error that is drawn again and again while work lasts."""

from __future__ import annotations

import sys
import time

BAR_WIDTH = 24


def bar(share: float) -> str:
    """A bar of so much of the whole, and the share in percent."""
    share = min(share, 1.0)
    filled = round(share * BAR_WIDTH)
    return f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {share:4.0%}"


class StatusLine:
    """Draws at most once in `every` seconds, and not before `after` seconds have passed."""

    def __init__(self, enabled: bool, after: float, every: float) -> None:
        self._enabled = enabled
        self._every = every
        self._next = time.monotonic() + after
        self.drawn = False

    def is_due(self) -> bool:
        """Whether it is time to draw."""
        return self._enabled and time.monotonic() >= self._next

    def draw(self, line: str) -> None:
        """Puts `line` in the place of the one before."""
        self._next = time.monotonic() + self._every
        self.drawn = True
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()

    def end(self, last: str | None = None) -> None:
        """Takes the line away, or leaves `last` in its place."""
        if self.drawn:
            sys.stderr.write("\r\x1b[K" + ("" if last is None else last + "\n"))
            sys.stderr.flush()
