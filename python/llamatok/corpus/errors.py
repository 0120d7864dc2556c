"""The errors of a corpus run. Each names the file, what is wrong with it, and the mend."""

from __future__ import annotations

__all__ = [
    "CorpusError",
    "DamagedInputError",
    "InputChangedError",
    "MissingInputError",
    "OutputError",
    "RejectedError",
]


class CorpusError(ValueError):
    """A run that cannot start or go on; `hints` say what to do about it."""

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.hints = hints

    def __str__(self) -> str:
        return "\n".join([str(self.args[0]), *(f"hint: {hint}" for hint in self.hints)])

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], *self.hints)

    @property
    def message(self) -> str:
        """The message without its hints."""
        return str(self.args[0])


class MissingInputError(CorpusError):
    """An input that is not there, or vanished while the run went on."""


class DamagedInputError(CorpusError):
    """An input whose container cannot be read on: compressed data cut short, a broken Parquet file."""


class InputChangedError(CorpusError):
    """An input that is not what it was when the interrupted run began."""


class RejectedError(CorpusError):
    """A document that cannot be used, in a strict run."""


class OutputError(CorpusError):
    """The output folder is not usable: taken by another run, full, or not empty."""
