"""A shuffle of all documents, out of core: dealt to buckets at random, then each bucket in random order.

Both draws come from the seed alone: which bucket a document goes to, from the block it is in; the order
within a bucket, from the bucket's number. Every order of all documents can come out, whatever the number of
buckets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llamatok.corpus.documents import Documents
from llamatok.corpus.errors import OutputError
from llamatok.corpus.files import AppendFile

__all__ = ["Shuffle", "bucket_count", "random_words"]

#: Bytes of tokens that a bucket is planned to hold; it is put in order in memory.
BUCKET_BYTES = 64 << 20
MOST_BUCKETS = 4096
#: Bytes of tokens that are kept before they are written to the buckets.
KEPT_BYTES = 32 << 20
#: Documents of a bucket that go on at a time.
PLACED_BYTES = 8 << 20

TOKENS = "\0tokens"


def bucket_count(token_bytes: int) -> int:
    """The number of buckets for about so many bytes of tokens."""
    return max(1, min(MOST_BUCKETS, token_bytes // BUCKET_BYTES))


def random_words(seed: int, *key: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` random numbers of 64 bits for a key: NumPy's Philox, whose raw output is the same for ever."""
    entropy = np.random.SeedSequence([seed, *key])
    return np.asarray(np.random.Philox(entropy).random_raw(count), np.uint64)


class Shuffle:
    """The buckets of one split."""

    def __init__(self, folder: str, split: str, number: int, seed: int, buckets: int) -> None:
        self._folder = folder
        self._split = split
        self._number = number
        self._seed = seed
        self.buckets = buckets
        self._lengths = [0] * buckets
        self._kept: list[list[Documents]] = [[] for _ in range(buckets)]
        self._kept_bytes = 0

    def add(self, documents: Documents, unit: int, block: int, mask: npt.NDArray[np.bool_]) -> None:
        """Deals out documents: those of a block that `mask` has left."""
        words = random_words(self._seed, 0, unit, block, count=len(mask))[mask]
        # The high half, scaled to the number of buckets.
        chosen = ((words >> np.uint64(32)) * np.uint64(self.buckets)) >> np.uint64(32)
        for bucket in np.unique(chosen).tolist():
            self._kept[bucket].append(documents.where(chosen == bucket))
        self._kept_bytes += documents.tokens.nbytes
        if self._kept_bytes >= KEPT_BYTES:
            self._flush()

    def _flush(self) -> None:
        for bucket, kept in enumerate(self._kept):
            if not kept:
                continue
            file = AppendFile(self._path(bucket), self._lengths[bucket])
            try:
                for documents in kept:
                    batch = _as_batch(documents)
                    if not file.length:
                        file.write(batch.schema.serialize())
                    file.write(batch.serialize())
                file.sync()
                self._lengths[bucket] = file.length
            finally:
                file.close()
        self._kept = [[] for _ in range(self.buckets)]
        self._kept_bytes = 0

    def state(self) -> dict[str, Any]:
        """How long each bucket is."""
        self._flush()
        return {"lengths": self._lengths}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up what `state` gave; what the buckets hold beyond it is cut off at the next writing."""
        self._lengths = state["lengths"]

    def placed(self, bucket: int, skip: int) -> Iterator[Documents]:
        """The documents of a bucket in their new order, some at a time, without the first `skip` parts."""
        length = self._lengths[bucket]
        if not length:
            return
        path = self._path(bucket)
        with pa.OSFile(path, "r") as file:
            content = file.read_buffer(length)
        if content.size < length:
            raise OutputError(
                f"the state of the run is damaged: `{path}` is too short", "start anew with --overwrite"
            )
        documents = _from_table(pa.ipc.open_stream(content).read_all())
        words = random_words(self._seed, 1, self._number, bucket, count=len(documents))
        order = np.argsort(words, kind="stable")
        ends = np.cumsum(documents.lengths[order]) * documents.tokens.itemsize
        start = part = 0
        while start < len(order):
            done = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + PLACED_BYTES, "right")))
            if part >= skip:
                yield documents.take(order[start:stop])
            part += 1
            start = stop

    def _path(self, bucket: int) -> str:
        return os.path.join(self._folder, f"{self._split}-bucket-{bucket:04d}")


def _as_batch(documents: Documents) -> pa.RecordBatch:
    tokens = pa.LargeListArray.from_arrays(pa.array(documents.offsets), pa.array(documents.tokens))
    arrays, names = [tokens], [TOKENS]
    if documents.columns is not None:
        table = documents.columns.combine_chunks()
        for name, column in zip(table.schema.names, table.columns, strict=True):
            names.append(name)
            arrays.append(column.chunk(0) if column.num_chunks else pa.array([], column.type))
    return pa.record_batch(arrays, names=names)


def _from_table(table: pa.Table) -> Documents:
    chunks = table.column(TOKENS).chunks
    tokens = np.concatenate([chunk.values.to_numpy() for chunk in chunks])
    lengths = np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in chunks])
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    columns = table.drop_columns([TOKENS]) if table.num_columns > 1 else None
    return Documents(tokens, offsets, columns)
