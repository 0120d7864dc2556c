"""The exceptions: their types, and that they name what is wrong."""

import errno

import numpy as np
import pytest

import llamatok
from llamatok import Tokenizer


def test_hierarchy():
    assert issubclass(llamatok.TokenizerError, ValueError)
    assert issubclass(llamatok.ModelFormatError, llamatok.TokenizerError)
    assert issubclass(llamatok.UnsupportedModelError, llamatok.ModelFormatError)


def test_missing_file(tmp_path):
    path = tmp_path / "none.model"
    with pytest.raises(FileNotFoundError) as caught:
        Tokenizer.from_file(path)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OSError, match=tmp_path.name) as caught:
        Tokenizer.from_file(str(tmp_path))
    assert caught.value.filename == str(tmp_path)


def test_not_a_model(tmp_path):
    path = tmp_path / "bad.model"
    path.write_bytes(b"\x00 not a model")
    with pytest.raises(llamatok.ModelFormatError, match=r"bad\.model"):
        Tokenizer.from_file(path)
    with pytest.raises(llamatok.ModelFormatError):
        Tokenizer.from_bytes(b"\x00 not a model")


@pytest.mark.parametrize("data", ["text", bytearray(b"x"), None])
def test_data_must_be_bytes(data):
    with pytest.raises(TypeError, match="data must be bytes, not"):
        Tokenizer.from_bytes(data)


def test_paths_must_be_paths():
    with pytest.raises(TypeError):
        Tokenizer.from_file(3)


def test_cache_bytes_must_not_be_negative():
    with pytest.raises(ValueError, match="cache_bytes must not be negative"):
        Tokenizer.default(cache_bytes=-1)


def test_lone_surrogates(default_tokenizer):
    with pytest.raises(UnicodeEncodeError) as caught:
        default_tokenizer.encode("ab\ud800c")
    assert (caught.value.encoding, caught.value.start, caught.value.end) == ("utf-8", 2, 3)
    with pytest.raises(UnicodeEncodeError, match=r"in texts\[1\]"):
        default_tokenizer.encode_batch(["fine", "ab\ud800c"])
    with pytest.raises(UnicodeEncodeError):
        default_tokenizer.count("\udfff")


@pytest.mark.parametrize("text", [None, 3, ["a"], bytearray(b"a")])
def test_text_of_a_wrong_type(default_tokenizer, text):
    with pytest.raises(TypeError, match=f"text must be str or bytes, not {type(text).__name__}"):
        default_tokenizer.encode(text)


def test_one_of_several_texts_of_a_wrong_type(default_tokenizer):
    with pytest.raises(TypeError, match=r"^texts\[3\] must be str or bytes, not int$"):
        default_tokenizer.encode_batch(["a", "b", b"c", 4])
    with pytest.raises(TypeError, match=r"^texts\[1\] must be str or bytes, not NoneType$"):
        default_tokenizer.count(["a", None])
    with pytest.raises(TypeError, match=r"^texts\[0\] must be str or bytes, not float$"):
        default_tokenizer.encode_batch(np.array([1.5]))


@pytest.mark.parametrize("texts", ["one text", b"one text", bytearray(b"one text")])
def test_a_single_text_is_no_batch(default_tokenizer, texts):
    with pytest.raises(TypeError, match="hint: put it in a list"):
        default_tokenizer.encode_batch(texts)


def test_a_number_is_no_batch(default_tokenizer):
    with pytest.raises(TypeError, match="not int"):
        default_tokenizer.encode_batch(3)


def test_arrays_of_texts_have_one_dimension(default_tokenizer):
    with pytest.raises(TypeError, match="one dimension, not 2"):
        default_tokenizer.encode_batch(np.array([["a"], ["b"]]))


def test_errors_of_iterators_come_through(default_tokenizer):
    def texts():
        yield "a"
        raise KeyError("from the iterator")

    def ids():
        yield 5
        raise KeyError("from the iterator")

    with pytest.raises(KeyError, match="from the iterator"):
        default_tokenizer.encode_batch(texts())
    with pytest.raises(KeyError, match="from the iterator"):
        default_tokenizer.decode(ids())


@pytest.mark.parametrize("id", [32000, -1, 2**32, 2**64, -(2**70)])
def test_ids_out_of_range(default_tokenizer, id):
    with pytest.raises(IndexError, match=f"id {id} at index 2 .*32000"):
        default_tokenizer.decode([5, 6, id])
    with pytest.raises(IndexError, match=f"id {id} at index 2 .*32000"):
        default_tokenizer.decode_bytes((5, 6, id))
    with pytest.raises(IndexError, match=rf"id {id} at index 2 of ids\[1\] .*32000"):
        default_tokenizer.decode_batch([[5], [6, 7, id], []])
    with pytest.raises(IndexError, match=f"id {id} at index 0 .*32000"):
        default_tokenizer.stream_decoder().push(id)
    with pytest.raises(IndexError, match=f"id {id} at index 1 .*32000"):
        default_tokenizer.stream_decoder(prefill=[5, id])
    with pytest.raises(IndexError, match=f"id {id} is out of range.*32000"):
        default_tokenizer.id_to_piece(id)
    with pytest.raises(IndexError):
        default_tokenizer.score(id)
    with pytest.raises(IndexError):
        default_tokenizer.kind(id)


@pytest.mark.parametrize("id", [32000, -1, 2**33])
def test_ids_out_of_range_in_arrays(default_tokenizer, id):
    with pytest.raises(IndexError, match=f"id {id} at index 1 "):
        default_tokenizer.decode(np.array([5, id]))
    with pytest.raises(IndexError, match=rf"id {id} at index 0 of ids\[1\] "):
        default_tokenizer.decode_batch(np.array([[5, 5], [id, 5]]))


@pytest.mark.parametrize("id", ["a", 1.0, None, [5]])
def test_ids_of_a_wrong_type(default_tokenizer, id):
    with pytest.raises(TypeError, match=rf"^ids\[1\] must be int, not {type(id).__name__}$"):
        default_tokenizer.decode([5, id])
    with pytest.raises(TypeError, match=rf"^ids\[1\]\[0\] must be int, not {type(id).__name__}$"):
        default_tokenizer.decode_batch([[5], [id]])
    with pytest.raises(TypeError, match=f"id must be int, not {type(id).__name__}"):
        default_tokenizer.id_to_piece(id)


@pytest.mark.parametrize("ids", ["12", b"12", bytearray(b"12"), memoryview(b"12"), 5, None])
def test_not_a_list_of_ids(default_tokenizer, ids):
    found = type(ids).__name__
    with pytest.raises(TypeError, match=f"ids must be an iterable of int, not {found}"):
        default_tokenizer.decode(ids)
    with pytest.raises(TypeError, match=rf"ids\[0\] must be an iterable of int, not {found}"):
        default_tokenizer.decode_batch([ids])
    with pytest.raises(TypeError, match=found):
        default_tokenizer.decode_batch(ids)


@pytest.mark.parametrize("dtype", ["f8", "f2", "bool", "U1", "c16"])
def test_arrays_must_be_integers(default_tokenizer, dtype):
    with pytest.raises(TypeError, match="ids must be integers, not"):
        default_tokenizer.decode(np.array([1, 0]).astype(dtype))


def test_arrays_of_ids_have_one_dimension(default_tokenizer):
    with pytest.raises(ValueError, match="one dimension, not 2"):
        default_tokenizer.decode(np.array([[1, 2]]))
    with pytest.raises(ValueError, match="one dimension, not 0"):
        default_tokenizer.decode(np.array(1))


@pytest.mark.parametrize("num_threads", [0, -1])
def test_num_threads_must_be_positive(default_tokenizer, num_threads):
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        default_tokenizer.encode_batch(["a"], num_threads=num_threads)
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        default_tokenizer.count(["a"], num_threads=num_threads)
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        default_tokenizer.decode_batch([[5]], num_threads=num_threads)


def test_there_is_no_constructor():
    with pytest.raises(TypeError):
        Tokenizer()


def test_nothing_can_be_assigned(default_tokenizer):
    with pytest.raises(AttributeError):
        default_tokenizer.bos_id = 5
    with pytest.raises(AttributeError):
        default_tokenizer.extra = 5
