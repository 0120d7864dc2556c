"""A long `str` is encoded by its UTF-8, which is not left in it."""

import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatok import LlamaTokenizer
from support.processes import run

ALPHABETS = {
    "latin": "abcdefgh éüßçñ",
    "cyrillic": "абвгдежзий клмн",
    "chinese": "的一是不了人我在有他 。",
    "emoji": "ab 🦙🙂👩🏽é中",
}
LENGTHS = [255, 256, 257, 1000, 4095, (1 << 18) - 1, 1 << 18, (1 << 18) + 1]


def long_text(alphabet: str, length: int) -> str:
    return "".join(alphabet[(place * place + place // 7) % len(alphabet)] for place in range(length))


class Name(str):
    __slots__ = ()

    def isascii(self) -> bool:
        return True

    def __len__(self) -> int:
        raise AssertionError


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS.keys())
def test_ids_of_a_str_are_those_of_its_bytes(default_tokenizer, alphabet, length):
    text = long_text(alphabet, length)
    expected = default_tokenizer.encode(text.encode())
    # Again and again: from the third time on, the text may have its UTF-8.
    for _ in range(4):
        assert default_tokenizer.encode(text) == expected
        assert default_tokenizer.encode_batch([text, "a", text]).to_lists()[::2] == [expected, expected]
        assert default_tokenizer.count([text]).tolist() == [len(expected)]
        assert default_tokenizer.count(text) == len(expected)


@given(text=st.text(st.sampled_from("a é€中🦙\ud7ff\ue000\U0010ffff"), min_size=256, max_size=600))
def test_any_mixture_gives_the_ids_of_its_bytes(default_tokenizer, text):
    assert default_tokenizer.encode(text) == default_tokenizer.encode(text.encode())


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS.keys())
def test_a_text_that_is_encoded_once_takes_no_more_memory_after_it(default_tokenizer, alphabet):
    random = Random()
    texts = ["".join(random.choices(alphabet, k=length)) + "é中" for length in range(1000, 1050)]
    before = [sys.getsizeof(text) for text in texts]
    default_tokenizer.encode_batch(texts)
    assert [sys.getsizeof(text) for text in texts] == before


def test_a_class_of_ones_own_is_no_trap(default_tokenizer):
    text = long_text(ALPHABETS["chinese"], 1000)
    ids = default_tokenizer.encode(text.encode())
    for short, name, expected in [(text, Name(text), ids), ("é", Name("é"), default_tokenizer.encode("é"))]:
        assert str.__len__(name) == len(short)
        assert default_tokenizer.encode(name) == expected
        assert default_tokenizer.encode_batch([name]).to_lists() == [expected]
        assert default_tokenizer.count(name) == len(expected)


@pytest.mark.parametrize("place", [0, 7, 8, 255, 999])
@pytest.mark.parametrize("letter", ["a", "é", "中", "🦙"])
def test_lone_surrogates_are_refused_wherever_they_stand(default_tokenizer, letter, place):
    text = letter * place + "\ud800" + letter * (999 - place)
    with pytest.raises(UnicodeEncodeError, match="surrogates") as error:
        default_tokenizer.encode(text)
    assert error.value.start == place
    with pytest.raises(UnicodeEncodeError, match=r"texts\[1\]"):
        default_tokenizer.encode_batch(["a", text])


SHORT_OF_MEMORY = """
import resource
from llamatok import Tokenizer

tokenizer = Tokenizer.default()
texts = [chr(0x4E00 + number) * 200_000 for number in range(400)]
tokenizer.count(texts[:1])
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (60 << 20), resource.RLIM_INFINITY))
try:
    tokenizer.count(texts)
except MemoryError:
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_too_little_memory_is_an_exception():
    assert run(SHORT_OF_MEMORY) == "refused\n"


TEXTS = tuple(long_text(alphabet, 700) for alphabet in ALPHABETS.values())


def test_the_whole_interface_takes_them(default_tokenizer):
    tokenizer = LlamaTokenizer.default()
    expected = [default_tokenizer.encode(text.encode(), add_bos=True) for text in TEXTS]
    for _ in range(3):
        texts = [text[:300] + text[300:] for text in TEXTS]
        assert [tokenizer.encode(text) for text in texts] == expected
        assert tokenizer(texts)["input_ids"] == expected
        pairs = tokenizer(texts, texts[::-1])["input_ids"]
        assert pairs == [first + second for first, second in zip(expected, expected[::-1], strict=True)]
        assert len(tokenizer.tokenize(texts[0])) == len(expected[0]) - 1


def test_the_whole_interface_names_surrogates():
    tokenizer = LlamaTokenizer.default()
    texts = ["a", "中" * 300 + "\udc00"]
    with pytest.raises(UnicodeEncodeError, match=r"texts\[1\]"):
        tokenizer(texts)
    with pytest.raises(UnicodeEncodeError, match=r"pairs\[1\]"):
        tokenizer(["a", "b"], texts)
    with pytest.raises(UnicodeEncodeError, match=r"texts\[1\]\[1\]"):
        tokenizer([["a", "b"], texts], is_split_into_words=True)
