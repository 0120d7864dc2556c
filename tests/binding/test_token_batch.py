"""`TokenBatch`: indexing, conversions, and memory that is shared and never writable."""

import gc
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from llamatok import TokenBatch


@pytest.fixture
def batch():
    return TokenBatch([1, 2, 3, 4, 5, 6], [0, 2, 2, 6], pad_id=9)


LISTS = [[1, 2], [], [3, 4, 5, 6]]


def test_arrays(batch):
    assert batch.ids.dtype == np.uint32
    assert batch.offsets.dtype == np.int64
    assert batch.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert batch.offsets.tolist() == [0, 2, 2, 6]
    assert len(batch) == 3
    assert batch.to_lists() == LISTS
    assert repr(batch) == "TokenBatch(3 texts, 6 ids)"


def test_arrays_share_memory_and_are_read_only(batch):
    assert np.shares_memory(batch.ids, batch.ids)
    assert np.shares_memory(batch[2], batch.ids)
    assert np.shares_memory(batch[1:].ids, batch.ids)
    for array in (batch.ids, batch.offsets, batch[0], next(iter(batch))):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_lists_of_ids_small_and_large():
    """The objects of ids are shared where that pays, which nobody may notice."""
    chance = np.random.default_rng(1)
    for limit, count in ((10, 3), (10, 1000), (32000, 100), (32000, 5000), (2**32, 5000)):
        ids = chance.integers(0, limit, count, dtype=np.uint32)
        assert TokenBatch(ids, [0, 1, count]).to_lists() == [ids[:1].tolist(), ids[1:].tolist()]


def test_arrays_outlive_the_batch(default_tokenizer):
    arrays = [default_tokenizer.encode_batch(["Hello world"] * 1000).ids for _ in range(10)]
    gc.collect()
    expected = default_tokenizer.encode("Hello world") * 1000
    assert all(array.tolist() == expected for array in arrays)


def test_indexing(batch):
    assert [batch[i].tolist() for i in range(3)] == LISTS
    assert [batch[i].tolist() for i in range(-3, 0)] == LISTS
    assert batch[np.int64(2)].tolist() == LISTS[2]
    for index in (3, -4, 10**30):
        with pytest.raises(IndexError, match=f"index {index} is out of range"):
            batch[index]
    for index in ("a", 1.0, None):
        with pytest.raises(TypeError):
            batch[index]


@pytest.mark.parametrize(
    "index",
    [slice(s, e, t) for s in (None, 0, 1, -1, 5) for e in (None, 0, 2, -1, 9) for t in (None, 1, 2, -1, -2)],
)
def test_slices(batch, index):
    part = batch[index]
    assert isinstance(part, TokenBatch)
    assert part.to_lists() == LISTS[index]
    assert part.offsets[0] == 0
    assert part.pad_id == 9


def test_slices_of_slices(batch):
    assert batch[1:][1:].to_lists() == [LISTS[2]]
    assert batch[::-1][0].tolist() == LISTS[2]


def test_iteration(batch):
    assert [ids.tolist() for ids in batch] == LISTS
    iterator = iter(batch)
    assert iter(iterator) is iterator
    assert [ids.tolist() for ids in iterator] == LISTS
    assert list(iterator) == []


def test_equality(batch):
    assert batch == TokenBatch(np.arange(1, 7), np.array([0, 2, 2, 6]))
    assert batch != batch[1:]
    assert batch != TokenBatch([1, 2, 3, 4, 5, 6], [0, 1, 2, 6])
    assert batch != "something else"


def test_padding(batch):
    ids, mask = batch.to_padded()
    assert ids.dtype == mask.dtype == np.int64
    assert ids.tolist() == [[1, 2, 9, 9], [9, 9, 9, 9], [3, 4, 5, 6]]
    assert mask.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]


def test_padding_on_the_left(batch):
    ids, mask = batch.to_padded(side="left", pad_id=0)
    assert ids.tolist() == [[0, 0, 1, 2], [0, 0, 0, 0], [3, 4, 5, 6]]
    assert mask.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]


def test_padding_to_a_length(batch):
    ids, mask = batch.to_padded(max_length=3)
    assert ids.tolist() == [[1, 2, 9], [9, 9, 9], [3, 4, 5]]
    assert mask.tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert batch.to_padded(3, "left")[0].tolist() == [[9, 1, 2], [9, 9, 9], [3, 4, 5]]
    assert batch.to_padded(6)[0].shape == (3, 6)
    assert batch.to_padded(0)[0].shape == (3, 0)


# From about 4,000 rows on, the arrays lie in large pages.
@pytest.mark.parametrize("rows", [3000, 4000, 6000, 13_000])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_many_lengths(side, rows):
    chance = np.random.default_rng(3)
    lists = [chance.integers(0, 2**32, length) for length in chance.integers(0, 70, rows)]
    offsets = np.cumsum([0, *map(len, lists)])
    ids, mask = TokenBatch(np.concatenate(lists), offsets).to_padded(max_length=64, side=side, pad_id=7)
    for row, marks, full in zip(ids.tolist(), mask.tolist(), lists, strict=True):
        kept = full[:64].tolist()
        padding = 64 - len(kept)
        expected = [7] * padding + kept if side == "left" else kept + [7] * padding
        assert row == expected
        assert marks == (
            [0] * padding + [1] * len(kept) if side == "left" else [1] * len(kept) + [0] * padding
        )
    for array in (ids, mask):
        assert array.shape == (rows, 64)
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.flags.aligned
        copy = pickle.loads(pickle.dumps(array))
        assert (copy == array).all()
        copy.fill(0)
        array.fill(1)
        assert array.sum() == array.size


def test_padding_of_nothing(batch):
    ids, mask = batch[:0].to_padded()
    assert ids.shape == mask.shape == (0, 0)


def test_padding_needs_a_pad_id(default_tokenizer):
    batch = default_tokenizer.encode_batch(["a b c", "d"])
    assert batch.pad_id == default_tokenizer.pad_id
    if batch.pad_id is None:
        with pytest.raises(ValueError, match="hint: name an id by `pad_id`"):
            batch.to_padded()
    assert batch.to_padded(pad_id=0)[0].shape[0] == 2


def test_padding_with_wrong_arguments(batch):
    with pytest.raises(ValueError, match="side must be 'left' or 'right', not \"middle\""):
        batch.to_padded(side="middle")
    with pytest.raises(ValueError, match="max_length must not be negative"):
        batch.to_padded(max_length=-1)
    for length in (2**62, 2**61 - 2**18 + 128, 2**60, 2**50):
        with pytest.raises(MemoryError, match="do not fit in memory"):
            batch.to_padded(max_length=length)
        with pytest.raises(MemoryError, match="do not fit in memory"):
            batch[:1].to_padded(max_length=length)


@pytest.mark.parametrize("offsets", [[], [0], [1, 6], [0, 5], [0, 7], [0, 4, 3, 6], [0, -1, 6]])
def test_bad_offsets(offsets):
    with pytest.raises(ValueError, match="offsets must begin with 0"):
        TokenBatch([1, 2, 3, 4, 5, 6], offsets)


def test_torch(batch):
    torch = pytest.importorskip("torch")
    ids, offsets = batch.to_torch()
    assert ids.dtype == offsets.dtype == torch.int64
    assert ids.tolist() == batch.ids.tolist()
    assert offsets.tolist() == batch.offsets.tolist()
    ids[0] = 77  # a copy, and writable
    assert batch.ids[0] == 1


def test_torch_gets_arrays_that_it_may_keep(batch, monkeypatch):
    """`torch.from_numpy` shares memory, and warns of arrays that are not writable."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=lambda array: array))
    ids, offsets = batch.to_torch()
    assert ids.tolist() == batch.ids.tolist()
    assert offsets.tolist() == batch.offsets.tolist()
    for array in (ids, offsets):
        assert array.dtype == np.int64
        assert array.flags.writeable
    assert not np.shares_memory(offsets, batch.offsets)


def test_torch_is_asked_for(batch, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"llamatok\[torch\]"):
        batch.to_torch()
