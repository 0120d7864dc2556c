"""`TextBatch`: what `decode_text_batch` returns, in one piece of memory that is shared and never writable."""

import gc
import pickle

import numpy as np
import pytest

from llamatok import TextBatch

TEXTS = ["Hello world", "", "Grüße, 世界 🦙", "a\nb"]


@pytest.fixture
def batch(default_tokenizer):
    return default_tokenizer.decode_text_batch(default_tokenizer.encode_batch(TEXTS))


def test_texts(batch):
    assert isinstance(batch, TextBatch)
    assert batch.to_list() == TEXTS
    assert list(batch) == TEXTS
    assert len(batch) == 4
    assert repr(batch) == f"TextBatch(4 texts, {len(''.join(TEXTS).encode())} bytes)"
    iterator = iter(batch)
    assert iter(iterator) is iterator
    assert list(iterator) == TEXTS
    assert list(iterator) == []


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_the_texts_are_those_of_decode_batch(default_tokenizer, threads):
    chance = np.random.default_rng(5)
    size = default_tokenizer.vocab_size
    lists = [chance.integers(0, size, length) for length in (0, 1, 3, 5000, 70000)] * 4
    for skip in (False, True):
        options = {"skip_special_tokens": skip}
        batch = default_tokenizer.decode_text_batch(lists, num_threads=threads, **options)
        assert batch.to_list() == default_tokenizer.decode_batch(lists, num_threads=threads, **options)
        assert batch.to_list() == [default_tokenizer.decode(ids, **options) for ids in lists]
        assert [len(text.encode()) for text in batch] == np.diff(batch.offsets).tolist()


def test_arrays_share_memory_and_are_read_only(batch):
    assert batch.bytes.dtype == np.uint8
    assert batch.offsets.dtype == np.int64
    assert batch.bytes.tobytes() == "".join(TEXTS).encode()
    assert bytes(memoryview(batch.bytes)[:5]) == b"Hello"
    assert np.shares_memory(batch.bytes, batch[2:].bytes)
    for array in (batch.bytes, batch.offsets):
        assert not array.flags.writeable
    part = batch[2:].bytes
    del batch
    gc.collect()
    assert part.tobytes() == "".join(TEXTS[2:]).encode()


def test_indexing(batch):
    assert [batch[i] for i in range(-4, 4)] == TEXTS + TEXTS
    for index in (4, -5, 10**30):
        with pytest.raises(IndexError, match=f"index {index} is out of range: the batch has 4 texts"):
            batch[index]
    with pytest.raises(TypeError, match="a TextBatch is indexed by integers and slices"):
        batch["a"]


@pytest.mark.parametrize(
    "index", [slice(1, 3), slice(None), slice(5, None), slice(None, None, -1), slice(0, 4, 2)]
)
def test_slices(batch, index):
    part = batch[index]
    assert isinstance(part, TextBatch)
    assert part.to_list() == TEXTS[index]
    assert part.offsets[0] == 0


def test_made_by_hand(batch):
    data = "".join(TEXTS).encode()
    for values in (data, np.frombuffer(data, np.uint8)):
        assert TextBatch(values, batch.offsets) == batch
        assert TextBatch(values, batch.offsets.tolist()) == batch
    assert TextBatch(b"", [0]).to_list() == []
    assert batch != TextBatch(data, [0, len(data)])
    assert batch != TEXTS


def test_made_wrongly():
    with pytest.raises(TypeError, match="bytes must be bytes or an array of uint8, not str"):
        TextBatch("text", [0, 4])
    for offsets in ([], [0], [0, 3], [0, 3, 2, 4], [1, 4]):
        with pytest.raises(
            ValueError, match="offsets must begin with 0, never fall, and end with the number of bytes: 4"
        ):
            TextBatch(b"text", offsets)
    data = "aé".encode()
    with pytest.raises(ValueError, match="text 1 is not valid UTF-8"):
        TextBatch(data, [0, 1, 2, 3])
    with pytest.raises(ValueError, match="text 0 is not valid UTF-8"):
        TextBatch(b"\xff", [0, 1])


def test_pickles(batch):
    for part in (batch, batch[1:], batch[:0]):
        assert pickle.loads(pickle.dumps(part)) == part


def test_arrow(default_tokenizer, batch):
    pa = pytest.importorskip("pyarrow")
    for part, texts in ((batch, TEXTS), (batch[1:3], TEXTS[1:3]), (batch[:0], [])):
        array = pa.array(part)
        array.validate(full=True)
        assert array.type == pa.large_string()
        assert array.to_pylist() == texts
    address = batch.bytes.__array_interface__["data"][0]
    assert pa.array(batch).buffers()[2].address == address
    again = default_tokenizer.encode_batch(batch)
    assert again == default_tokenizer.encode_batch(TEXTS)


def test_ids_out_of_range(default_tokenizer):
    size = default_tokenizer.vocab_size
    with pytest.raises(IndexError, match=rf"id {size} at index 1 of ids\[2\] is out of range"):
        default_tokenizer.decode_text_batch([[5], [], [6, size]])
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        default_tokenizer.decode_text_batch([[5]], num_threads=0)
