"""The ordered part: blocks of tokens come in the order of the input, and shards come out.

    block -> duplicates out -> train or validation -> [shuffle] -> [pack] -> sink

Everything here depends on the order of documents, so one thread does it, and it is kept cheap: the heavy work
was done by the workers. `state` after any block holds all that is needed to go on behind it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from llamatok.corpus.dedup import SeenHashes
from llamatok.corpus.documents import Documents, TokenBlock
from llamatok.corpus.packing import Packer
from llamatok.corpus.settings import Settings
from llamatok.corpus.shuffle import Shuffle
from llamatok.corpus.sinks import SINKS, FinishedShard, Place
from llamatok.corpus.totals import Totals

__all__ = ["Assembler"]


class Lane:
    """What happens to the documents of one split."""

    def __init__(self, place: Place, number: int, buckets: int, pad_id: int) -> None:
        settings = place.settings
        self.place = place
        self.sink = SINKS[settings.format](place)
        self.shuffle = (
            Shuffle(place.state, place.split, number, settings.seed, buckets) if settings.shuffle else None
        )
        self.packer = None
        if settings.pack is not None:
            self.packer = Packer(settings.pack, place.dtype, settings.position_ids)
        self._pad_id = pad_id

    def write(self, documents: Documents) -> None:
        """Adds documents in their final order."""
        if self.packer is not None:
            documents = self.packer.pack(documents)
        self.sink.append(documents)

    def finish(self) -> None:
        """Writes what is left over, and finishes the last shard."""
        if self.packer is not None and self.place.settings.pack_remainder == "pad":
            self.sink.append(self.packer.pad(self._pad_id))
        self.sink.finish()

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            "sink": self.sink.state(),
            "shuffle": None if self.shuffle is None else self.shuffle.state(),
            "packer": None if self.packer is None else self.packer.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self.sink.restore(state["sink"])
        if self.shuffle is not None:
            self.shuffle.restore(state["shuffle"])
        if self.packer is not None:
            self.packer.restore(state["packer"])


class Assembler:
    """Takes blocks in order; `finished` holds the shards that are complete since it was last emptied."""

    def __init__(
        self,
        settings: Settings,
        state_folder: str,
        dtype: np.dtype[Any],
        tokenizer: str,
        vocab_size: int,
        pad_id: int,
        buckets: int,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.totals = Totals()
        self.finished: list[FinishedShard] = []
        self._hashing = ThreadPoolExecutor(1, "llamatok-hash")
        self._lanes: dict[str, Lane] = {}
        for number, split in enumerate(settings.splits):
            place = Place(
                split, state_folder, settings, dtype, tokenizer, vocab_size, self._hashing, self.finished
            )
            self._lanes[split] = Lane(place, number, buckets, pad_id)
        self._seen: SeenHashes | None = None
        try:
            if state is not None:
                self.totals = Totals.from_json(state["totals"])
                for split, lane in self._lanes.items():
                    lane.restore(state["lanes"][split])
            if settings.dedup:
                self._seen = SeenHashes(state_folder, 0 if state is None else state["seen"])
        except BaseException:
            self.close()
            raise

    def apply(self, block: TokenBlock) -> dict[str, int]:
        """Adds a block; the counters tell what became of its documents."""
        started = time.thread_time()
        documents = block.documents
        keep = np.ones(len(documents), bool)
        if self._seen is not None and block.text_hashes is not None and len(documents):
            keep = self._seen.add(block.text_hashes)
        counts = {**block.counts, "duplicates": int(np.count_nonzero(~keep))}
        for split, mask in self._masks(block, keep):
            chosen = documents.where(mask)
            lane = self._lanes[split]
            self.totals.add_split(split, len(chosen), len(chosen.tokens))
            self.totals.add_lengths(chosen.lengths)
            counts["documents"] = counts.get("documents", 0) + len(chosen)
            counts["tokens"] = counts.get("tokens", 0) + len(chosen.tokens)
            if lane.shuffle is not None:
                lane.shuffle.add(chosen, block.unit, block.index, mask)
            else:
                lane.write(chosen)
        for name, count in counts.items():
            self.totals.counts[name] += count
        for reject in block.rejects:
            self.totals.add_reason(reject.reason)
        self.totals.add_seconds({**block.seconds, "write": time.thread_time() - started})
        return counts

    def _masks(
        self, block: TokenBlock, keep: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        if block.split_hashes is None:
            yield "train", keep
            return
        # A hash is as good as a draw from [0, 1); the same text or id always draws the same.
        share = block.split_hashes[:, 0].astype(np.float64) / 2.0**64
        is_val = share < self.settings.val_fraction
        yield "train", keep & ~is_val
        yield "val", keep & is_val

    def shuffled(self, split: int, bucket: int, part: int) -> Iterator[tuple[int, int, int]]:
        """Puts shuffled documents in their place, from the given part on; yields where to go on from."""
        for number, lane in enumerate(self._lanes.values()):
            if lane.shuffle is None or number < split:
                continue
            while bucket < lane.shuffle.buckets:
                for documents in lane.shuffle.placed(bucket, part):
                    started = time.thread_time()
                    lane.write(documents)
                    part += 1
                    self.totals.add_seconds({"write": time.thread_time() - started})
                    yield number, bucket, part
                bucket, part = bucket + 1, 0
            bucket = 0

    def finish(self) -> None:
        """Finishes the last shards."""
        for lane in self._lanes.values():
            lane.finish()

    def finish_indexes(self, records: list[dict[str, Any]]) -> None:
        """Finishes the files over all shards, given the records of the shards."""
        for split, lane in self._lanes.items():
            lane.sink.finish_index([record for record in records if record["split"] == split])

    @property
    def left_over(self) -> int:
        """Tokens that packing left out at the end."""
        if self.settings.pack_remainder == "pad":
            return 0
        return sum(lane.packer.left_over for lane in self._lanes.values() if lane.packer is not None)

    def sync(self) -> None:
        """Brings all that `state` refers to to the disk."""
        for lane in self._lanes.values():
            lane.sink.sync()
        if self._seen is not None:
            self._seen.sync()

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            "totals": self.totals.to_json(),
            "lanes": {split: lane.state() for split, lane in self._lanes.items()},
            "seen": None if self._seen is None else self._seen.length,
        }

    def close(self) -> None:
        """Closes all files."""
        for lane in self._lanes.values():
            lane.sink.close()
        if self._seen is not None:
            self._seen.close()
        self._hashing.shutdown()
