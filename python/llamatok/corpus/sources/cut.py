"""Cutting a stream of bytes into blocks that end where documents do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llamatok.corpus.errors import DamagedInputError

__all__ = ["LARGEST_DOCUMENT", "cut_stream"]

#: Arrow's strings have offsets of 31 bits, and a block holds a document and what came before it.
LARGEST_DOCUMENT = 1 << 30
PROBE = 1 << 16


def cut_stream(
    stream: Any, block_bytes: int, separator: bytes, path: str, start: int = 0, stop: int | None = None
) -> Iterator[memoryview]:
    """Blocks of about `block_bytes` that end with `separator`; the last one may lack it.

    With `start` and `stop`, the stream must be seekable and the separator a single byte; the blocks then hold
    the lines that begin at `start` or later and before `stop`, wherever they end.
    """
    carry = b""
    position = start
    if start:
        # A line that begins right at `start` has its predecessor's separator just before.
        stream.seek(start - 1)
        carry, position = _after_separator(stream, start - 1, separator)
        if stop is not None and position - len(carry) >= stop:
            return
    while True:
        # A document larger than a block is read in steps that double, so that copying stays linear.
        room = max(block_bytes, len(carry))
        if stop is not None:
            room = max(0, min(room, stop - position))
        buffer = bytearray(len(carry) + room)
        buffer[: len(carry)] = carry
        filled = _fill(stream, buffer, len(carry))
        position += filled - len(carry)
        if filled < len(buffer):  # the end of the stream
            if filled:
                yield memoryview(buffer)[:filled]
            return
        if stop is not None and position >= stop:
            yield from _finish(stream, buffer, position - stop, separator, path)
            return
        end = buffer.rfind(separator)
        if end < 0:
            carry = bytes(buffer)
            if len(carry) > LARGEST_DOCUMENT:
                raise _too_long(path)
            continue
        end += len(separator)
        carry = bytes(memoryview(buffer)[end:])
        yield memoryview(buffer)[:end]


def _finish(stream: Any, buffer: bytearray, beyond: int, separator: bytes, path: str) -> Iterator[memoryview]:
    """The last block of a range: `buffer` reaches `beyond` bytes past its end."""
    # The last line of the range is the one that holds the byte before the end.
    end = buffer.find(separator, max(0, len(buffer) - beyond - 1))
    searched = len(buffer)
    while end < 0:
        more = bytearray(PROBE)
        filled = _fill(stream, more, 0)
        buffer += more[:filled]
        end = buffer.find(separator, searched)
        searched = len(buffer)
        if filled < PROBE:
            break
        if len(buffer) > LARGEST_DOCUMENT:
            raise _too_long(path)
    end = len(buffer) if end < 0 else end + 1
    if end:
        yield memoryview(buffer)[:end]


def _after_separator(stream: Any, position: int, separator: bytes) -> tuple[bytes, int]:
    """What was read behind the next separator, and the place in the stream up to which it was read."""
    while True:
        probe = bytearray(PROBE)
        filled = _fill(stream, probe, 0)
        position += filled
        end = probe.find(separator, 0, filled)
        if end >= 0:
            return bytes(probe[end + 1 : filled]), position
        if filled < PROBE:
            # No line begins behind `start`: as if it began past every end.
            return b"", 1 << 62


def _fill(stream: Any, buffer: bytearray, filled: int) -> int:
    view = memoryview(buffer)
    while filled < len(buffer):
        count = stream.readinto(view[filled:])
        if not count:
            break
        filled += count
    return filled


def _too_long(path: str) -> DamagedInputError:
    return DamagedInputError(
        f"`{path}` has a document of more than {LARGEST_DOCUMENT >> 30} GiB",
        "is it the right kind of input? Name it with --kind, or the separator",
    )
