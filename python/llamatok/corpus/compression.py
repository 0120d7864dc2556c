"""Compressed streams: gzip, Zstandard, bzip2 and xz, of several members or frames too.

Arrow's decompressors do the work, without the GIL, and notice data that is cut short. They lack xz, which is
the standard library's, and Zstandard frames with a window above 128 MiB (`zstd --long=31`), which are
zstandard's.
"""

from __future__ import annotations

import lzma
from typing import Any, BinaryIO

import pyarrow as pa

from llamatok._frames import LARGEST_ZSTD_WINDOW, Frames

__all__ = ["DECOMPRESSION_ERRORS", "SUFFIXES", "compression_of", "decompressed"]

#: The compression that a name's ending tells.
SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}

#: What reading a damaged stream raises. `OSError` is among them, since Arrow has no error of its own for it.
DECOMPRESSION_ERRORS = (lzma.LZMAError, EOFError, pa.ArrowInvalid, OSError)

#: The largest window of Arrow's decompressor (ZSTD_WINDOWLOG_LIMIT_DEFAULT of zstd's library).
ARROW_ZSTD_WINDOW = 1 << 27


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
        return _long_window(stored)
    return pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), compression)


def _has_large_window(stored: BinaryIO) -> bool:
    import zstandard

    head = stored.read(18)  # the longest frame header
    stored.seek(0)
    try:
        return bool(zstandard.get_frame_parameters(head).window_size > ARROW_ZSTD_WINDOW)
    except zstandard.ZstdError:
        return False


def _long_window(stored: BinaryIO) -> Frames:
    import zstandard

    zstd = zstandard.ZstdDecompressor(max_window_size=LARGEST_ZSTD_WINDOW)
    return Frames(stored, zstd.decompressobj, zstandard.ZstdError)
