"""Arrow's C data interface, in and out, with pyarrow, polars and duckdb for partners."""

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

TEXTS = ["Hello world", "", "short", "longer than the twelve bytes of a view", "你好 🙂"]

STRING_TYPES = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]
if hasattr(pa, "string_view"):
    STRING_TYPES += [pa.string_view(), pa.binary_view()]


@pytest.fixture
def expected(default_tokenizer):
    return [default_tokenizer.encode(text) for text in TEXTS]


def make(texts, type):
    if pa.types.is_string(type) or pa.types.is_large_string(type) or "string" in str(type):
        return pa.array(texts, type)
    return pa.array([text if text is None else text.encode() for text in texts], type)


@pytest.mark.parametrize("type", STRING_TYPES, ids=str)
def test_strings(default_tokenizer, expected, type):
    array = make(TEXTS, type)
    assert default_tokenizer.encode_batch(array).to_lists() == expected
    assert default_tokenizer.encode_batch(array[1:4]).to_lists() == expected[1:4]
    assert default_tokenizer.encode_batch(array[:0]).to_lists() == []
    assert default_tokenizer.count(array).tolist() == [len(ids) for ids in expected]


@pytest.mark.parametrize("type", STRING_TYPES, ids=str)
def test_chunks(default_tokenizer, expected, type):
    chunks = pa.chunked_array([make(TEXTS, type), make([], type), make(TEXTS, type)[2:]])
    assert default_tokenizer.encode_batch(chunks).to_lists() == expected + expected[2:]


@pytest.mark.parametrize("type", STRING_TYPES, ids=str)
def test_nulls_are_refused(default_tokenizer, type):
    array = make(["a", "b", None, None], type)
    with pytest.raises(ValueError, match="row 2 of the Arrow data is null"):
        default_tokenizer.encode_batch(array)
    with pytest.raises(ValueError, match="row 1 of the Arrow data is null"):
        default_tokenizer.encode_batch(array[1:])
    with pytest.raises(ValueError, match="row 4 of the Arrow data is null"):
        default_tokenizer.encode_batch(pa.chunked_array([make(["a", "b"], type), array]))
    assert len(default_tokenizer.encode_batch(array[:2])) == 2


@pytest.mark.parametrize("keys", [pa.int8(), pa.int32(), pa.uint16(), pa.int64()], ids=str)
def test_dictionaries(default_tokenizer, expected, keys):
    array = pa.DictionaryArray.from_arrays(pa.array([4, 0, 0, 3, 1], keys), pa.array(TEXTS))
    assert default_tokenizer.encode_batch(array).to_lists() == [expected[i] for i in (4, 0, 0, 3, 1)]
    assert default_tokenizer.encode_batch(array[3:]).to_lists() == [expected[3], expected[1]]
    with pytest.raises(ValueError, match="row 1 of the Arrow data is null"):
        default_tokenizer.encode_batch(pa.array(["a", None]).dictionary_encode())
    with pytest.raises(ValueError, match="row 1 of the Arrow data is null"):
        default_tokenizer.encode_batch(
            pa.DictionaryArray.from_arrays(pa.array([0, 1], keys), pa.array(["a", None]))
        )


def test_tables(default_tokenizer, expected):
    assert default_tokenizer.encode_batch(pa.table({"text": TEXTS})).to_lists() == expected
    batch = pa.record_batch({"text": TEXTS})
    assert default_tokenizer.encode_batch(batch[1:3]).to_lists() == expected[1:3]
    reader = pa.RecordBatchReader.from_batches(batch.schema, [batch, batch])
    assert default_tokenizer.encode_batch(reader).to_lists() == expected * 2
    with pytest.raises(TypeError, match="one column, not a table of 2"):
        default_tokenizer.encode_batch(pa.table({"a": TEXTS, "b": TEXTS}))


def test_other_types_are_refused(default_tokenizer):
    with pytest.raises(TypeError, match="must be Arrow strings or binaries, not Int64"):
        default_tokenizer.encode_batch(pa.array([1, 2]))
    with pytest.raises(TypeError, match="must be Arrow strings or binaries, not List"):
        default_tokenizer.encode_batch(pa.array([["a"]]))
    with pytest.raises(ValueError, match="row 0 of the Arrow data is null"):
        default_tokenizer.encode_batch(pa.nulls(2))


def test_failing_streams_are_reported(default_tokenizer):
    def batches():
        yield pa.record_batch({"text": ["a"]})
        raise OSError("the source broke")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"text": pa.string()}), batches())
    with pytest.raises(RuntimeError, match="the source broke"):
        default_tokenizer.encode_batch(reader)


def test_objects_that_do_not_keep_the_protocol(default_tokenizer):
    class Wrong:
        def __init__(self, result):
            self.result = result

        def __arrow_c_array__(self, requested_schema=None):
            return self.result

    exported = pa.array(["a"]).__arrow_c_array__()
    assert len(default_tokenizer.encode_batch(Wrong(exported))) == 1
    with pytest.raises(ValueError, match="consumed"):
        default_tokenizer.encode_batch(Wrong(exported))
    for wrong in (None, (1, 2), exported[0], exported[::-1]):
        with pytest.raises((TypeError, ValueError)):
            default_tokenizer.encode_batch(Wrong(wrong))


def test_offsets_that_lead_astray_are_refused(default_tokenizer):
    """Buffers that never passed Arrow's own validation."""
    data = pa.py_buffer(b"abcdefgh")
    for offsets in ([0, 5, 2, 7], [0, -1, 2, 7], [3, 9, 8, 8]):
        array = pa.Array.from_buffers(
            pa.string(), 3, [None, pa.py_buffer(np.array(offsets, dtype=np.int32)), data]
        )
        with pytest.raises(ValueError, match=r"row \d of the Arrow data lies outside its buffers"):
            default_tokenizer.encode_batch(array)
        items = pa.array([5, 6, 7, 8, 9, 10, 11, 12])
        lists = pa.Array.from_buffers(
            pa.list_(pa.int64()),
            3,
            [None, pa.py_buffer(np.array(offsets, dtype=np.int32))],
            children=[items],
        )
        with pytest.raises(ValueError, match=r"row \d of the Arrow data lies outside its buffers"):
            default_tokenizer.decode_batch(lists)


@pytest.mark.skipif(not hasattr(pa, "string_view"), reason="this pyarrow has no views")
@pytest.mark.parametrize(
    ("length", "buffer", "offset"), [(20, 1, 0), (20, 0, 5), (20, 0, 2**31), (2**31, 0, 0)]
)
def test_views_that_lead_astray_are_refused(default_tokenizer, length, buffer, offset):
    view = np.array([length, 0, buffer, offset], dtype=np.uint32)
    array = pa.Array.from_buffers(
        pa.string_view(), 1, [None, pa.py_buffer(view), pa.py_buffer(b"twenty-one bytes long")]
    )
    with pytest.raises(ValueError, match="row 0 of the Arrow data lies outside its buffers"):
        default_tokenizer.encode_batch(array)


def test_dictionary_keys_that_lead_astray_are_refused(default_tokenizer):
    for keys, values in (([0, 3], ["a", "b"]), ([-1, 0], ["a"]), ([0], [])):
        array = pa.DictionaryArray.from_arrays(
            pa.array(keys, pa.int32()), pa.array(values, pa.string()), safe=False
        )
        with pytest.raises(ValueError, match=r"row \d of the Arrow data lies outside its buffers"):
            default_tokenizer.encode_batch(array)


def test_token_lists_go_out(default_tokenizer, expected):
    batch = default_tokenizer.encode_batch(TEXTS)
    array = pa.array(batch)
    assert array.type == pa.large_list(pa.uint32())
    array.validate(full=True)
    assert array.to_pylist() == expected
    assert pa.array(batch[1:4]).to_pylist() == expected[1:4]
    assert pa.array(batch[:0]).to_pylist() == []


def test_token_lists_share_memory(default_tokenizer):
    batch = default_tokenizer.encode_batch(TEXTS)
    array = pa.array(batch)
    assert np.shares_memory(array.values.to_numpy(), batch.ids)
    ids = batch.ids.tolist()
    del batch
    assert array.values.to_pylist() == ids


@pytest.mark.parametrize("list_type", [pa.list_, pa.large_list])
@pytest.mark.parametrize("item", [pa.uint32(), pa.int64(), pa.int32(), pa.uint16(), pa.uint64()], ids=str)
def test_token_lists_come_in(default_tokenizer, list_type, item):
    texts = ["Hello", "", "world", "x y z"]
    lists = [default_tokenizer.encode(text) for text in texts]
    array = pa.array(lists, list_type(item))
    assert default_tokenizer.decode_batch(array) == texts
    assert default_tokenizer.decode_batch(array[1:3]) == texts[1:3]
    assert default_tokenizer.decode_batch(pa.chunked_array([array, array[2:]])) == texts + texts[2:]


def test_bad_token_lists(default_tokenizer):
    with pytest.raises(ValueError, match="row 1 of the Arrow data is null"):
        default_tokenizer.decode_batch(pa.array([[5], None]))
    with pytest.raises(ValueError, match=r"ids\[1\] holds a null"):
        default_tokenizer.decode_batch(pa.array([[5], [6, None]]))
    with pytest.raises(IndexError, match=r"id -1 at index 1 of ids\[1\]"):
        default_tokenizer.decode_batch(pa.array([[5], [6, -1]]))
    with pytest.raises(TypeError, match="lists of integers"):
        default_tokenizer.decode_batch(pa.array([[5.0]]))
    with pytest.raises(TypeError, match="lists of integers"):
        default_tokenizer.decode_batch(pa.array([5, 6]))


def test_polars(default_tokenizer, expected):
    pl = pytest.importorskip("polars")
    assert default_tokenizer.encode_batch(pl.Series(TEXTS)).to_lists() == expected
    assert default_tokenizer.encode_batch(pl.DataFrame({"text": TEXTS})).to_lists() == expected
    assert pl.Series(default_tokenizer.encode_batch(TEXTS)).to_list() == expected


def test_duckdb(default_tokenizer, expected):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        values = ", ".join(f"('{text}')" for text in TEXTS)
        relation = connection.sql(f"SELECT * FROM (VALUES {values}) AS t(text)")
        assert default_tokenizer.encode_batch(relation).to_lists() == expected


def test_pandas(default_tokenizer, expected):
    pd = pytest.importorskip("pandas")
    assert default_tokenizer.encode_batch(pd.Series(TEXTS)).to_lists() == expected
