"""Compressed streams: gzip, Zstandard, bzip2 and xz, of several members or frames too.

Arrow's decompressors do the work, without the GIL, and notice data that is cut short. They lack xz, which is
the standard library's, and Zstandard frames with a window above 128 MiB (`zstd --long=31`), which are
zstandard's.
"""

from __future__ import annotations

import io
import lzma
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["DECOMPRESSION_ERRORS", "SUFFIXES", "compression_of", "decompressed"]

#: The compression that a name's ending tells.
SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}

#: What reading a damaged stream raises. `OSError` is among them, since Arrow has no error of its own for it.
DECOMPRESSION_ERRORS = (lzma.LZMAError, EOFError, pa.ArrowInvalid, OSError)

#: The largest window of Arrow's decompressor (ZSTD_WINDOWLOG_LIMIT_DEFAULT of zstd's library).
ARROW_ZSTD_WINDOW = 1 << 27
LARGEST_ZSTD_WINDOW = 1 << 31


def compression_of(name: str) -> tuple[str, str | None]:
    """`name` without the ending that tells its compression, and the compression or None."""
    for suffix, compression in SUFFIXES.items():
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], compression
    return name, None


def decompressed(stored: BinaryIO, compression: str | None) -> Any:
    """A stream with `readinto` over the content of `stored`, a seekable or plain binary file."""
    if compression is None:
        return stored
    if compression == "xz":
        return lzma.open(stored, "rb")
    if compression == "zstd" and _has_large_window(stored):
        return _LongWindow(stored)
    return pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), compression)


def _has_large_window(stored: BinaryIO) -> bool:
    import zstandard

    head = stored.read(18)  # the longest frame header
    stored.seek(0)
    try:
        return bool(zstandard.get_frame_parameters(head).window_size > ARROW_ZSTD_WINDOW)
    except zstandard.ZstdError:
        return False


class _LongWindow(io.RawIOBase):
    """Zstandard frames of any window, one after the other."""

    def __init__(self, stored: BinaryIO) -> None:
        import zstandard

        self._stored = stored
        self._zstd = zstandard.ZstdDecompressor(max_window_size=LARGEST_ZSTD_WINDOW)
        self._error: type[Exception] = zstandard.ZstdError
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        while not self._ready:
            data = b""
            if self._frame is not None and self._frame.eof:
                data, self._frame = self._frame.unused_data, None
            data = data or self._stored.read(1 << 16)
            if not data:
                if self._frame is not None:
                    raise EOFError("Truncated compressed stream")
                return 0
            self._frame = self._frame or self._zstd.decompressobj()
            try:
                self._ready = memoryview(self._frame.decompress(data))
            except self._error as error:
                raise OSError(str(error)) from None
        size = min(len(target), len(self._ready))
        target[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
