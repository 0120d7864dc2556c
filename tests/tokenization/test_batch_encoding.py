"""What encoding returns: as a dictionary, as tensors, and as a map between characters, words and tokens."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from llamatok import BatchEncoding, LlamaTokenizer
from llamatok.tokenization import CharSpan, TokenSpan
from support.locations import mistral_common_models

TEXT = "Hello  wörld🦙 don't"


@pytest.fixture(params=["model", "json"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> LlamaTokenizer:
    """A tokenizer of each kind, that can pad."""
    made = LlamaTokenizer.default()
    if request.param == "json":
        made.save_pretrained(tmp_path, legacy_format=False)
        made = LlamaTokenizer.from_pretrained(tmp_path)
        assert made.is_fast
    made.add_special_tokens({"pad_token": "<pad>"})
    return made


def test_as_a_dictionary(tokenizer: LlamaTokenizer) -> None:
    encoded = tokenizer([TEXT, "Hi"])
    assert isinstance(encoded, Mapping)
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert {**encoded} == dict(encoded.items()) == dict(encoded)
    assert encoded.input_ids is encoded["input_ids"]
    assert encoded[0:1] == {key: value[:1] for key, value in encoded.items()}
    assert encoded[1].ids == encoded["input_ids"][1]
    assert "input_ids" in encoded
    assert "labels" not in encoded
    assert encoded.get("labels") is None
    with pytest.raises(AttributeError, match="labels"):
        _ = encoded.labels
    with pytest.raises(KeyError):
        encoded["labels"]
    encoded["labels"] = encoded.pop("attention_mask")
    assert list(encoded) == ["input_ids", "labels"]
    assert len(encoded) == 2
    encoded |= {"length": [1]}
    assert isinstance(encoded, BatchEncoding)


def test_without_encodings() -> None:
    encoded = BatchEncoding({"input_ids": [[1, 2], [3, 4]]})
    assert not encoded.is_fast
    assert encoded.encodings is None
    assert encoded[0:1] == {"input_ids": [[1, 2]]}
    with pytest.raises(KeyError):
        encoded[0]
    for method in ("tokens", "word_ids", "sequence_ids"):
        with pytest.raises(ValueError, match="encodings"):
            getattr(encoded, method)()


@pytest.mark.parametrize("dump", [pickle.dumps, None])
def test_copies(tokenizer: LlamaTokenizer, dump: object) -> None:
    encoded = tokenizer([TEXT, "Hi"], padding=True, return_tensors="np")
    again = copy.deepcopy(encoded) if dump is None else pickle.loads(pickle.dumps(encoded))
    assert all(np.array_equal(again[key], encoded[key]) for key in encoded)
    assert again.tokens(1) == encoded.tokens(1)
    assert [again.token_to_chars(0, token) for token in range(len(again.tokens()))] == [
        encoded.token_to_chars(0, token) for token in range(len(encoded.tokens()))
    ]
    assert copy.copy(encoded)["input_ids"] is encoded["input_ids"]


def test_pickles_do_not_carry_the_tokenizer(tokenizer: LlamaTokenizer) -> None:
    assert len(pickle.dumps(tokenizer("Hi"))) < 5_000


def test_characters_and_tokens(tokenizer: LlamaTokenizer) -> None:
    encoded = tokenizer(TEXT, return_offsets_mapping=True)
    plain = tokenizer(TEXT)
    assert len(encoded["offset_mapping"]) == len(encoded["input_ids"])
    for token, (start, end) in enumerate(encoded["offset_mapping"]):
        if token == 0:
            assert plain.token_to_chars(token) is None
            continue
        span = plain.token_to_chars(token)
        assert isinstance(span, CharSpan)
        assert (span.start, span.end) == (start, end)
    for char in range(len(TEXT)):
        token = plain.char_to_token(char)
        assert token is not None
        span = plain.token_to_chars(token)
        assert span is not None
        assert span.start <= char < span.end
    assert plain.char_to_token(len(TEXT)) is None
    last = len(encoded["input_ids"]) - 1
    assert plain.token_to_chars(-1) == plain.token_to_chars(last)


def test_encodings_are_those_of_the_call(tokenizer: LlamaTokenizer) -> None:
    texts, words = ["Hello", "world"], [["Hello", "you"]]
    encoded, split = tokenizer(texts), tokenizer(words, is_split_into_words=True)
    expected = [tokenizer("Hello").tokens(), tokenizer("world").tokens()]
    texts[0], words[0][0] = "changed", "changed"
    tokenizer.add_tokens(["world", "you"])
    assert [encoded.tokens(0), encoded.tokens(1)] == expected
    assert encoded[0].ids == encoded["input_ids"][0]
    assert split[0].ids == split["input_ids"][0]


def test_padding_has_no_place_in_the_text(tokenizer: LlamaTokenizer) -> None:
    for side in ("left", "right"):
        encoded = tokenizer([TEXT, "Hi"], padding=True, padding_side=side, return_offsets_mapping=True)
        ids, mask = encoded["input_ids"][1], encoded["attention_mask"][1]
        tokens, places = encoded.tokens(1), encoded["offset_mapping"][1]
        assert len(ids) == len(tokens) == len(places) == len(encoded.word_ids(1))
        for id, real, token, place in zip(ids, mask, tokens, places, strict=True):
            if not real:
                assert (id, token, place) == (tokenizer.pad_token_id, "<pad>", (0, 0))
        assert [token for token, real in zip(tokens, mask, strict=True) if real] == tokenizer("Hi").tokens()
        first = mask.index(1)
        assert [number is not None for number in encoded.sequence_ids(1)] == [
            bool(real) and at != first for at, real in enumerate(mask)
        ]
        assert encoded.char_to_token(1, 0) == first + 1
        assert encoded[1].special_tokens_mask == [
            int(not real or at == first) for at, real in enumerate(mask)
        ]


def test_pairs(tokenizer: LlamaTokenizer) -> None:
    encoded = tokenizer("Hello world", "Hi there", return_token_type_ids=True)
    sequences = encoded.sequence_ids()
    assert encoded.n_sequences == 2
    assert sequences[0] is None
    assert {0, 1, None} == set(sequences)
    at = encoded.char_to_token(0, sequence_index=1)
    assert at is not None
    assert sequences[at] == 1
    assert encoded.token_to_sequence(at) == 1
    assert encoded["token_type_ids"][at] == 1
    assert tokenizer(["a", "b"], ["c", "d"])["input_ids"] == tokenizer([("a", "c"), ("b", "d")])["input_ids"]


def test_words(tokenizer: LlamaTokenizer) -> None:
    words = ["Hello", "wonderful", "world"]
    encoded = tokenizer(words, is_split_into_words=True)
    numbers = encoded.word_ids()
    assert [number for number in dict.fromkeys(numbers) if number is not None] == [0, 1, 2]
    for word in range(3):
        span = encoded.word_to_tokens(word)
        assert isinstance(span, TokenSpan)
        assert all(numbers[token] == word for token in range(span.start, span.end))
        chars = encoded.word_to_chars(word)
        assert chars == (0, len(words[word]))
        assert encoded.token_to_word(span.start) == word
    assert encoded.word_to_tokens(3) is None
    assert encoded.words() == numbers
    batch = tokenizer([words, words[:1]], is_split_into_words=True)
    assert batch["input_ids"][0] == encoded["input_ids"]
    assert batch.word_to_tokens(1, 0) is not None


def test_tensors(tokenizer: LlamaTokenizer) -> None:
    texts = ["Hello world", "Hi"]
    lists = tokenizer(texts, padding=True, return_special_tokens_mask=True, return_length=True)
    arrays = tokenizer(
        texts, padding=True, return_special_tokens_mask=True, return_length=True, return_tensors="np"
    )
    for key in lists:
        assert arrays[key].dtype == np.int64
        assert arrays[key].tolist() == lists[key]
    assert tokenizer("Hi", return_tensors="np")["input_ids"].shape == (1, len(tokenizer("Hi")["input_ids"]))
    with pytest.raises(ValueError, match="Unable to create tensor"):
        tokenizer(texts, return_tensors="np")
    for unknown in ("tf", "list"):
        with pytest.raises(ValueError, match="np"):
            tokenizer(texts, padding=True, return_tensors=unknown)
    later = tokenizer(texts, padding=True).convert_to_tensors("np")
    assert later["input_ids"].tolist() == lists["input_ids"]
    assert tokenizer("Hi").convert_to_tensors("np", prepend_batch_axis=True)["input_ids"].ndim == 2


def test_torch(tokenizer: LlamaTokenizer) -> None:
    torch = pytest.importorskip("torch")
    encoded = tokenizer(["Hello world", "Hi"], padding=True, return_tensors="pt", return_offsets_mapping=True)
    assert encoded["input_ids"].dtype == torch.int64
    assert encoded["offset_mapping"].shape == (*encoded["input_ids"].shape, 2)
    assert encoded.to("cpu") is encoded
    assert tokenizer.pad({"input_ids": [torch.tensor([1, 2]), torch.tensor([3])]})["attention_mask"].tolist()
    assert tokenizer.batch_decode(encoded["input_ids"], skip_special_tokens=True) == ["Hello world", "Hi"]
    assert tokenizer.decode(torch.tensor(5)) == tokenizer.decode(5)


def test_nothing(tokenizer: LlamaTokenizer) -> None:
    assert tokenizer([]).data == {"input_ids": [], "attention_mask": []}
    assert tokenizer("")["input_ids"] == [tokenizer.bos_token_id]
    assert tokenizer("").tokens() == ["<s>"]
    assert tokenizer([], padding=True, return_tensors="np")["input_ids"].size == 0


def test_inputs_that_mean_nothing(tokenizer: LlamaTokenizer) -> None:
    for wrong in (5, [1, 2], {"a": 1}, b"bytes", [None]):
        with pytest.raises((ValueError, TypeError)):
            tokenizer(wrong)
    with pytest.raises(ValueError, match="text_target"):
        tokenizer()
    with pytest.raises(ValueError, match="does not match"):
        tokenizer(["a", "b"], ["c"])
    with pytest.raises(TypeError, match="text_pair"):
        tokenizer(["a", "b"], "c")


def test_texts_without_an_order_are_refused(tokenizer: LlamaTokenizer) -> None:
    for texts in ({"a", "b"}, frozenset({"a"}), {"a": 1}.keys() & {"a"}):
        with pytest.raises(ValueError, match="text input must be of type"):
            tokenizer(texts)


def test_a_multiple_must_not_be_negative(tokenizer: LlamaTokenizer) -> None:
    for multiple in (-1, -3):
        with pytest.raises(ValueError, match="`pad_to_multiple_of` must not be negative"):
            tokenizer(["a b c", "a"], padding=True, pad_to_multiple_of=multiple)
        with pytest.raises(ValueError, match="`pad_to_multiple_of` must not be negative"):
            tokenizer.pad({"input_ids": [[1, 2], [1]]}, pad_to_multiple_of=multiple)
    plain = tokenizer(["a b c", "a"], padding=True)["input_ids"]
    assert tokenizer(["a b c", "a"], padding=True, pad_to_multiple_of=0)["input_ids"] == plain
    cut = tokenizer(["a b c"], padding=True, truncation=True, max_length=2, pad_to_multiple_of=0)
    assert len(cut["input_ids"][0]) == 2


def test_what_is_decoded(tokenizer: LlamaTokenizer) -> None:
    one, many = tokenizer("Hello world"), tokenizer(["Hello world", "Hi"])
    for form in (one, dict(one), one["input_ids"], np.array(one["input_ids"])):
        assert tokenizer.decode(form, skip_special_tokens=True) == "Hello world"
    for form in (many, dict(many), many["input_ids"], map(list, many["input_ids"])):
        assert tokenizer.batch_decode(form, skip_special_tokens=True) == ["Hello world", "Hi"]
    assert tokenizer.decode(many, skip_special_tokens=True) == ["Hello world", "Hi"]
    ids = tokenizer.convert_tokens_to_ids(["▁the", "th"])
    for form in (ids, tuple(ids), np.array(ids)):
        assert tokenizer.batch_decode(form) == ["the", "th"]
    assert tokenizer.batch_decode([]) == []
    for wrong in (None, "abc", b"abc", {"ids": [1]}, 5, ["a"], [1.5]):
        with pytest.raises(TypeError):
            tokenizer.batch_decode(wrong)
    for wrong in (None, "abc", b"abc", {"ids": [1]}, ["a"]):
        with pytest.raises(TypeError):
            tokenizer.decode(wrong)


def test_other_containers_of_texts(tokenizer: LlamaTokenizer) -> None:
    texts = ["Hello", "world"]
    expected = tokenizer(texts)["input_ids"]
    assert tokenizer(tuple(texts))["input_ids"] == expected
    assert tokenizer(np.array(texts))["input_ids"] == expected
    assert tokenizer(np.array(texts, dtype=object))["input_ids"] == expected


def test_targets(tokenizer: LlamaTokenizer) -> None:
    encoded = tokenizer(["Hello"], text_target=["world"])
    assert encoded["labels"] == tokenizer(["world"])["input_ids"]
    assert tokenizer(text_target="world").data == tokenizer("world").data
    with tokenizer.as_target_tokenizer():
        assert tokenizer("world").data == tokenizer(text_target="world").data


@pytest.mark.parametrize("name", sorted(mistral_common_models())[:1])
def test_a_vocabulary_of_another_maker(name: str) -> None:
    tokenizer = LlamaTokenizer(mistral_common_models()[name], legacy=False)
    encoded = tokenizer(TEXT)
    assert tokenizer.decode(encoded["input_ids"], skip_special_tokens=True) == TEXT
    assert encoded.char_to_token(len(TEXT) - 1) == len(encoded["input_ids"]) - 1
