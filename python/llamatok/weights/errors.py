"""The error of everything that reads or writes weights."""

from __future__ import annotations


class WeightsError(ValueError):
    """A checkpoint that cannot be read or written as asked; the message names the file, the fault, the
    mend."""
