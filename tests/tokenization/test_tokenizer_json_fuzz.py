"""Random `tokenizer.json` files: all that the tokenizers library says of random texts, we say too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llamatok import UnsupportedModelError, _core
from support import tokenizer_files
from support.tokenizer_files import TokenizerFile

tokenizers = pytest.importorskip("tokenizers")

CASES = tokenizer_files.tokenizer_files().flatmap(
    lambda file: st.tuples(st.just(file), st.lists(tokenizer_files.texts_for(file), min_size=1, max_size=5))
)


def both(file: TokenizerFile) -> tuple[Any, Any]:
    """The tokenizers library's reader of a file, and ours."""
    theirs = tokenizers.Tokenizer.from_str(file.text)
    try:
        return theirs, _core.Pipeline.from_tokenizer_json(file.text.encode())
    except UnsupportedModelError as error:
        # Of several precompiled rules one after the other.
        assume("times as long" not in str(error))
        raise


def assume_determined(theirs: Any) -> None:
    """Leaves out files in which tokens become equal, of which the library takes one by chance, or become
    empty: with some of these it never ends."""
    normalize = theirs.normalizer.normalize_str if theirs.normalizer else str
    added = theirs.get_added_tokens_decoder().values()
    sought = [normalize(token.content) for token in added if token.normalized]
    assume(all(sought))
    assume(len(sought) == len(set(sought)))


def of_theirs(encoding: Any) -> dict[str, list[Any]]:
    """All that an encoding of the tokenizers library tells."""
    return {
        "ids": encoding.ids,
        "tokens": encoding.tokens,
        "type_ids": encoding.type_ids,
        "special_tokens_mask": encoding.special_tokens_mask,
        "offsets": [tuple(span) for span in encoding.offsets],
        "word_ids": encoding.word_ids,
        "sequence_ids": encoding.sequence_ids,
    }


def of_ours(batch: Any) -> list[dict[str, list[Any]]]:
    """The same of each row of a batch."""
    rows = []
    for row in range(len(batch)):
        span = slice(int(batch.row_offsets[row]), int(batch.row_offsets[row + 1]))
        rows.append(
            {
                "ids": batch.ids[span].tolist(),
                "tokens": batch.tokens(row),
                "type_ids": batch.type_ids[span].tolist(),
                "special_tokens_mask": batch.special_tokens_mask[span].tolist(),
                "offsets": [tuple(pair) for pair in batch.char_offsets[span].tolist()],
                "word_ids": [None if word < 0 else word for word in batch.word_ids[span].tolist()],
                "sequence_ids": [
                    None if number < 0 else number for number in batch.sequence_ids[span].tolist()
                ],
            }
        )
    return rows


def shows_normalized(theirs: Any) -> bool:
    """Whether added tokens are shown normalized, as in 0.23 alone: see `docs/compatibility.md`."""
    added = theirs.get_added_tokens_decoder().items()
    return any(theirs.id_to_token(number) != token.content for number, token in added)


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], what: object) -> None:
    """Compares field by field, ids first, so that a failure tells what differs."""
    assert len(ours) == len(theirs), f"{what}: {len(ours)} rows but tokenizers {len(theirs)}"
    for one, other in zip(ours, theirs, strict=True):
        for field in other:
            assert one[field] == other[field], f"{what}: {field}: {one[field]} but tokenizers {other[field]}"


def outcome(call: Callable[[], Any]) -> Any:
    """What a call of the tokenizers library gives; None for an error, its panics among them: it cuts some
    texts within characters, or past their end, where added tokens take whitespace."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # PanicException is no Exception
        return None


@given(CASES, st.booleans(), st.booleans())
def test_single_texts(
    case: tuple[TokenizerFile, list[str]], add_special_tokens: bool, split_special_tokens: bool
) -> None:
    """Ids, tokens, offsets, masks, words and sequences of single texts."""
    file, texts = case
    theirs, ours = both(file)
    assume_determined(theirs)
    theirs.encode_special_tokens = split_special_tokens
    options = {"add_special_tokens": add_special_tokens, "split_special_tokens": split_special_tokens}
    expected = outcome(
        lambda: [of_theirs(theirs.encode(text, add_special_tokens=add_special_tokens)) for text in texts]
    )
    assume(expected is not None)
    assert_same(of_ours(ours.encode_batch(texts, offsets=True, **options)), expected, texts)
    # Without offsets the work goes another way.
    assert ours.encode_batch(texts, **options).lists("input_ids") == [row["ids"] for row in expected]
    assert [ours.encode(text, **options) for text in texts] == [row["ids"] for row in expected]
    assert [ours.tokenize(text, **options) for text in texts] == [row["tokens"] for row in expected]


@given(CASES)
def test_pairs(case: tuple[TokenizerFile, list[str]]) -> None:
    """Pairs of texts, with the template for pairs."""
    file, texts = case
    theirs, ours = both(file)
    assume_determined(theirs)
    pairs = list(zip(texts, reversed(texts), strict=True))
    expected = outcome(lambda: [of_theirs(theirs.encode(*pair)) for pair in pairs])
    assume(expected is not None)
    found = ours.encode_batch([a for a, _ in pairs], [b for _, b in pairs], offsets=True)
    assert_same(of_ours(found), expected, pairs)
    for is_pair in (False, True):
        assert ours.num_special_tokens(is_pair) == theirs.num_special_tokens_to_add(is_pair)


@given(CASES, st.booleans())
def test_words(case: tuple[TokenizerFile, list[str]], with_pair: bool) -> None:
    """Texts that are split into words already."""
    file, words = case
    theirs, ours = both(file)
    assume_determined(theirs)
    pair = words[::-1] if with_pair else None
    expected = outcome(lambda: of_theirs(theirs.encode(words, pair, is_pretokenized=True)))
    assume(expected is not None)
    found = ours.encode_batch(
        [words], None if pair is None else [pair], is_split_into_words=True, offsets=True
    )
    assert_same(of_ours(found), [expected], words)


@given(
    CASES,
    st.integers(1, 12),
    st.integers(0, 4),
    st.sampled_from(("longest_first", "only_first", "only_second")),
    st.sampled_from(("left", "right")),
    st.booleans(),
)
def test_truncation(
    case: tuple[TokenizerFile, list[str]], room: int, stride: int, strategy: str, side: str, with_pair: bool
) -> None:
    """Truncation, its windows, and what cannot be cut as asked."""
    file, texts = case
    theirs, ours = both(file)
    assume_determined(theirs)
    # Less than the template itself wants: the tokenizers library's arithmetic wraps around. No room at all:
    # its first window no longer knows which text it is of.
    max_length = room + max(theirs.num_special_tokens_to_add(pair) for pair in (False, True))
    text, pair = texts[0], texts[-1] if with_pair else None

    def encode() -> list[dict[str, Any]]:
        theirs.enable_truncation(max_length, stride=stride, strategy=strategy, direction=side)
        first = theirs.encode(text, pair)
        return [of_theirs(encoding) for encoding in (first, *first.overflowing)]

    expected = outcome(encode)

    def call() -> Any:
        return ours.encode_batch(
            [text],
            None if pair is None else [pair],
            truncation=strategy,
            max_length=max_length,
            stride=stride,
            truncation_side=side,
            overflow=True,
            offsets=True,
        )

    if expected is None:
        theirs.no_truncation()
        assume(outcome(lambda: theirs.encode(text, pair)) is not None)
        if stride < room:
            with pytest.raises(ValueError, match=r"truncation|stride"):
                call()
        else:
            # They refuse such a stride even where nothing has to be cut off, or panic; we may not.
            with contextlib.suppress(ValueError):
                call()
        return
    if pair is not None:
        # Where a text is cut to nothing, its windows no longer know which text they are of.
        for row in expected:
            del row["sequence_ids"]
    assert_same(of_ours(call()), expected, (text, pair, max_length, stride))


@given(CASES, st.data(), st.booleans())
def test_decoding(case: tuple[TokenizerFile, list[str]], data: st.DataObject, skip: bool) -> None:
    """Ids of texts and ids at random, with and without special tokens; tokens without ids, too."""
    file, texts = case
    theirs, ours = both(file)
    assume_determined(theirs)
    assume(not shows_normalized(theirs))
    limit = max(theirs.get_vocab().values(), default=0) + 3
    encoded = outcome(lambda: [theirs.encode(text) for text in texts])
    assume(encoded is not None)
    lists = [encoding.ids for encoding in encoded]
    lists += data.draw(st.lists(st.lists(st.integers(0, limit), max_size=8), max_size=4), label="ids")
    # Strip panics in the tokenizers library where it is to take more than there is.
    expected = [outcome(lambda ids=ids: theirs.decode(ids, skip_special_tokens=skip)) for ids in lists]
    lists = [ids for ids, text in zip(lists, expected, strict=True) if text is not None]
    expected = [text for text in expected if text is not None]
    assert [ours.decode(ids, skip_special_tokens=skip) for ids in lists] == expected, lists
    assert ours.decode_batch(lists, skip_special_tokens=skip) == expected
    if theirs.decoder is not None:
        tokens = [token for encoding in encoded for token in encoding.tokens]
        text = outcome(lambda: theirs.decoder.decode(tokens))
        assert text is None or ours.tokens_to_string(tokens) == text, tokens


@given(tokenizer_files.tokenizer_files())
def test_vocabulary(file: TokenizerFile) -> None:
    """The tokens, their ids and their number."""
    theirs, ours = both(file)
    for with_added in (False, True):
        assert ours.vocab(with_added) == theirs.get_vocab(with_added)
        assert ours.vocab_size(with_added) == theirs.get_vocab_size(with_added)
    for token, number in theirs.get_vocab().items():
        assert ours.token_to_id(token) == theirs.token_to_id(token), token
        shown = theirs.id_to_token(number)
        assert ours.id_to_token(number) == (token if shows_normalized(theirs) else shown), number
    assert ours.token_to_id("no such token") is None
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    expected = [
        (number, *(getattr(token, flag) for flag in flags))
        for number, token in sorted(theirs.get_added_tokens_decoder().items())
    ]
    assert ours.added_tokens == expected


@given(CASES)
def test_saving(case: tuple[TokenizerFile, list[str]]) -> None:
    """What we write, the tokenizers library reads, and we read, with the results of the file it was."""
    file, texts = case
    theirs, ours = both(file)
    assume_determined(theirs)
    written = ours.to_json()
    read = tokenizers.Tokenizer.from_str(written.decode())
    again = _core.Pipeline.from_tokenizer_json(written)
    expected = outcome(lambda: [of_theirs(theirs.encode(text)) for text in texts])
    assume(expected is not None)
    assert_same([of_theirs(read.encode(text)) for text in texts], expected, texts)
    assert_same(of_ours(again.encode_batch(texts, offsets=True)), expected, texts)
    for row in [] if shows_normalized(theirs) else expected:
        decoded = outcome(lambda ids=row["ids"]: theirs.decode(ids, skip_special_tokens=False))
        assert decoded == outcome(lambda ids=row["ids"]: read.decode(ids, skip_special_tokens=False))
    assert again.to_json() == written


SPELLED = {"a": 0, "b": 1} | {f"<0x{byte:02X}>": byte + 2 for byte in range(256)}
SPACES = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
STRIP = {"type": "Strip", "strip_left": False, "strip_right": True}
SPACE_TOKEN = {
    "id": 258,
    "content": " ",
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": True,
    "special": False,
}


@pytest.mark.parametrize(
    ("normalizer", "added"),
    [
        (SPACES, []),
        (None, []),
        (STRIP, [SPACE_TOKEN]),
        (STRIP, [SPACE_TOKEN | {"rstrip": True, "lstrip": True}]),
    ],
    ids=["no-space-symbol", "merged-bytes", "empty-token", "empty-token-that-strips"],
)
def test_found_by_chance_before(normalizer: dict[str, Any] | None, added: list[dict[str, Any]]) -> None:
    """`▁` spelled in bytes, merges of bytes, and a token that the normalizer leaves nothing of."""
    model = {"type": "BPE", "byte_fallback": True, "vocab": SPELLED, "merges": []}
    if normalizer is None:
        merged = {"▁": 258, "<0xC3><0xA9>": 259}
        model |= {"vocab": SPELLED | merged, "merges": [["<0xC3>", "<0xA9>"]]}
    file = TokenizerFile(
        {
            "version": "1.0",
            "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": None,
            "model": model,
        }
    )
    theirs, ours = both(file)
    for text in ["a", "ab", "a b", "  a", "a  b  b", "é▁ a", "日 本", ""]:
        expected = outcome(lambda text=text: [of_theirs(theirs.encode(text))])
        if expected is not None:
            assert_same(of_ours(ours.encode_batch([text], offsets=True)), expected, text)
