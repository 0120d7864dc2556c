"""What all sinks share: cutting the stream of documents into shards, and finishing each atomically.

A shard grows in *spools* inside the state folder: append-only files that a resumed run cuts back to the
recorded lengths. Finishing makes the final files of them without touching what the spools hold, so it can be
done again after a kill; the files take their names only after the state says that the shard is finished.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from llamatok.corpus.documents import Documents
from llamatok.corpus.files import AppendFile, digest_of, writing
from llamatok.corpus.settings import Settings

__all__ = ["FinishedFile", "FinishedShard", "Place", "Sink"]

LENGTH_DTYPE = np.dtype("<u4")
#: Lengths of documents that are held in memory at a time when an index is written.
LENGTHS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class FinishedFile:
    """A final file: where it lies now, its name in the output folder, and what the manifest tells of it."""

    temporary: str
    name: str
    bytes: int
    sha256: str


@dataclass
class FinishedShard:
    """A shard whose files are complete. An index over all shards of a split has number -1."""

    split: str
    number: int
    documents: int
    tokens: int
    files: list[FinishedFile]

    def record(self) -> dict[str, Any]:
        """The shard as the manifest has it."""
        files = [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in self.files]
        return {
            "split": self.split, "shard": self.number, "documents": self.documents, "tokens": self.tokens,
            "files": files,
        }  # fmt: skip


@dataclass
class Place:
    """Where a sink writes, and what it writes for."""

    split: str
    state: str
    settings: Settings
    dtype: np.dtype[Any]
    tokenizer: str
    vocab_size: int
    hashing: ThreadPoolExecutor
    #: Shards finished since the last checkpoint.
    finished: list[FinishedShard] = field(default_factory=list)


class Sink(ABC):
    """Writes the documents of one split in one format."""

    #: The names of the spools; those in `hashed` become final files as they are.
    spools: ClassVar[tuple[str, ...]] = ("tokens",)
    hashed: ClassVar[tuple[str, ...]] = ()
    #: Whether documents without tokens are left out, because the format cannot hold them.
    drops_empty: ClassVar[bool] = False

    def __init__(self, place: Place) -> None:
        self.place = place
        self.settings = place.settings
        self.shard = 0
        self.documents = 0
        self.tokens = 0
        self._open: dict[str, AppendFile] = {}
        self._has_positions = self.settings.pack is not None and self.settings.position_ids

    # What a format defines.

    def write(self, documents: Documents) -> None:
        """Appends documents to the spools of the open shard."""
        self.spool("tokens").write(np.ascontiguousarray(documents.tokens))
        if "lengths" in self.spools:
            self.spool("lengths").write(documents.lengths.astype(LENGTH_DTYPE))
        if self._has_positions and documents.positions is not None:
            self.spool("positions").write(np.ascontiguousarray(documents.positions))

    @abstractmethod
    def finish_files(self) -> list[FinishedFile]:
        """The final files of the open shard, whose spools are closed."""

    def finish_split(self, records: Iterable[dict[str, Any]]) -> list[FinishedFile]:
        """Files about all shards of the split, of which `records` are those of the manifest, in order."""
        return []

    def format_state(self) -> dict[str, Any]:
        """What else the format must remember from one document to the next."""
        return {}

    def restore_format(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Takes up what `format_state` gave."""

    # What the formats share.

    def append(self, documents: Documents) -> None:
        """Adds documents, and finishes each shard that is full.

        A shard ends before the document that would make it larger than the limit; a document larger than that
        has a shard of its own.
        """
        if self.drops_empty:
            documents = documents.where(documents.lengths > 0)
        limit = self.settings.shard_limit
        start = 0
        while start < len(documents):
            stop = len(documents)
            if limit is not None:
                base = int(documents.offsets[start])
                room = limit // self.place.dtype.itemsize - self.tokens
                stop = int(np.searchsorted(documents.offsets[start + 1 :] - base, room, "right")) + start
                if stop == start:
                    if self.documents:
                        self._finish_shard()
                        continue
                    stop = start + 1
            part = documents.slice(start, stop)
            self.write(part)
            self.documents += len(part)
            self.tokens += len(part.tokens)
            start = stop

    def finish(self) -> None:
        """Finishes the last shard. A run without documents has one empty shard."""
        if self.documents or self.shard == 0:
            self._finish_shard()

    def finish_index(self, records: Iterable[dict[str, Any]]) -> None:
        """Finishes the files about all shards."""
        files = self.finish_split(records)
        if files:
            self.place.finished.append(FinishedShard(self.place.split, -1, 0, 0, files))

    def sync(self) -> None:
        """Brings the open shard to the disk."""
        for file in self._open.values():
            file.sync()

    def state(self) -> dict[str, Any]:
        """All that is needed to go on from here."""
        return {
            "shard": self.shard,
            "documents": self.documents,
            "tokens": self.tokens,
            "spools": {name: file.length for name, file in self._open.items()},
            "format": self.format_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self.shard = state["shard"]
        self.documents = state["documents"]
        self.tokens = state["tokens"]
        for name, length in state["spools"].items():
            if name not in (*self.spools, "positions"):
                raise ValueError(f"shards have no part {name!r}")
            self.spool(name, length)
        self.restore_format(state["format"])

    def close(self) -> None:
        """Closes the spools; what they hold stays for a later run."""
        for file in self._open.values():
            file.close()

    def spool(self, name: str, length: int = 0) -> AppendFile:
        """A spool of the open shard."""
        file = self._open.get(name)
        if file is None:
            hashing = self.place.hashing if name in self.hashed else None
            file = self._open[name] = AppendFile(self.spool_path(name), length, hashing)
        return file

    def spool_path(self, name: str) -> str:
        """Where a spool of the open shard lies."""
        return self.temporary(f"{self.shard:05d}.{name}")

    def temporary(self, name: str) -> str:
        """A path in the state folder."""
        return os.path.join(self.place.state, f"{self.place.split}-{name}")

    def _finish_shard(self) -> None:
        for name in (*self.spools, *(("positions",) if self._has_positions else ())):
            self.spool(name).sync()
            self.spool(name).close()
        files = self.finish_files()
        self.place.finished.append(
            FinishedShard(self.place.split, self.shard, self.documents, self.tokens, files)
        )
        self.shard += 1
        self.documents = self.tokens = 0
        self._open = {}

    # Helpers of the formats.

    @property
    def number(self) -> str:
        """The number of the open shard as part of a file's name; "" where there is one shard only."""
        return f"{self.shard:05d}" if self.settings.shard_limit is not None else ""

    @property
    def folder(self) -> str:
        """The folder of a format whose readers take a folder: one for each split where there are two."""
        return f"{self.place.split}/" if len(self.settings.splits) > 1 else ""

    def spool_file(self, spool: str, name: str) -> FinishedFile:
        """The final file that a spool is."""
        file = self._open[spool]
        sha256 = file.sha256 if spool in self.hashed else digest_of(file.path).hexdigest()
        return FinishedFile(file.path, name, file.length, sha256)

    def positions_file(self, name: str) -> list[FinishedFile]:
        """The position ids of a packed shard, in the layout of its tokens."""
        return [self.spool_file("positions", name)] if self._has_positions else []

    def made_file(self, name: str, parts: Iterator[Any]) -> FinishedFile:
        """A final file made of `parts`, bytes-like objects."""
        path = self.temporary(os.path.basename(name) + ".made")
        with writing(path), open(path, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        return FinishedFile(path, name, os.path.getsize(path), digest_of(path).hexdigest())

    def lengths(self) -> Iterator[npt.NDArray[np.int64]]:
        """The lengths of the shard's documents, some at a time."""
        with open(self.spool_path("lengths"), "rb") as file:
            while part := file.read(LENGTHS_AT_ONCE * LENGTH_DTYPE.itemsize):
                yield np.frombuffer(part, LENGTH_DTYPE).astype(np.int64)

    def spooled(self, name: str) -> Iterator[bytes]:
        """The bytes of a spool, some at a time."""
        with open(self.spool_path(name), "rb") as file:
            while part := file.read(LENGTHS_AT_ONCE * 4):
                yield part
