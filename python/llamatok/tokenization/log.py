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

    def warning_once(self, message: str) -> None:
        """Log a warning unless the same was logged before in this process."""
        if message not in self._seen:
            self._seen.add(message)
            self._logger.warning(message)

    def error(self, message: str) -> None:
        """Log an error that does not end the call."""
        self._logger.error(message)


logger = _Logger("llamatok.tokenization")
