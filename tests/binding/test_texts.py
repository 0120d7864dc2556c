"""What `encode`, `encode_batch` and `count` take for texts."""

import numpy as np
import pytest

TEXTS = ["Hello world", "", "naïve café ▁ 你好 🙂", " two  spaces", "line\nbreak\x00"]


def batch_lists(tokenizer, texts, **options):
    return tokenizer.encode_batch(texts, **options).to_lists()


@pytest.fixture
def expected(default_tokenizer):
    return [default_tokenizer.encode(text) for text in TEXTS]


def test_encode_gives_a_list_of_int(default_tokenizer):
    ids = default_tokenizer.encode("Hello world")
    assert type(ids) is list
    assert all(type(id) is int for id in ids)
    assert default_tokenizer.decode(ids) == "Hello world"


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_are_the_same_text(default_tokenizer, text):
    assert default_tokenizer.encode(text.encode()) == default_tokenizer.encode(text)


def test_invalid_utf8_counts_as_replacement_characters(default_tokenizer):
    assert default_tokenizer.encode(b"a\xff\xc3b") == default_tokenizer.encode("a\ufffd\ufffdb")


def test_bos_and_eos(default_tokenizer):
    ids = default_tokenizer.encode("Hello")
    both = [default_tokenizer.bos_id, *ids, default_tokenizer.eos_id]
    assert default_tokenizer.encode("Hello", add_bos=True, add_eos=True) == both
    assert batch_lists(default_tokenizer, ["Hello"], add_bos=True, add_eos=True) == [both]


def test_control_pieces_in_text_are_text_unless_asked_for(default_tokenizer):
    assert default_tokenizer.eos_id not in default_tokenizer.encode("a</s>")
    assert default_tokenizer.eos_id in default_tokenizer.encode("a</s>", parse_special=True)
    assert default_tokenizer.eos_id in batch_lists(default_tokenizer, ["a</s>"], parse_special=True)[0]


@pytest.mark.parametrize("detached", [4095, 4096, 100_000])
def test_long_texts(default_tokenizer, detached):
    text = ("word " * detached)[:detached]
    assert default_tokenizer.decode(default_tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        iter,
        lambda texts: (text for text in texts),
        lambda texts: dict.fromkeys(texts),
        lambda texts: [text.encode() for text in texts],
        lambda texts: [text.encode() if i % 2 else text for i, text in enumerate(texts)],
        lambda texts: np.array(texts, dtype=object),
        lambda texts: np.array([text.encode() for text in texts], dtype=object),
        lambda texts: [np.str_(text) for text in texts],
    ],
)
def test_batch_inputs(default_tokenizer, expected, make):
    assert batch_lists(default_tokenizer, make(TEXTS)) == expected


def test_fixed_width_numpy_arrays(default_tokenizer):
    texts = ["Hello", "", "你好"]  # such arrays lose NULs at the end of a text
    expected = batch_lists(default_tokenizer, texts)
    assert batch_lists(default_tokenizer, np.array(texts)) == expected
    assert batch_lists(default_tokenizer, np.array([text.encode() for text in texts])) == expected
    assert batch_lists(default_tokenizer, np.array(texts)[::-1]) == expected[::-1]


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 2 has StringDType")
def test_numpy_string_dtype(default_tokenizer, expected):
    assert batch_lists(default_tokenizer, np.array(TEXTS, dtype=np.dtypes.StringDType())) == expected


def test_an_empty_batch(default_tokenizer):
    batch = default_tokenizer.encode_batch([])
    assert len(batch) == 0
    assert batch.ids.tolist() == []
    assert batch.offsets.tolist() == [0]


def test_num_threads_changes_nothing(default_tokenizer):
    texts = TEXTS * 200
    expected = batch_lists(default_tokenizer, texts)
    for num_threads in (1, 2, 7):
        assert batch_lists(default_tokenizer, texts, num_threads=num_threads) == expected


def test_count(default_tokenizer, expected):
    counts = default_tokenizer.count(TEXTS)
    assert counts.dtype == np.int64
    assert counts.tolist() == [len(ids) for ids in expected]
    assert default_tokenizer.count(TEXTS, add_bos=True, num_threads=2).tolist() == [
        len(ids) + 1 for ids in expected
    ]


def test_count_of_one_text_is_an_int(default_tokenizer):
    count = default_tokenizer.count("Hello world", add_eos=True)
    assert type(count) is int
    assert count == len(default_tokenizer.encode("Hello world")) + 1
    assert default_tokenizer.count(b"Hello world", add_eos=True) == count
