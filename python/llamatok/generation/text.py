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
    """Decodes the last few ids again with each new one, and gives what was added.

    This is for tokenizers whose `decode` is no stream: its parts cannot come as soon as they are complete and
    yet join to exactly its text. `LlamaTokenizer` is one, as transformers' are. By the rules of a
    `tokenizer.json`, a wrong byte spoils all characters of the run of bytes before it; by those of a
    `tokenizer.model` with `legacy`, a special token puts a space before the text that it ends. Here
    characters are given once they are complete, so the parts join to the text of `decode` but where bytes are
    no UTF-8, and for the spaces of special tokens that are shown. Tens of microseconds a token are little
    beside a step of a model.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool, prefill: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._held: list[int] = []
        # The last ids shown, and the number of those before the last text. They begin with a whole character,
        # since a rest of one would spoil the bytes that follow it, and they have text: after none, a space
        # would be taken for the first one of the whole.
        self._shown = list(prefill)
        for count in range(_CONTEXT, len(prefill)):
            text = self._decode(self._shown[-count:])
            if text and (not text.startswith("\ufffd") or count >= 2 * _CONTEXT):
                self._shown = self._shown[-count:]
                break
        self._older = 0

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip)

    def push(self, ids: Any) -> str:
        new = [ids] if isinstance(ids, int) else [int(id) for id in ids]
        # One after the other, but for a prompt: where text changes, only an id by itself is told from it.
        return "".join(self._push([id]) for id in new) if self._shown else self._push(new)

    def _push(self, ids: list[int]) -> str:
        self._held += ids
        after = self._decode(self._shown + self._held)
        # The last character may lack bytes that are still to come. None takes more than four.
        if after.endswith("\ufffd") and len(self._held) < _CONTEXT:
            return ""
        before = self._decode(self._shown)
        text = self._added(before, after)
        if text or not before:
            last = self._shown[self._older :] + self._held
            if self._decode(last):
                self._shown, self._older = last, len(self._shown) - self._older
            else:
                self._shown += self._held
        self._held = []
        return text

    def finish(self) -> str:
        text = self._added(self._decode(self._shown), self._decode(self._shown + self._held))
        self._shown, self._held, self._older = [], [], 0
        return text

    def _added(self, before: str, after: str) -> str:
        if after.startswith(before):
            return after[len(before) :]
        # What was shown is another text by now. A character that lacked bytes may have become whole; what
        # else changed can no longer be told.
        begun = before.rstrip("\ufffd")
        if begun != before and after.startswith(begun):
            return after[len(begun) :]
        return self._decode(self._held)
