"""Reading the shards that `llamatok corpus` writes, of any format, as arrays; flat ones are only mapped."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llamatok._paths import is_within

__all__ = ["ShardArrays", "ShardFile", "list_shards"]

Array = npt.NDArray[Any]

#: What a manifest may say of its shards.
FORMATS = ("megatron", "nanogpt", "datatrove", "litdata", "mds", "parquet", "arrow", "npy")
DTYPES = ("<u2", "<i4", "<u4")


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
        """The arrays.

        Raises `ValueError` where a file is damaged or not what the manifest tells, `OSError` where it cannot
        be read.
        """
        try:
            arrays = self._read()
        except Exception as error:
            # What a damaged file leads to is an error of numpy, Arrow or Python; only those of the operating
            # system have a number.
            if isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno is not None):
                raise
            raise ValueError(f"{self._path(0)}, or what belongs to it, is damaged: {error}") from error
        if len(arrays.tokens) != self.tokens:
            raise ValueError(
                f"{self._path(0)} has {len(arrays.tokens)} tokens, but the manifest says {self.tokens}: "
                "the shard is damaged or of another run"
            )
        self._check(arrays)
        return arrays

    def _check(self, arrays: ShardArrays) -> None:
        """Tokens are whole numbers, each document is within the shard, each token has a position."""
        fault = None
        offsets, positions = arrays.offsets, arrays.positions
        if arrays.tokens.dtype.kind not in "iu":
            fault = f"its tokens are {arrays.tokens.dtype}"
        elif positions is not None and (len(positions) != self.tokens or positions.dtype.kind not in "iu"):
            fault = f"it has {len(positions)} position ids of {self.tokens} tokens"
        elif offsets is not None:
            if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not self._fits(len(offsets) - 1):
                fault = f"its index is not one of {self.documents} documents"
            elif offsets[0] != 0 or offsets[-1] != self.tokens or (offsets[1:] < offsets[:-1]).any():
                fault = "its index does not divide its tokens into documents"
        if fault is not None:
            raise ValueError(f"{self._path(0)} is damaged: {fault}")

    def _fits(self, documents: int) -> bool:
        # Megatron's index has no sequences for documents without tokens.
        return 0 <= documents <= self.documents if self.form == "megatron" else documents == self.documents

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
            count = int(_stored(self._path(0), "<u4", 1)[0])
            places = _stored(self._path(0), "<u4", count + 1, offset=4).astype(np.int64)
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
        least = 0 if self.pack is not None else 6
        if len(offsets) != count + 1 or offsets[-1] != len(content) or (np.diff(offsets) < least).any():
            raise ValueError("its index does not divide it into samples")
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
        lengths, rest = np.divmod(offsets[1:] - starts, item)
        if (lengths < 0).any() or rest.any():
            raise ValueError("its samples are no arrays of tokens")
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
        table = table.select([name for name in names if name in table.column_names])
        # Arrow takes offsets as a file has them: what uses them reads outside it, or ends the process.
        table.validate(full=True)
        columns = {
            name: _joined([chunk.flatten().to_numpy() for chunk in table.column(name).chunks])
            for name in table.column_names
        }
        lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in table.column("input_ids").chunks]
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(_joined(lengths), dtype=np.int64)))
        return ShardArrays(columns["input_ids"], offsets, columns.get("position_ids"))


def list_shards(folder: str | os.PathLike[str], split: str) -> list[ShardFile]:
    """The shards of a split, in order.

    Raises `FileNotFoundError` where there is no manifest (the run is not finished), `ValueError` where the
    run has no such split, or the manifest is none: a shard's files are within the folder.
    """
    folder = os.fspath(folder)
    path = os.path.join(folder, "manifest.json")
    with open(path, "rb") as file:
        content = file.read()
    try:
        manifest = json.loads(content)
        splits = list(manifest["splits"])
        shards = [
            _shard(folder, manifest, shard)
            for shard in manifest["shards"]
            if shard["split"] == split and shard["shard"] >= 0 and shard["tokens"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"`{path}` is no manifest of a run, or is damaged: {reason}") from None
    if split not in splits and split != "train":
        raise ValueError(f"{folder} has no split {split!r}; it has: {', '.join(map(str, splits))}")
    return shards


def _shard(folder: str, manifest: dict[str, Any], shard: dict[str, Any]) -> ShardFile:
    form, dtype, pack = manifest["format"], manifest["dtype"], manifest["settings"]["pack"]
    names = [file["name"] for file in shard["files"]]
    if form not in FORMATS or dtype not in DTYPES:
        raise ValueError(f"shards of format {form!r} with tokens of type {dtype!r} are not known")
    if pack is not None and not _is_count(pack):
        raise ValueError(f"sequences of {pack!r} tokens")
    if not _is_count(shard["tokens"]) or not _is_count(shard["documents"]):
        raise ValueError(f"a shard has {shard['documents']!r} documents with {shard['tokens']!r} tokens")
    outside = [name for name in names if not is_within(folder, name)]
    if outside or not names:
        raise ValueError(f"a shard has the files {outside!r}, which are not within the folder")
    return ShardFile(folder, form, dtype, pack, shard["documents"], shard["tokens"], names)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 48


def _stored(path: str, dtype: str, count: int, offset: int = 0) -> Array:
    """Numbers at a place of a file. NumPy makes room for as many as are asked for before it reads."""
    if offset + count * np.dtype(dtype).itemsize > os.path.getsize(path):
        raise ValueError(f"`{path}` ends before {count} numbers at byte {offset}")
    return np.fromfile(path, dtype, count, offset=offset)


def _megatron_offsets(path: str, itemsize: int, tokens: int) -> npt.NDArray[np.int64]:
    sequences = int(_stored(path, "<u8", 1, offset=18)[0])
    starts = _stored(path, "<i8", sequences, offset=34 + 4 * sequences) // itemsize
    return np.concatenate((starts, np.array([tokens], np.int64)))


def _position_dtype(pack: int) -> str:
    return "<u2" if pack <= 1 << 16 else "<u4"


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, np.int32)])
