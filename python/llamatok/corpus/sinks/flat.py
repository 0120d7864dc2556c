"""Formats whose tokens lie back to back in one file: nanoGPT, Megatron, datatrove, NumPy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from llamatok.corpus.documents import Documents
from llamatok.corpus.files import digest_of, writing
from llamatok.corpus.sinks.base import FinishedFile, Sink

__all__ = ["DatatroveSink", "MegatronSink", "NanoGptSink", "NpySink", "npy_header"]


class NanoGptSink(Sink):
    """Tokens and nothing else: `train.bin`, `val.bin` (nanoGPT, data/openwebtext/prepare.py)."""

    hashed = ("tokens", "positions")

    def finish_files(self) -> list[FinishedFile]:
        """`train.bin`, or `train_00000.bin` and so on."""
        stem = "_".join(filter(None, (self.place.split, self.number)))
        return [
            self.spool_file("tokens", f"{stem}.bin"),
            *self.positions_file(f"{stem}.position_ids.bin"),
        ]


class MegatronSink(Sink):
    """`.bin` and `.idx` of Megatron-LM (megatron/core/datasets/indexed_dataset.py).

    As in tools/preprocess_data.py, a document without tokens has an entry among the documents and no
    sequence.
    """

    spools = ("tokens", "lengths")
    hashed = ("tokens", "positions")

    MAGIC = b"MMIDIDX\x00\x00"
    #: Codes of `DType`.
    CODES = {"<u2": 8, "<i4": 4}  # noqa: RUF012

    def finish_files(self) -> list[FinishedFile]:
        """`train_text_document.bin` and `.idx`, with the text key in the name as Megatron's tool has it."""
        key = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.settings.text_key)
        stem = "_".join(filter(None, (self.place.split, self.number, key, "document")))
        return [
            self.spool_file("tokens", f"{stem}.bin"),
            self.made_file(f"{stem}.idx", self._index()),
            *self.positions_file(f"{stem}.position_ids.bin"),
        ]

    def _index(self) -> Iterator[Any]:
        sequences = sum(int(np.count_nonzero(lengths)) for lengths in self.lengths())
        counts = np.array([sequences, self.documents + 1], "<u8")
        yield self.MAGIC + np.array(1, "<u8").tobytes()
        yield bytes([self.CODES[self.place.dtype.str]]) + counts.tobytes()
        for lengths in self.lengths():
            yield lengths[lengths > 0].astype("<i4").tobytes()
        place = 0
        for lengths in self.lengths():
            full = lengths[lengths > 0] * self.place.dtype.itemsize
            ends = place + np.cumsum(full)
            yield (ends - full).astype("<i8").tobytes()
            place = int(ends[-1]) if len(ends) else place
        yield np.array(0, "<i8").tobytes()
        place = 0
        for lengths in self.lengths():
            indices = place + np.cumsum(lengths > 0)
            yield indices.astype("<i8").tobytes()
            place = int(indices[-1]) if len(indices) else place


class DatatroveSink(Sink):
    """`.ds`, `.ds.index` and `.ds.metadata` of datatrove (pipeline/tokens/tokenizer.py)."""

    spools = ("tokens", "lengths")
    hashed = ("tokens", "positions")

    def finish_files(self) -> list[FinishedFile]:
        """`00000_tokens.ds` and so on, in a folder for each split where there are two."""
        stem = f"{self.folder}{self.shard:05d}_tokens.ds"
        return [
            self.spool_file("tokens", stem),
            self.made_file(f"{stem}.index", self._index()),
            self.made_file(f"{stem}.metadata", iter([self._metadata()])),
            *self.positions_file(f"{stem}.position_ids"),
        ]

    def _index(self) -> Iterator[Any]:
        place = 0
        for lengths in self.lengths():
            ends = place + np.cumsum(lengths)
            yield ends.astype("<u8").tobytes()
            place = int(ends[-1]) if len(ends) else place

    def _metadata(self) -> bytes:
        lines = [
            f"{self.place.tokenizer}|{self.place.dtype.itemsize}",
            str(self.tokens),
            _human(self.tokens),
        ]
        return "\n".join(lines).encode()


class NpySink(Sink):
    """NumPy files: `train.npy` with all tokens and `train.offsets.npy`, int64, where each document begins.

    Packed, the tokens are a matrix of a row a sequence, with another of position ids beside it.
    """

    spools = ("tokens", "lengths")

    def write(self, documents: Documents) -> None:
        """Leaves room for the headers, which hold the number of tokens."""
        for name in ("tokens", *(("positions",) if self._has_positions else ())):
            if not self.spool(name).length:
                self.spool(name).write(bytes(HEADER_BYTES))
        super().write(documents)

    def finish_files(self) -> list[FinishedFile]:
        """`train.npy`, or `train-00000.npy` and so on."""
        stem = "-".join(filter(None, (self.place.split, self.number)))
        length = self.settings.pack
        shape = (self.tokens,) if length is None else (self.tokens // length, length)
        files = [self._with_header("tokens", f"{stem}.npy", self.place.dtype, shape)]
        if length is None:
            files.append(self.made_file(f"{stem}.offsets.npy", self._offsets()))
        if self._has_positions:
            dtype = position_dtype(length or 1)
            files.append(self._with_header("positions", f"{stem}.position_ids.npy", dtype, shape))
        return files

    def _with_header(
        self, spool: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> FinishedFile:
        path = self.spool_path(spool)
        with writing(path), open(path, "r+b") as file:
            file.write(npy_header(dtype, shape))
            file.flush()
            os.fsync(file.fileno())
        return FinishedFile(path, name, os.path.getsize(path), digest_of(path).hexdigest())

    def _offsets(self) -> Iterator[Any]:
        yield npy_header(np.dtype("<i8"), (self.documents + 1,))
        yield np.array(0, "<i8").tobytes()
        place = 0
        for lengths in self.lengths():
            ends = place + np.cumsum(lengths)
            yield ends.astype("<i8").tobytes()
            place = int(ends[-1]) if len(ends) else place


HEADER_BYTES = 128


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """A header of version 1.0 of NumPy's format, always 128 bytes long."""
    shown = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shown}, }}"
    size = HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + text.ljust(size - 1).encode() + b"\n"


def position_dtype(length: int) -> np.dtype[Any]:
    """The type of the position ids of sequences of `length` tokens."""
    return np.dtype("<u2" if length <= 1 << 16 else "<u4")


def _human(number: int) -> str:
    size = float(number)
    for unit in ("", "K", "M", "B"):
        if size < 1000:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}T"
