"""`Pipeline` against the live tokenizers library: added tokens, pairs, truncation, offsets, decoding."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamatok import Tokenizer
from llamatok._core import Pipeline

tokenizers = pytest.importorskip("tokenizers")

ATOMS = [
    "a",
    "b",
    "Hello",
    " ",
    "  ",
    "\n",
    "▁",
    "é",
    "e\u0301",
    "中",
    "🦙",
    "<s>",
    "</s>",
    "<foo>",
    "foo",
    "x",
    "1",
]
ATOMS += [".", "\u00a0", "\u3000", "<", ">", "_", "the ", " world", "<fo", "o>", "\x00", "\ufeff", "<0x0A>"]
texts = st.lists(st.sampled_from(ATOMS), max_size=12).map("".join)
flags = st.booleans()
added_tokens = st.lists(
    st.tuples(
        st.sampled_from(["<foo>", "foo", "a", "ab", "Hello", " foo", "foo ", "▁x", "é", "<fo", "  ", "o>"]),
        *[flags] * 5,
    ),
    max_size=4,
    unique_by=lambda token: token[0],
)
truncations = st.none() | st.tuples(
    st.integers(1, 14),
    st.integers(0, 3),
    st.sampled_from(["longest_first", "only_first", "only_second"]),
    st.sampled_from(["left", "right"]),
)


def json_of(legacy: bool, add_prefix_space: bool) -> str:
    pipeline = Pipeline.from_tokenizer(Tokenizer.default(), legacy=legacy, add_prefix_space=add_prefix_space)
    bos = [("<s>", 1, 0), ("A", None, 0)]
    return pipeline.with_template(bos, [*bos, ("</s>", 2, 2), ("B", None, 1)]).to_json().decode()


FILES = [json_of(legacy, prefix) for legacy in (True, False) for prefix in (True, False)]


def loaded(file: str, tokens: list[tuple]) -> tuple:
    library = tokenizers.Tokenizer.from_str(file)
    for content, single_word, lstrip, rstrip, normalized, special in tokens:
        token = tokenizers.AddedToken(
            content,
            single_word=single_word,
            lstrip=lstrip,
            rstrip=rstrip,
            normalized=normalized,
            special=special,
        )
        if special:
            library.add_special_tokens([token])
        else:
            library.add_tokens([token])
    return library, Pipeline.from_tokenizer_json(library.to_str().encode())


@settings(max_examples=settings.default.max_examples // 5)
@given(
    st.sampled_from(FILES),
    added_tokens,
    st.lists(st.tuples(texts, st.none() | texts, truncations, flags, flags), min_size=5, max_size=15),
)
def test_rows(file, tokens, calls):
    library, pipeline = loaded(file, tokens)
    for text, pair, truncation, add_special, split in calls:
        library.encode_special_tokens = split
        library.no_truncation()
        options = {}
        if truncation is not None:
            length, stride, strategy, side = truncation
            if stride >= length - 4 or (strategy != "longest_first" and pair is None):
                continue
            library.enable_truncation(length, stride=stride, strategy=strategy, direction=side)
            options = dict(max_length=length, stride=stride, truncation=strategy, truncation_side=side)
        arguments = dict(
            add_special_tokens=add_special, split_special_tokens=split, overflow=True, offsets=True, **options
        )
        pairs = None if pair is None else [pair]
        try:
            first = library.encode(text, pair, add_special_tokens=add_special)
        except Exception:  # too short to be cut as asked
            with pytest.raises(ValueError, match="text has"):
                pipeline.encode_batch([text], pairs, **arguments)
            continue
        batch = pipeline.encode_batch([text], pairs, **arguments)
        rows = [first, *first.overflowing]
        assert batch.lists("input_ids") == [row.ids for row in rows]
        assert [batch.tokens(row) for row in range(len(batch))] == [row.tokens for row in rows]
        assert batch.lists("token_type_ids") == [row.type_ids for row in rows]
        assert batch.lists("special_tokens_mask") == [row.special_tokens_mask for row in rows]
        assert batch.lists("offset_mapping") == [row.offsets for row in rows]
        assert batch.lists("word_ids") == [row.word_ids for row in rows]
        plain = pipeline.encode_batch([text], pairs, **{**arguments, "offsets": False})
        assert plain.lists("input_ids") == batch.lists("input_ids")
        # Of tokens that are sought in normalized text, releases of the library decode different texts.
        if not any(normalized for *_, normalized, _ in tokens):
            assert pipeline.decode(first.ids, skip_special_tokens=split) == library.decode(
                first.ids, skip_special_tokens=split
            )


@functools.cache
def with_foo(file: str) -> tuple:
    return loaded(file, [("<foo>", False, False, False, False, True)])


@given(st.sampled_from(FILES), st.lists(st.integers(0, 900), max_size=12), flags)
def test_decoding(file, ids, skip):
    library, pipeline = with_foo(file)
    ids = [*ids, pipeline.vocab_size() - 1]
    assert pipeline.decode(ids, skip_special_tokens=skip) == library.decode(ids, skip_special_tokens=skip)


def test_a_converted_model_is_what_it_was():
    default = Tokenizer.default()
    pipeline = Pipeline.from_tokenizer(default)
    library = tokenizers.Tokenizer.from_str(pipeline.to_json().decode())
    again = Pipeline.from_tokenizer_json(pipeline.to_json())
    for text in ["Hello world", "  a  b", "wörld 🦙\n", "x" * 300, ""]:
        expected = default.encode(text)
        assert pipeline.encode(text) == again.encode(text) == expected
        assert library.encode(text, add_special_tokens=False).ids == expected
