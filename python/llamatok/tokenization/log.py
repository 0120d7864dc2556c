"""The logger of this subpackage: warnings go through `logging`, each kind once."""

from __future__ import annotations

import logging


class _Logger:
    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._seen: set[str] = set()

    def warning(self, message: str) -> None:
        """Log a warning."""
        self._logger.warning(message)

    def warning_once(self, message: str, kind: str | None = None) -> None:
        """Log a warning unless one of its kind was logged before in this process.

        `kind` stands for all messages that differ in numbers alone, which would go on without end; by default
        the message is its own kind.
        """
        kind = message if kind is None else kind
        if kind not in self._seen:
            self._seen.add(kind)
            self._logger.warning(message)

    def error(self, message: str) -> None:
        """Log an error that does not end the call."""
        self._logger.error(message)


logger = _Logger("llamatok.tokenization")
