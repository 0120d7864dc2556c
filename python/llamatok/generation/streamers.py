"""Text as it is generated: printed, or through an iterator of another thread.

`llamatok.generation.stream` needs neither: it is an iterator in the caller's own thread.
"""

from __future__ import annotations

import asyncio
import queue
import sys
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol, TextIO

from torch import Tensor

from llamatok.generation.text import Tokenizer, text_decoder

__all__ = ["AsyncTextIteratorStreamer", "Streamer", "TextIteratorStreamer", "TextStreamer"]


class Streamer(Protocol):
    """What `generate` tells of its progress; transformers' streamers fit too."""

    def put(self, value: Tensor) -> None:
        """Takes ids: first the prompt's, int64 of shape (1, length), then those of each step."""

    def end(self) -> None:
        """The text is complete."""


class TextStreamer:
    """Prints text as it comes, complete characters only.

    Args:
        tokenizer: ours or transformers'.
        skip_prompt: whether the prompt is left out.
        skip_special_tokens: whether special tokens are left out.
        file: where to print; standard output by default.

    Raises:
        ValueError: from `put`, for more than one row.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        skip_prompt: bool = False,
        *,
        skip_special_tokens: bool = False,
        file: TextIO | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_prompt = skip_prompt
        self._skip_special = skip_special_tokens
        self._file = file
        self._begin()

    def _begin(self) -> None:
        self._decoder = text_decoder(self._tokenizer, skip_special_tokens=self._skip_special)
        self._prompt_next = True

    def put(self, value: Tensor) -> None:
        """Takes the prompt's ids first, then those of each step."""
        if value.dim() > 1 and value.shape[0] > 1:
            raise ValueError(f"a text streamer takes one row, got {value.shape[0]}")
        if value.dim() == 1 and len(value) > 1 and not self._prompt_next:
            raise ValueError(f"a text streamer takes one row, got {len(value)}")
        ids = value.reshape(-1).tolist()
        if self._prompt_next:
            self._prompt_next = False
            if self._skip_prompt:
                self._decoder = text_decoder(
                    self._tokenizer, skip_special_tokens=self._skip_special, prefill=ids
                )
                return
        self.on_text(self._decoder.push(ids))

    def end(self) -> None:
        """Gives the rest out; the streamer may be used again."""
        self.on_text(self._decoder.finish(), end=True)
        self._begin()

    def on_text(self, text: str, end: bool = False) -> None:
        """What is done with text (maybe ""); `end` with the last one."""
        print(text, end="\n" if end else "", flush=True, file=self._file or sys.stdout)


class _Handing(TextStreamer):
    """Hands text over instead of printing it, and may be cancelled."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        skip_prompt: bool = False,
        *,
        timeout: float | None = None,
        skip_special_tokens: bool = False,
    ) -> None:
        super().__init__(tokenizer, skip_prompt, skip_special_tokens=skip_special_tokens)
        self._timeout = timeout
        self.cancelled = False
        self._open()

    def cancel(self) -> None:
        """Asks `generate` to end with its next token."""
        self.cancelled = True

    def on_text(self, text: str, end: bool = False) -> None:
        """Hands text over to the consumer."""
        if text:
            self._hand(text)
        if end:
            self._hand(None)

    @abstractmethod
    def _open(self) -> None:
        """Makes the queue to the consumer."""

    @abstractmethod
    def _hand(self, text: str | None) -> None:
        """Gives the consumer a text, or None for the end."""


class TextIteratorStreamer(_Handing):
    """An iterator over text, for a consumer beside the thread that runs `generate`.

    Leaving early is `cancel()`: `generate` then ends with its next token.

    Args:
        timeout: seconds to wait for the next text; `queue.Empty` is raised after it. None waits for ever.
    """

    def _open(self) -> None:
        self._texts: queue.Queue[str | None] = queue.Queue()

    def _hand(self, text: str | None) -> None:
        self._texts.put(text)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = self._texts.get(timeout=self._timeout)
        if text is None:
            raise StopIteration
        return text


class AsyncTextIteratorStreamer(_Handing):
    """As `TextIteratorStreamer`, for `async for`; make it within the event loop that consumes it."""

    def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._texts: asyncio.Queue[str | None] = asyncio.Queue()

    def _hand(self, text: str | None) -> None:
        self._loop.call_soon_threadsafe(self._texts.put_nowait, text)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        text = await asyncio.wait_for(self._texts.get(), self._timeout)
        if text is None:
            raise StopAsyncIteration
        return text


def is_cancelled(streamer: Any) -> bool:
    """Whether a streamer asked for the end."""
    return bool(getattr(streamer, "cancelled", False))
