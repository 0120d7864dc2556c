"""The errors that end a command with a message instead of a traceback."""

from __future__ import annotations


class CommandError(Exception):
    """Ends the command with `message`, lines of hints, and an exit status."""

    status = 1

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.hints = hints


class InputError(CommandError):
    """The input is bad."""


class UsageError(CommandError):
    """The call is wrong in a way that only the model or the environment can tell."""

    status = 2
