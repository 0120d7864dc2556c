"""Ids to text as they arrive, with any tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["TextDecoder", "Tokenizer", "text_decoder"]

#: How many tokens a tokenizer without a stream decoder is shown again, so that it knows the context: more
#: than a character has bytes.
_CONTEXT = 6


class Tokenizer(Protocol):
    """What generation needs of a tokenizer: `llamatok`'s have it, and transformers'."""

    def decode(self, ids: Any, *, skip_special_tokens: bool = False) -> str:
        """The text of ids."""


class TextDecoder(Protocol):
    """Takes ids and gives the text that is complete by now."""

    def push(self, ids: Any) -> str:
        """Takes an id or several; returns complete characters only, often ""."""

    def finish(self) -> str:
        """Returns what was held back."""


def text_decoder(
    tokenizer: Tokenizer, *, skip_special_tokens: bool = False, prefill: Sequence[int] | None = None
) -> TextDecoder:
    """A decoder for ids that arrive one after the other.

    `prefill` holds ids that were shown before: they are context (no space is lost after them), and none of
    their text comes out.
    """
    make = getattr(tokenizer, "stream_decoder", None)
    if make is not None:
        decoder: TextDecoder = make(skip_special_tokens=skip_special_tokens, prefill=prefill)
        return decoder
    return _ByDecoding(tokenizer, skip_special_tokens, prefill or [])


class _ByDecoding:
    """Decodes the last few ids again with each new one, and gives what was added."""

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool, prefill: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._held: list[int] = []
        # The last ids shown, and the number of those before the last text. They begin with a whole character:
        # a rest of one would spoil the bytes that follow it.
        self._shown = list(prefill)[-_CONTEXT:]
        for count in range(_CONTEXT, 2 * _CONTEXT):
            self._shown = list(prefill)[-count:]
            if not self._decode(self._shown).startswith("\ufffd"):
                break
        self._older = 0

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip)

    def push(self, ids: Any) -> str:
        self._held += [ids] if isinstance(ids, int) else [int(id) for id in ids]
        after = self._decode(self._shown + self._held)
        # The last character may lack bytes that are still to come. None takes more than four.
        if after.endswith("\ufffd") and len(self._held) < _CONTEXT:
            return ""
        before = self._decode(self._shown)
        self._shown, self._older = self._shown[self._older :] + self._held, len(self._shown) - self._older
        self._held = []
        return after[len(before) :]

    def finish(self) -> str:
        before = self._decode(self._shown)
        text = self._decode(self._shown + self._held)[len(before) :] if self._held else ""
        self._shown, self._held, self._older = [], [], 0
        return text
