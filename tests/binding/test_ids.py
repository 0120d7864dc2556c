"""What `decode`, `decode_bytes`, `decode_batch` and `StreamDecoder.push` take for ids."""

import numpy as np
import pytest

TEXT = "Hello wörld 🙂"


@pytest.fixture
def ids(default_tokenizer):
    return default_tokenizer.encode(TEXT)


@pytest.mark.parametrize("make", [list, tuple, iter, lambda ids: (id for id in ids), np.array])
def test_containers(default_tokenizer, ids, make):
    assert default_tokenizer.decode(make(ids)) == TEXT
    assert default_tokenizer.decode_bytes(make(ids)) == TEXT.encode()


@pytest.mark.parametrize(
    "dtype", ["u4", "i8", "i4", "u8", "u2", "i2", ">i8", ">u4", ">u2", "longlong", "ulonglong", "intp"]
)
def test_numpy_integer_types(default_tokenizer, ids, dtype):
    assert default_tokenizer.decode(np.array(ids, dtype=dtype)) == TEXT


def test_small_numpy_integers(default_tokenizer):
    assert default_tokenizer.decode(np.array([72], dtype="u1")) == default_tokenizer.decode([72])
    assert default_tokenizer.decode(np.array([72], dtype="i1")) == default_tokenizer.decode([72])


def test_strided_and_read_only_arrays(default_tokenizer, ids):
    wide = np.repeat(np.array(ids, dtype=np.int64), 2)[::2]
    wide.setflags(write=False)
    assert default_tokenizer.decode(wide) == TEXT
    assert default_tokenizer.decode(wide[::-1]) == default_tokenizer.decode(ids[::-1])


@pytest.mark.parametrize("dtype", ["u4", "i8", "i4", "u2"])
def test_arrays_that_are_not_aligned(default_tokenizer, ids, dtype):
    """A view of bytes may begin anywhere, and a field of a record has the record's stride."""
    view = np.frombuffer(b"\0" + np.array(ids, dtype).tobytes(), dtype, offset=1)
    record = np.zeros(len(ids), [("mark", "u1"), ("id", dtype)])
    record["id"] = ids
    for array in (view, record["id"]):
        assert not array.flags.aligned
        assert default_tokenizer.decode(array) == default_tokenizer.decode(ids)


def test_numpy_scalars_in_a_list(default_tokenizer, ids):
    assert default_tokenizer.decode([np.int64(id) for id in ids]) == TEXT


def test_objects_with_array_method(default_tokenizer, ids):
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.array(ids, dtype=np.int32)

    assert default_tokenizer.decode(Tensor()) == TEXT
    assert default_tokenizer.decode_batch([Tensor(), Tensor()]) == [TEXT, TEXT]


def test_torch_tensors(default_tokenizer, ids):
    torch = pytest.importorskip("torch")
    assert default_tokenizer.decode(torch.tensor(ids)) == TEXT
    assert default_tokenizer.decode_batch(torch.tensor([ids, ids])) == [TEXT, TEXT]
    assert default_tokenizer.stream_decoder().push(torch.tensor(ids[0])) is not None


@pytest.mark.parametrize("empty", [[], (), np.array([]), np.array([], dtype=np.uint32)])
def test_no_ids(default_tokenizer, empty):
    assert default_tokenizer.decode(empty) == ""
    assert default_tokenizer.decode_bytes(empty) == b""
    assert default_tokenizer.decode_batch([empty]) == [""]


def test_decode_bytes_is_lossless(default_tokenizer):
    byte = default_tokenizer.piece_to_id("<0xF0>")
    assert default_tokenizer.decode([byte]) == "\ufffd"
    assert default_tokenizer.decode_bytes([byte]) == b"\xf0"


def test_skip_special_tokens(default_tokenizer, ids):
    marked = [default_tokenizer.bos_id, *ids, default_tokenizer.eos_id]
    assert default_tokenizer.decode(marked, skip_special_tokens=True) == TEXT
    assert default_tokenizer.decode_bytes(marked, skip_special_tokens=True) == TEXT.encode()
    assert default_tokenizer.decode_batch([marked], skip_special_tokens=True) == [TEXT]


def test_decode_batch_inputs(default_tokenizer):
    texts = ["Hello", "", "wörld 🙂", "x" * 50]
    batch = default_tokenizer.encode_batch(texts)
    for lists in (
        batch,
        batch[:],
        batch.to_lists(),
        tuple(batch.to_lists()),
        iter(batch),
        list(batch),
        [ids.astype(np.int64) for ids in batch],
    ):
        assert default_tokenizer.decode_batch(lists) == texts
    assert default_tokenizer.decode_batch(batch, num_threads=2) == texts
    assert default_tokenizer.decode_batch([]) == []


def test_decode_batch_of_a_rectangle(default_tokenizer, ids):
    rectangle = np.array([ids, ids])
    assert default_tokenizer.decode_batch(rectangle) == [TEXT, TEXT]


def test_pieces(default_tokenizer):
    pieces = default_tokenizer.pieces()
    assert len(pieces) == default_tokenizer.vocab_size == len(default_tokenizer)
    for id in (0, 1, 300, len(pieces) - 1):
        assert default_tokenizer.id_to_piece(id) == pieces[id]
        assert default_tokenizer.piece_to_id(pieces[id]) == id
        assert isinstance(default_tokenizer.score(id), float)
    assert default_tokenizer.piece_to_id("no such piece") is None
    assert default_tokenizer.id_to_piece(np.int64(1)) == pieces[1]
    assert default_tokenizer.kind(default_tokenizer.unk_id) == "UNKNOWN"
    assert default_tokenizer.kind(default_tokenizer.bos_id) == "CONTROL"
    assert default_tokenizer.kind(default_tokenizer.piece_to_id("<0x0A>")) == "BYTE"


def test_settings(default_tokenizer):
    settings = default_tokenizer.settings
    assert settings["format"] == "sentencepiece"
    assert settings["vocab_size"] == sum(settings["kinds"].values()) == 32000
    assert settings["kinds"]["BYTE"] == 256
    assert settings["byte_fallback"] is True
    assert settings["add_dummy_prefix"] is True
    assert settings["remove_extra_whitespaces"] is False
    assert (settings["engine"], settings["engine_reason"]) == ("fast", None)
    assert (settings["unk_id"], settings["bos_id"], settings["eos_id"]) == (0, 1, 2)


def test_ints_of_all_kinds(default_tokenizer, ids):
    """Lists of plain int go another way than the rest."""

    class Int(int):
        pass

    assert default_tokenizer.decode([Int(id) for id in ids]) == TEXT
    assert default_tokenizer.decode([ids[0], *(np.int16(id) if id < 2**15 else id for id in ids[1:])]) == TEXT
    assert default_tokenizer.decode([True]) == default_tokenizer.decode([1])
    for id in (-1, -(2**31), 2**31, 2**32, 2**63, -(2**63), 2**64, 10**30):
        with pytest.raises(IndexError, match=f"id {id} at index 1"):
            default_tokenizer.decode([5, id])
