"""Formats of many small shards with an index.json over them: Lightning's litdata and MosaicML's MDS."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from llamatok.corpus.errors import CorpusError
from llamatok.corpus.sinks.base import FinishedFile, Sink
from llamatok.corpus.sinks.flat import position_dtype

__all__ = ["LitdataSink", "MdsSink"]

#: Offsets in a shard are of 32 bits.
LARGEST_SHARD = (1 << 32) - 1
#: Bytes of samples that are laid out at a time.
BYTES_AT_ONCE = 16 << 20


class LitdataSink(Sink):
    """Chunks for litdata's `TokensLoader` (litdata/streaming/writer.py, item_loader.py)."""

    spools = ("tokens", "lengths")
    hashed = ("positions",)
    drops_empty = True

    #: Codes of `_NUMPY_DTYPES_MAPPING`.
    CODES = {"<u2": 5, "<u4": 6}  # noqa: RUF012
    #: One leaf, as torch's `treespec_dumps` writes it.
    DATA_SPEC = '[1, {"type": null, "context": null, "children_spec": []}]'

    def finish_files(self) -> list[FinishedFile]:
        """`chunk-0-0.bin` and so on; none for a chunk without documents, which readers refuse."""
        if not self.documents:
            return []
        name = f"{self.folder}chunk-0-{self.shard}.bin"
        return [
            self.made_file(name, self._chunk()),
            *self.positions_file(f"{self.folder}chunk-0-{self.shard}.position_ids"),
        ]

    def _chunk(self) -> Iterator[Any]:
        header = 4 + 4 * (self.documents + 1)
        _check_size(header + self.tokens * self.place.dtype.itemsize)
        yield np.array([self.documents, header], "<u4").tobytes()
        place = header
        for lengths in self.lengths():
            ends = place + np.cumsum(lengths) * self.place.dtype.itemsize
            yield ends.astype("<u4").tobytes()
            place = int(ends[-1])
        yield from self.spooled("tokens")

    def finish_split(self, records: Iterable[dict[str, Any]]) -> list[FinishedFile]:
        """`index.json`. Its time is a number made of the chunks' hashes: caches must tell contents apart."""
        chunks = []
        digest = hashlib.sha256()
        for record in records:
            for file in record["files"][:1]:
                digest.update(file["sha256"].encode())
                chunks.append(
                    {
                        "chunk_bytes": file["bytes"],
                        "chunk_size": record["documents"],
                        "dim": record["tokens"],
                        "filename": file["name"].rpartition("/")[2],
                    }
                )
        config = {
            "chunk_bytes": self.settings.shard_limit,
            "chunk_size": None,
            "compression": None,
            "data_format": [f"no_header_numpy:{self.CODES[self.place.dtype.str]}"],
            "data_spec": self.DATA_SPEC,
            "encryption": None,
            "item_loader": "TokensLoader",
        }
        time = str(int(digest.hexdigest()[:12], 16))
        index = json.dumps({"chunks": chunks, "config": config, "updated_at": time}, sort_keys=True)
        return [self.made_file(f"{self.folder}index.json", iter([index.encode()]))]


class MdsSink(Sink):
    """Shards of MosaicML streaming (streaming/base/format/mds), with the column `tokens`.

    Packed sequences have a fixed shape, and the column `position_ids`.
    """

    spools = ("tokens", "lengths")
    drops_empty = True

    #: The first byte of an array: one dimension, and the type of the shape that follows.
    ONE_DIMENSION = 1 << 2

    def _columns(self) -> dict[str, np.dtype[Any]]:
        """Columns in the order of their names."""
        columns = {"tokens": self.place.dtype}
        if self._has_positions:
            columns = {"position_ids": position_dtype(self.settings.pack or 1), **columns}
        return columns

    def _config(self) -> dict[str, Any]:
        columns = self._columns()
        shape = "" if self.settings.pack is None else f":{self.settings.pack}"
        sizes = [
            None if self.settings.pack is None else self.settings.pack * kind.itemsize
            for kind in columns.values()
        ]
        return {
            "column_encodings": [f"ndarray:{kind.name}{shape}" for kind in columns.values()],
            "column_names": list(columns),
            "column_sizes": sizes,
            "compression": None,
            "format": "mds",
            "hashes": [],
            "size_limit": self.settings.shard_limit,
            "version": 2,
        }

    def finish_files(self) -> list[FinishedFile]:
        """`shard.00000.mds` and so on; none for a shard without documents."""
        if not self.documents:
            return []
        return [self.made_file(f"{self.folder}shard.{self.shard:05d}.mds", self._shard())]

    def _shard(self) -> Iterator[Any]:
        config = json.dumps(self._config(), sort_keys=True).encode()
        place = 4 + 4 * (self.documents + 1) + len(config)
        yield np.array([self.documents, place], "<u4").tobytes()
        for lengths in self.lengths():
            ends = place + np.cumsum(self._sample_sizes(lengths))
            _check_size(int(ends[-1]))
            yield ends.astype("<u4").tobytes()
            place = int(ends[-1])
        yield config
        yield from self._packed_samples() if self.settings.pack is not None else self._samples()

    def _sample_sizes(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if self.settings.pack is not None:
            return np.full(
                len(lengths), self.settings.pack * sum(kind.itemsize for kind in self._columns().values())
            )
        return 4 + 1 + _shape_bytes(lengths) + lengths * self.place.dtype.itemsize

    def _packed_samples(self) -> Iterator[Any]:
        length = self.settings.pack or 1
        columns = {name: kind for name, kind in self._columns().items()}
        files = {
            name: open(self.spool_path("tokens" if name == "tokens" else "positions"), "rb")  # noqa: SIM115
            for name in columns
        }
        try:
            at_once = max(1, BYTES_AT_ONCE // (length * 4))
            for start in range(0, self.documents, at_once):
                rows = min(at_once, self.documents - start)
                parts = [
                    np.frombuffer(file.read(rows * length * columns[name].itemsize), np.uint8).reshape(
                        rows, -1
                    )
                    for name, file in files.items()
                ]
                yield np.hstack(parts).tobytes()
        finally:
            for file in files.values():
                file.close()

    def _samples(self) -> Iterator[Any]:
        """Samples of any length: the size of the array, its header, its values."""
        item = self.place.dtype.itemsize
        with open(self.spool_path("tokens"), "rb") as tokens:
            for all_lengths in self.lengths():
                bounds = np.concatenate(([0], np.cumsum(all_lengths * item)))
                start = 0
                while start < len(all_lengths):
                    stop = int(np.searchsorted(bounds, bounds[start] + BYTES_AT_ONCE, "right")) - 1
                    stop = min(max(stop, start + 1), len(all_lengths))
                    content = tokens.read(int(bounds[stop] - bounds[start]))
                    yield self._laid_out(all_lengths[start:stop], content)
                    start = stop

    def _laid_out(self, lengths: npt.NDArray[np.int64], content: bytes) -> bytes:
        item = self.place.dtype.itemsize
        shape_bytes = _shape_bytes(lengths)
        heads = 5 + shape_bytes
        sizes = heads + lengths * item
        # All heads at their full width, and which of their bytes count.
        head = np.zeros((len(lengths), 9), np.uint8)
        head[:, :4] = (sizes - 4).astype("<u4").view(np.uint8).reshape(-1, 4)
        head[:, 4] = self.ONE_DIMENSION | (shape_bytes >> 1)
        head[:, 5:] = lengths.astype("<u4").view(np.uint8).reshape(-1, 4)
        used = np.arange(9) < heads[:, None]
        ends = np.cumsum(sizes)
        is_head = np.zeros(int(ends[-1]) + 1, np.int8)
        np.add.at(is_head, ends - sizes, 1)
        np.add.at(is_head, ends - sizes + heads, -1)
        mask = np.cumsum(is_head[:-1], dtype=np.int8).astype(bool)
        out = np.empty(len(mask), np.uint8)
        out[mask] = head[used]
        out[~mask] = np.frombuffer(content, np.uint8)
        return out.tobytes()

    def finish_split(self, records: Iterable[dict[str, Any]]) -> list[FinishedFile]:
        """`index.json`."""
        config = self._config()
        shards = [
            {
                **config,
                "samples": record["documents"],
                "raw_data": {
                    "basename": record["files"][0]["name"].rpartition("/")[2],
                    "bytes": record["files"][0]["bytes"],
                    "hashes": {},
                },
                "zip_data": None,
            }
            for record in records
            if record["files"]
        ]
        index = json.dumps({"shards": shards, "version": 2}, sort_keys=True).encode()
        return [self.made_file(f"{self.folder}index.json", iter([index]))]


def _shape_bytes(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bytes of the smallest unsigned type for each length: 1, 2 or 4, by halves MDS's codes 0, 1, 2."""
    return np.where(lengths < 1 << 8, 1, np.where(lengths < 1 << 16, 2, 4))


def _check_size(size: int) -> None:
    if size > LARGEST_SHARD:
        raise CorpusError(
            f"a shard of {size} bytes is too large for the format: its offsets have 32 bits",
            "pass a smaller --shard-size, or leave out such long documents with --max-tokens",
        )
