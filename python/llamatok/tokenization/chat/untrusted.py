"""Chats whose messages may hold anything: control tokens in them are read as ordinary text.

A control token in what is given to a template gets marks between its characters, and so stands nowhere in the
rendered text: the control tokens that are found there are the template's own. The marks are taken out of the
text between them, which is encoded without looking for control tokens.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple


class Chunk(NamedTuple):
    """A part of a chat: ordinary text, or a control token."""

    text: str
    is_control: bool


class Untrusted:
    """Marks the control tokens in what is given to a template, and finds the template's own in its text.

    Args:
        control_tokens: The tokens that only the template may write.
    """

    def __init__(self, control_tokens: Iterable[str]) -> None:
        tokens = sorted({token for token in control_tokens if token}, key=len, reverse=True)
        # What never matches, where there are no tokens.
        self._tokens = re.compile("|".join(map(re.escape, tokens)) or "(?!)")
        self._starts = tuple({token[:length] for token in tokens for length in range(1, len(token))})
        self._ends = tuple({token[length:] for token in tokens for length in range(1, len(token))})
        # Nobody can foresee it, and digits come through all that a template may do to a text.
        self._mark = f"{secrets.randbelow(10**40):040d}"

    def marked(self, value: Any) -> Any:
        """A plain value with marks in the control tokens of its strings; keys stay as they are.

        A string that ends like the beginning of a control token, or begins like its end, gets a mark there:
        two strings are not to make a token together.
        """
        if isinstance(value, str):
            before = self._mark if value.startswith(self._ends) else ""
            after = self._mark if value.endswith(self._starts) else ""
            return before + self._tokens.sub(lambda found: self._mark.join(found[0]), value) + after
        if isinstance(value, dict):
            return {key: self.marked(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.marked(item) for item in value]
        return value

    def chunks(self, text: str) -> list[Chunk]:
        """The parts of a rendered text: ordinary text and the template's control tokens in turn."""
        chunks: list[Chunk] = []
        position = 0
        for found in self._tokens.finditer(text):
            chunks.append(self._ordinary(text[position : found.start()]))
            chunks.append(Chunk(found[0], True))
            position = found.end()
        chunks.append(self._ordinary(text[position:]))
        return chunks

    def _ordinary(self, text: str) -> Chunk:
        return Chunk(text.replace(self._mark, ""), False)
