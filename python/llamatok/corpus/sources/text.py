"""Plain text: a file a document, a line a document, or documents apart by a separator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llamatok.corpus.compression import DECOMPRESSION_ERRORS
from llamatok.corpus.documents import Parsed, RawBlock, signature_of
from llamatok.corpus.errors import CorpusError, DamagedInputError
from llamatok.corpus.inputs import Input
from llamatok.corpus.settings import Settings
from llamatok.corpus.sources.cut import LARGEST_DOCUMENT, cut_stream
from llamatok.corpus.sources.utf8 import checked_texts

__all__ = ["byte_ranges", "read_blocks", "read_whole"]


def byte_ranges(item: Input, settings: Settings) -> list[tuple[int, int | None, int]]:
    """The parts `(start, stop, bytes)` of a file of lines that can be read apart from one another."""
    if item.compression is not None or item.size is None or not item.is_local:
        return [(0, None, item.size or 0)]
    starts = list(range(0, max(item.size, 1), settings.unit_bytes))
    stops = [*starts[1:], None]
    return [
        (start, stop, (item.size if stop is None else stop) - start)
        for start, stop in zip(starts, stops, strict=True)
    ]


@dataclass
class SeparatedBlock:
    """Several documents with `separator` between them, or behind each."""

    content: memoryview
    separator: bytes
    stored: int

    def __post_init__(self) -> None:
        self.size = len(self.content)
        self.signature = signature_of(self.content)

    def parse(self, settings: Settings) -> Parsed:
        """The documents of the block."""
        content = self.content
        if bytes(content[-len(self.separator) :]) == self.separator:
            content = content[: -len(self.separator)]
        size = np.array([0, len(content)], np.int64)
        whole = pa.LargeStringArray.from_buffers(1, pa.py_buffer(size), pa.py_buffer(content))
        texts = pc.split_pattern(whole, self.separator.decode()).values
        return checked_texts(Parsed(texts, lines=len(texts)), range(len(texts)), settings.invalid_utf8)


def read_blocks(
    item: Input, start: int, stop: int | None, settings: Settings, separator: bytes, block: type
) -> Iterator[RawBlock]:
    """The blocks of an input, cut at `separator`.

    Raises `DamagedInputError` where the compressed data is damaged, `MissingInputError` where it is gone.
    """
    stored, stream = item.open_decompressed()
    try:
        for content in cut_stream(stream, settings.block_bytes, separator, item.path, start, stop):
            done = min(stored.tell(), stop or 1 << 62) - start
            yield block(content, separator, done)
    except DECOMPRESSION_ERRORS as error:
        raise read_error(item, error) from error
    finally:
        stored.close()


def read_error(item: Input, error: Exception) -> Exception:
    """What to raise for an error while reading `item`."""
    if isinstance(error, CorpusError):
        return error
    if isinstance(error, FileNotFoundError):
        return item.vanished()
    if item.compression is None:
        return CorpusError(f"`{item.path}` cannot be read: {error}", "the run can be resumed")
    return DamagedInputError(
        f"`{item.path}`: the {item.compression} data is damaged: {error}",
        "put a sound copy in its place and resume, or pass --skip-damaged to go on without the rest of it",
    )


@dataclass
class WholeFiles:
    """A file that is one document."""

    content: bytes
    stored: int

    def __post_init__(self) -> None:
        self.size = len(self.content)
        self.signature = signature_of(memoryview(self.content))

    def parse(self, settings: Settings) -> Parsed:
        """The document of the block."""
        offsets = np.array([0, *accumulate([len(self.content)])], np.int64)
        texts = pa.LargeStringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(self.content))
        return checked_texts(Parsed(texts, lines=1), range(1), settings.invalid_utf8)


def read_whole(item: Input, settings: Settings) -> Iterator[RawBlock]:
    """The one block of a file that is one document."""
    stored, stream = item.open_decompressed()
    try:
        parts: list[bytes] = []
        size = 0
        while True:
            part = stream.read(settings.block_bytes)
            if not part:
                break
            parts.append(part)
            size += len(part)
            if size > LARGEST_DOCUMENT:
                raise DamagedInputError(
                    f"`{item.path}`: a document of more than {LARGEST_DOCUMENT >> 30} GiB",
                    "with --kind lines or --separator it becomes several documents",
                )
        yield WholeFiles(b"".join(parts), stored.tell())
    except DECOMPRESSION_ERRORS as error:
        raise read_error(item, error) from error
    finally:
        stored.close()
