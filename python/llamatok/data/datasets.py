"""A map-style and an iterable dataset over token shards."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from llamatok.data.shards import ShardArrays, ShardFile, list_shards

__all__ = ["StreamingTokenDataset", "TokenDataset"]

#: Shards whose arrays are kept. Flat formats are only mapped; others are in memory.
OPEN_SHARDS = 4
#: Neighbouring items that stay in one block when an epoch is shuffled: reading stays local.
BLOCK_ITEMS = 1024

Item = dict[str, torch.Tensor]


class TokenDataset(Dataset[Item]):
    """Token shards by number.

    An item has `input_ids` (int64, of shape ``(length,)``) and, where the run was packed with position ids
    and items are its sequences, `position_ids` of the same shape.

    Args:
        folder: What `llamatok corpus` wrote.
        split: "train" or "val".
        sequence_length: Items are runs of so many tokens, over the borders of documents; at the end of each
            shard, what does not fill one is left out. Without it, items are packed sequences, or documents.

    Raises:
        FileNotFoundError: The folder has no manifest: the run is not finished.
        ValueError: There is no such split; or items would be documents, and the format does not tell where
            they begin (nanoGPT's).
    """

    def __init__(
        self, folder: str | os.PathLike[str], split: str = "train", *, sequence_length: int | None = None
    ) -> None:
        if sequence_length is not None and sequence_length < 1:
            raise ValueError(f"sequence_length must be at least 1, not {sequence_length}")
        self._shards = list_shards(folder, split)
        self._open: OrderedDict[int, ShardArrays] = OrderedDict()
        self._full: list[npt.NDArray[np.int64] | None] = [None] * len(self._shards)
        self.sequence_length = sequence_length
        counts = [self._count(number, shard) for number, shard in enumerate(self._shards)]
        self._starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.array(counts, np.int64))))

    def _count(self, number: int, shard: ShardFile) -> int:
        if self.sequence_length is not None:
            return shard.tokens // self.sequence_length
        if shard.pack is not None:
            return shard.tokens // shard.pack
        offsets = self._arrays(number).offsets
        if offsets is None:
            raise ValueError(
                f"format {shard.form} does not tell where documents begin: give sequence_length, "
                "or write another format"
            )
        lengths = np.diff(offsets)
        if (lengths == 0).any():
            self._full[number] = np.flatnonzero(lengths)
        return int(np.count_nonzero(lengths))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Item:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        number = int(np.searchsorted(self._starts, index, "right")) - 1
        place = index - int(self._starts[number])
        arrays = self._arrays(number)
        length = self.sequence_length
        if length is not None:
            return _item(
                arrays, place * length, (place + 1) * length, with_positions=length == self._shards[0].pack
            )
        full = self._full[number]
        if full is not None:
            place = int(full[place])
        assert arrays.offsets is not None
        return _item(arrays, int(arrays.offsets[place]), int(arrays.offsets[place + 1]), with_positions=True)

    def _arrays(self, number: int) -> ShardArrays:
        found = self._open.get(number)
        if found is None:
            found = self._open[number] = self._shards[number].load()
            while len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(number)
        return found

    def __getstate__(self) -> dict[str, Any]:
        # Maps are opened anew in each worker.
        return {**vars(self), "_open": OrderedDict()}


def _item(arrays: ShardArrays, start: int, stop: int, with_positions: bool) -> Item:
    item = {"input_ids": torch.from_numpy(arrays.tokens[start:stop].astype(np.int64))}
    if with_positions and arrays.positions is not None:
        item["position_ids"] = torch.from_numpy(arrays.positions[start:stop].astype(np.int64))
    return item


class StreamingTokenDataset(IterableDataset[Item]):
    """The items of a `TokenDataset` in a random order, shared out among ranks and workers.

    All ranks have equally many items; up to ``world_size - 1`` are left out of an epoch. Within a rank,
    workers take turns by batches, so that a DataLoader of the same batch size gives the same batches for any
    number of workers. A place in an epoch can be saved and taken up again.

    Args:
        folder, split, sequence_length: As for `TokenDataset`.
        batch_size: That of the DataLoader.
        shuffle: Whether each epoch has a random order; blocks of 1,024 neighbours stay near one another.
        seed: Decides the orders.
        rank, world_size: By default those of torch.distributed, or of the environment (RANK, WORLD_SIZE), or
            0 and 1.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str = "train",
        *,
        sequence_length: int | None = None,
        batch_size: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.items = TokenDataset(folder, split, sequence_length=sequence_length)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        found_rank, found_size = _rank_and_size()
        self.rank = found_rank if rank is None else rank
        self.world_size = found_size if world_size is None else world_size
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} is not one of {self.world_size}")
        self._epoch = 0
        self._position = 0

    def __len__(self) -> int:
        """The items of an epoch on this rank."""
        return len(self.items) // self.world_size

    def __iter__(self) -> Iterator[Item]:
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        first = self._position
        for place, index in enumerate(self._order(self._epoch)):
            if place < first or ((place - first) // self.batch_size) % workers != number:
                continue
            self._position = place + 1
            yield self.items[index]
        self._epoch += 1
        self._position = 0

    def _order(self, epoch: int) -> Iterator[int]:
        """The items of this rank in an epoch."""
        whole = len(self)
        if not self.shuffle:
            yield from range(self.rank, whole * self.world_size, self.world_size)
            return
        chance = np.random.default_rng([self.seed, epoch])
        blocks = -(-len(self.items) // BLOCK_ITEMS)
        given = place = 0
        for block in chance.permutation(blocks).tolist():
            start = block * BLOCK_ITEMS
            size = min(BLOCK_ITEMS, len(self.items) - start)
            for offset in chance.permutation(size).tolist():
                if place % self.world_size == self.rank:
                    if given == whole:
                        return
                    given += 1
                    yield start + offset
                place += 1

    def state_dict(self, batches: int | None = None) -> dict[str, int]:
        """The place in the epoch.

        With workers, the items are made in other processes: tell how many batches of this epoch were taken
        from the DataLoader since it was begun or the state was loaded.

        Raises:
            ValueError: the epoch has not so many batches.
        """
        position = self._position
        if batches is not None:
            left = -(-(len(self) - position) // self.batch_size)
            if not 0 <= batches <= left:
                raise ValueError(
                    f"batches must be from 0 to {left}, what is left of the epoch, not {batches}"
                )
            position = min(position + batches * self.batch_size, len(self))
        return {"epoch": self._epoch, "position": position, "seed": self.seed, "world_size": self.world_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on at a place that `state_dict` gave.

        Raises:
            ValueError: The order is another one, or the place is beyond the end of the epoch.
        """
        for name in ("seed", "world_size"):
            if state[name] != getattr(self, name):
                raise ValueError(f"the state is of another {name}: {state[name]}, not {getattr(self, name)}")
        if not 0 <= state["position"] <= len(self):
            raise ValueError(f"the state is at item {state['position']} of an epoch of {len(self)}")
        self._epoch = state["epoch"]
        self._position = state["position"]

    def set_epoch(self, epoch: int) -> None:
        """Begins an epoch; with workers, call this before each."""
        self._epoch = epoch
        self._position = 0


def _rank_and_size() -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
