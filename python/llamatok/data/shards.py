"""Reading the shards that `llamatok corpus` writes, of any format, as arrays; flat ones are only mapped."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ShardArrays", "ShardFile", "list_shards"]

Array = npt.NDArray[Any]


@dataclass
class ShardArrays:
    """The tokens of a shard back to back, where each document begins (n + 1 offsets), and position ids.

    Offsets are None where the format does not keep documents apart.
    """

    tokens: Array
    offsets: npt.NDArray[np.int64] | None
    positions: Array | None


@dataclass
class ShardFile:
    """A shard as the manifest has it."""

    folder: str
    form: str
    dtype: str
    pack: int | None
    documents: int
    tokens: int
    names: list[str]

    def load(self) -> ShardArrays:
        """The arrays. Raises `ValueError` where a file is not of the size that the manifest tells."""
        arrays = self._read()
        if len(arrays.tokens) != self.tokens:
            raise ValueError(
                f"{self._path(0)} has {len(arrays.tokens)} tokens, but the manifest says {self.tokens}: "
                "the shard is damaged or of another run"
            )
        return arrays

    def _path(self, index: int) -> str:
        return os.path.join(self.folder, self.names[index])

    def _named(self, *endings: str) -> str | None:
        for name in self.names:
            if name.endswith(endings):
                return os.path.join(self.folder, name)
        return None

    def _flat(self, path: str, dtype: str, offset: int = 0) -> Array:
        if os.path.getsize(path) <= offset:
            return np.zeros(0, dtype)
        return np.memmap(path, dtype, "r", offset)

    def _rows(self, count: int) -> npt.NDArray[np.int64] | None:
        return None if self.pack is None else np.arange(count // self.pack + 1, dtype=np.int64) * self.pack

    def _positions(self) -> Array | None:
        path = self._named("position_ids", "position_ids.bin")
        return None if path is None else self._flat(path, _position_dtype(self.pack or 1))

    def _read(self) -> ShardArrays:
        if self.form == "npy":
            return self._npy()
        if self.form == "mds":
            return self._mds()
        if self.form in ("parquet", "arrow"):
            return self._table()
        if self.form == "litdata":
            count = int(np.fromfile(self._path(0), "<u4", 1)[0])
            places = np.fromfile(self._path(0), "<u4", count + 1, offset=4).astype(np.int64)
            tokens = self._flat(self._path(0), self.dtype, int(places[0]))
            return ShardArrays(tokens, (places - places[0]) // tokens.itemsize, self._positions())
        tokens = self._flat(self._path(0), self.dtype)
        offsets = self._rows(len(tokens))
        if offsets is None and self.form == "megatron":
            offsets = _megatron_offsets(self._path(1), tokens.itemsize, len(tokens))
        if offsets is None and self.form == "datatrove":
            ends = np.fromfile(self._path(1), "<u8").astype(np.int64)
            offsets = np.concatenate((np.zeros(1, np.int64), ends))
        return ShardArrays(tokens, offsets, self._positions())

    def _npy(self) -> ShardArrays:
        tokens = np.load(self._path(0), mmap_mode="r").reshape(-1)
        if self.pack is None:
            return ShardArrays(tokens, np.load(self._path(1)), None)
        path = self._named("position_ids.npy")
        positions = None if path is None else np.load(path, mmap_mode="r").reshape(-1)
        return ShardArrays(tokens, self._rows(len(tokens)), positions)

    def _mds(self) -> ShardArrays:
        content = np.fromfile(self._path(0), np.uint8)
        count = int(content[:4].view("<u4")[0])
        offsets = content[4 : 8 + 4 * count].view("<u4").astype(np.int64)
        item = np.dtype(self.dtype).itemsize
        if self.pack is not None:
            width = self.pack * item
            rows = content[offsets[0] :].reshape(count, -1)
            tokens = np.ascontiguousarray(rows[:, -width:]).view(self.dtype).reshape(-1)
            positions = None
            if rows.shape[1] > width:
                kind = _position_dtype(self.pack)
                positions = np.ascontiguousarray(rows[:, :-width]).view(kind).reshape(-1)
            return ShardArrays(tokens, self._rows(len(tokens)), positions)
        # Each sample has four bytes of size, one that tells the width of the length, and the length.
        widths = 1 << (content[offsets[:-1] + 4] & 3).astype(np.int64)
        starts = offsets[:-1] + 5 + widths
        lengths = (offsets[1:] - starts) // item
        inside = np.zeros(len(content) + 1, np.int8)
        np.add.at(inside, starts, 1)
        np.add.at(inside, offsets[1:], -1)
        tokens = content[np.cumsum(inside[:-1], dtype=np.int8).astype(bool)].view(self.dtype)
        return ShardArrays(tokens, np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))), None)

    def _table(self) -> ShardArrays:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = ["input_ids", *(["position_ids"] if self.pack is not None else [])]
        if self.form == "parquet":
            schema = pq.read_schema(self._path(0))
            table = pq.read_table(self._path(0), columns=[name for name in names if name in schema.names])
        else:
            table = pa.ipc.open_file(pa.memory_map(self._path(0))).read_all()
        columns = {
            name: _joined([chunk.flatten().to_numpy() for chunk in table.column(name).chunks])
            for name in names
            if name in table.column_names
        }
        lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in table.column("input_ids").chunks]
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(_joined(lengths), dtype=np.int64)))
        return ShardArrays(columns["input_ids"], offsets, columns.get("position_ids"))


def list_shards(folder: str | os.PathLike[str], split: str) -> list[ShardFile]:
    """The shards of a split, in order.

    Raises `FileNotFoundError` where there is no manifest (the run is not finished), `ValueError` where the
    run has no such split.
    """
    folder = os.fspath(folder)
    with open(os.path.join(folder, "manifest.json"), "rb") as file:
        manifest = json.load(file)
    if split not in manifest["splits"] and split != "train":
        known = ", ".join(manifest["splits"])
        raise ValueError(f"{folder} has no split {split!r}; it has: {known}")
    return [
        ShardFile(
            folder,
            manifest["format"],
            manifest["dtype"],
            manifest["settings"]["pack"],
            shard["documents"],
            shard["tokens"],
            [file["name"] for file in shard["files"]],
        )
        for shard in manifest["shards"]
        if shard["split"] == split and shard["shard"] >= 0 and shard["tokens"]
    ]


def _megatron_offsets(path: str, itemsize: int, tokens: int) -> npt.NDArray[np.int64]:
    sequences = int(np.fromfile(path, "<u8", 1, offset=18)[0])
    starts = np.fromfile(path, "<i8", sequences, offset=34 + 4 * sequences) // itemsize
    return np.concatenate((starts, np.array([tokens], np.int64)))


def _position_dtype(pack: int) -> str:
    return "<u2" if pack <= 1 << 16 else "<u4"


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, np.int32)])
