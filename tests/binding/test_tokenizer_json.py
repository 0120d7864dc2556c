"""`Tokenizer` of a `tokenizer.json`, against the tokenizers library."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llamatok import (
    LlamaTokenizer,
    ModelFormatError,
    Tokenizer,
    TokenizerError,
    UnsupportedModelError,
)
from llamatok._core import Pipeline
from support import tokenizer_files

TEXTS = [
    "Hello world",
    "  a  b",
    "wörld 🦙🦙\n中",
    "</s>a<s> b",
    "x<foo>y <foo>",
    "x" * 300,
    "",
    " ",
    "▁<0x0A>\x00\t",
    "the end " * 900,
]


def made(legacy: bool) -> bytes:
    """The file that a converter makes, with special tokens, one that is not special, and a template."""
    pipeline = Pipeline.from_tokenizer(Tokenizer.default(), legacy=legacy)
    size = pipeline.vocab_size()
    special = [
        (id, token, False, False, False, False, True) for id, token in enumerate(["<unk>", "<s>", "</s>"])
    ]
    tokens = [*special, (size, "<foo>", False, False, False, False, False)]
    bos = ("<s>", 1, 0)
    template = ([bos, ("A", None, 0)], [bos, ("A", None, 0), ("B", None, 1)])
    return pipeline.with_added_tokens(tokens).with_template(*template).to_json()


@pytest.fixture(scope="module", params=[True, False], ids=["legacy", "new"])
def data(request) -> bytes:
    return made(request.param)


@pytest.fixture(scope="module")
def tokenizer(data) -> Tokenizer:
    return Tokenizer.from_bytes(data)


@pytest.fixture(scope="module")
def library(data):
    return pytest.importorskip("tokenizers").Tokenizer.from_str(data.decode())


@pytest.mark.parametrize("parse_special", [True, False])
def test_ids(tokenizer, library, parse_special):
    library.encode_special_tokens = not parse_special
    expected = [library.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert [tokenizer.encode(text, parse_special=parse_special) for text in TEXTS] == expected
    for texts in (TEXTS, [text.encode() for text in TEXTS], np.array(TEXTS), iter(TEXTS)):
        batch = tokenizer.encode_batch(texts, parse_special=parse_special)
        assert batch.to_lists() == expected
    lens = [len(ids) for ids in expected]
    assert tokenizer.count(TEXTS, parse_special=parse_special).tolist() == lens
    assert [tokenizer.count(text, parse_special=parse_special) for text in TEXTS] == lens
    around = tokenizer.encode_batch(TEXTS, add_bos=True, add_eos=True, parse_special=parse_special)
    assert around.to_lists() == [[1, *ids, 2] for ids in expected]
    assert tokenizer.encode("a", add_eos=True) == [*tokenizer.encode("a"), 2]
    assert tokenizer.encode("a", add_bos=True) == [1, *tokenizer.encode("a")]


def test_bytes_that_are_no_text_count_as_replaced(tokenizer):
    assert tokenizer.encode(b"a\xff\xe2\x82b") == tokenizer.encode("a\ufffd\ufffd\ufffdb")
    assert tokenizer.encode_batch([b"a\xff"]).to_lists() == [tokenizer.encode("a\ufffd")]


def test_arrow_in(tokenizer):
    pyarrow = pytest.importorskip("pyarrow")
    expected = [tokenizer.encode(text) for text in TEXTS]
    assert tokenizer.encode_batch(pyarrow.array(TEXTS)).to_lists() == expected


def test_texts(tokenizer, library):
    rows = [tokenizer.encode(text, add_bos=True, add_eos=True, parse_special=True) for text in TEXTS]
    byte = tokenizer.piece_to_id("<0xE4>")
    rows += [[byte, 5, byte, 1, byte], [3, 29], list(range(3, 259)), []]
    for skip in (True, False):
        expected = library.decode_batch(rows, skip_special_tokens=skip)
        assert [tokenizer.decode(ids, skip_special_tokens=skip) for ids in rows] == expected
        assert tokenizer.decode_batch(rows, skip_special_tokens=skip) == expected
        assert tokenizer.decode_text_batch(rows, skip_special_tokens=skip).to_list() == expected
        for ids, text in zip(rows, expected, strict=True):
            stream = tokenizer.stream_decoder(skip_special_tokens=skip)
            for _ in range(2):
                assert "".join(stream.push(id) for id in ids) + stream.finish() == text
                assert stream.push(ids) + stream.finish() == text
    assert tokenizer.decode_bytes([byte, 1, byte], skip_special_tokens=True) == b"\xe4\xe4"
    assert tokenizer.decode_bytes(tokenizer.encode("中 a")) == "中 a".encode()


def test_a_stream_goes_on_from_a_prefill(tokenizer):
    ids = tokenizer.encode("Hello wide world")
    stream = tokenizer.stream_decoder(prefill=ids[:2])
    assert tokenizer.decode(ids[:2]) + stream.push(ids[2:]) + stream.finish() == "Hello wide world"


def test_the_vocabulary(tokenizer, library):
    vocab = library.get_vocab()
    pieces = tokenizer.pieces()
    assert len(tokenizer) == tokenizer.vocab_size == len(pieces) == len(vocab)
    assert {piece: id for id, piece in enumerate(pieces)} == vocab
    assert [tokenizer.piece_to_id(piece) for piece in pieces] == list(range(len(pieces)))
    assert tokenizer.id_to_piece(len(vocab) - 1) == "<foo>"
    assert tokenizer.piece_to_id("no such piece") is None
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.pad_id) == (1, 2, 0, None)
    kinds = ["UNKNOWN", "CONTROL", "CONTROL", "BYTE"]
    assert [tokenizer.kind(id) for id in range(4)] == kinds
    assert tokenizer.kind(len(vocab) - 1) == "USER_DEFINED"
    assert tokenizer.kind(tokenizer.piece_to_id("▁the")) == "NORMAL"
    settings = tokenizer.settings
    assert settings["format"] == "tokenizer.json"
    assert (settings["engine"], settings["byte_fallback"], settings["normalizer"]) == ("fast", True, None)
    assert settings["kinds"]["BYTE"] == 256
    assert settings.keys() == Tokenizer.default().settings.keys()
    assert repr(tokenizer) == f'Tokenizer(vocab_size={len(vocab)}, format="tokenizer.json")'


def test_what_there_is_not(tokenizer):
    size = tokenizer.vocab_size
    for call in (tokenizer.decode, tokenizer.decode_bytes, tokenizer.stream_decoder().push):
        with pytest.raises(IndexError, match=f"id {size} at index 1 is out of range"):
            call([1, size])
    with pytest.raises(IndexError, match=rf"id {size} at index 0 of ids\[1\]"):
        tokenizer.decode_batch([[1], [size]])
    with pytest.raises(IndexError):
        tokenizer.id_to_piece(size)
    with pytest.raises(TokenizerError, match="lists merges"):
        tokenizer.score(5)


def test_ids_that_no_token_has(data):
    content = json.loads(data)
    vocab = content["model"]["vocab"]
    last = max(vocab, key=vocab.get)
    content["model"]["merges"] = []
    content["model"]["vocab"] = {**vocab, last: vocab[last] + 5}
    content["added_tokens"] = []
    content["post_processor"] = None
    tokenizer = Tokenizer.from_bytes(json.dumps(content).encode())
    gap = vocab[last]
    assert tokenizer.vocab_size == gap + 6
    assert (tokenizer.pieces()[gap], tokenizer.kind(gap)) == ("", "UNUSED")
    assert tokenizer.decode([gap]) == ""
    with pytest.raises(IndexError, match=f"no piece has the id {gap}"):
        tokenizer.id_to_piece(gap)
    # Without special tokens the file has no `<s>` to put in front.
    assert (tokenizer.bos_id, tokenizer.eos_id) == (None, None)
    for call in (tokenizer.encode, tokenizer.count):
        with pytest.raises(TokenizerError, match=r"add_bos: .* no beginning-of-sequence"):
            call("a", add_bos=True)
    with pytest.raises(TokenizerError, match="add_eos"):
        tokenizer.encode_batch(["a"], add_eos=True)


def test_another_decoder(data):
    content = json.loads(data)
    content["decoder"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}
    tokenizer = Tokenizer.from_bytes(json.dumps(content).encode())
    assert tokenizer.decode(tokenizer.encode("Hello world")) == "Hello world"
    for call in (tokenizer.stream_decoder, lambda: tokenizer.decode_bytes([5])):
        with pytest.raises(TokenizerError, match="section `decoder`"):
            call()


def test_the_content_tells(tmp_path: Path, data):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b" \n" + data)
    tokenizer = Tokenizer.from_file(path, cache_bytes=0)
    assert tokenizer.settings["format"] == "tokenizer.json"
    assert tokenizer.cache_info()["limit_bytes"] == 0
    path.write_bytes(b'{"version": "1.0", "model": {"type": "Unigram", "vocab": []}}')
    with pytest.raises(UnsupportedModelError) as error:
        Tokenizer.from_file(path)
    assert str(error.value).startswith(f"{path}: model.type: ")
    path.write_bytes(b'{"hidden_size": 3}')
    with pytest.raises(ModelFormatError) as error:
        Tokenizer.from_file(path)
    assert str(error.value).startswith(f"{path}: model: ")


def test_copies(tokenizer, data):
    assert copy.copy(tokenizer) is tokenizer
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode_batch(TEXTS).to_lists() == tokenizer.encode_batch(TEXTS).to_lists()
    assert tokenizer.__reduce__()[1] == (data,)


def test_hugging_faces_interface_over_it(tokenizer, data, tmp_path: Path):
    (tmp_path / "tokenizer.json").write_bytes(data)
    from_file = LlamaTokenizer(tokenizer_file=tmp_path / "tokenizer.json")
    over = LlamaTokenizer(tokenizer_object=tokenizer)
    assert over.is_fast
    assert over.legacy == from_file.legacy
    assert over(TEXTS)["input_ids"] == from_file(TEXTS)["input_ids"]
    assert Pipeline.from_tokenizer(tokenizer).mode == "tokenizer_json"


@settings(max_examples=settings.default.max_examples // 2)
@given(
    tokenizer_files.tokenizer_files().flatmap(
        lambda file: st.tuples(
            st.just(file), st.lists(tokenizer_files.texts_for(file), min_size=1, max_size=4), st.booleans()
        )
    )
)
def test_random_files(case):
    tokenizers = pytest.importorskip("tokenizers")
    file, texts, parse_special = case
    library = tokenizers.Tokenizer.from_str(file.text)
    normalize = library.normalizer.normalize_str if library.normalizer else str
    sought = [
        normalize(token.content) for token in library.get_added_tokens_decoder().values() if token.normalized
    ]
    # Of tokens that become equal the library takes another one in each object.
    assume(len(sought) == len(set(sought)))
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = not parse_special
    tokenizer = Tokenizer.from_bytes(file.text.encode())
    expected = [library.encode(text, add_special_tokens=False).ids for text in texts]
    assert [tokenizer.encode(text, parse_special=parse_special) for text in texts] == expected
    assert tokenizer.encode_batch(texts, parse_special=parse_special).to_lists() == expected
    for ids in expected:
        decoded = library.decode(ids, skip_special_tokens=False)
        assert tokenizer.decode(ids) == decoded
        try:
            stream = tokenizer.stream_decoder(skip_special_tokens=False)
        except TokenizerError:
            continue
        assert "".join(stream.push(id) for id in ids) + stream.finish() == decoded
