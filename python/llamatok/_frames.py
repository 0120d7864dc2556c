"""Compressed data that is made of frames (gzip's members, Zstandard's frames), as a stream."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Small, since a few bytes may stand for many.
COMPRESSED_READ_SIZE = 1 << 16
#: The largest window of a Zstandard frame that any tool writes (`zstd --long=31`), in bytes.
LARGEST_ZSTD_WINDOW = 1 << 31


class Frame(Protocol):
    """What zlib's and zstandard's decompressors of one frame have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Frames(io.RawIOBase):
    """Decompresses frames one after the other, and notices one that is cut short.

    Args:
        stored: the compressed bytes.
        new_frame: makes the decompressor of a frame.
        fault: what that raises for damaged data.

    Reading raises what `fail` makes: `EOFError` for a frame that is cut short, `OSError` for a damaged one.
    """

    def __init__(self, stored: IO[bytes], new_frame: Callable[[], Frame], fault: type[Exception]) -> None:
        self._stored = stored
        self._new_frame = new_frame
        self._fault = fault
        self._frame: Frame | None = None
        self._ready = memoryview(b"")

    def fail(self, error: Exception | None) -> Exception:
        """The exception for data that is cut short (None) or damaged."""
        return EOFError("Truncated compressed stream") if error is None else OSError(str(error))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        while not self._ready:
            data = b""
            if self._frame is not None and self._frame.eof:
                data, self._frame = self._frame.unused_data, None
            data = data or self._stored.read(COMPRESSED_READ_SIZE)
            if not data:
                if self._frame is not None:
                    raise self.fail(None)
                return 0
            self._frame = self._frame or self._new_frame()
            try:
                self._ready = memoryview(self._frame.decompress(data))
            except self._fault as error:
                raise self.fail(error) from None
        size = min(len(target), len(self._ready))
        target[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
