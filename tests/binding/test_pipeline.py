"""`Pipeline` and `EncodingBatch`: columns, lists, rectangles, errors, pickles, threads."""

import copy
import pickle
import threading

import numpy as np
import pytest

from llamatok._core import Pipeline, Tokenizer, TokenizerError

SPECIAL = [
    (0, "<unk>", False, False, False, False, True),
    (1, "<s>", False, False, False, False, True),
    (2, "</s>", False, False, False, False, True),
]
TEXTS = ["Hello world", "", " a\n", "wörld 🦙 ok", "<s>Hello</s> x", "  spaces   here "]


def with_bos(pipeline: Pipeline) -> Pipeline:
    bos = [("<s>", 1, 0), ("A", None, 0)]
    return (
        pipeline.with_added_tokens(SPECIAL)
        .with_special_ids([0, 1, 2])
        .with_template(bos, [*bos, ("<s>", 1, 1), ("B", None, 1)])
    )


@pytest.fixture(scope="module", params=["legacy", "new", "tokenizer.json"])
def pipeline(request, default_tokenizer: Tokenizer) -> Pipeline:
    made = with_bos(Pipeline.from_tokenizer(default_tokenizer, legacy=request.param != "new"))
    return Pipeline.from_tokenizer_json(made.to_json()) if request.param == "tokenizer.json" else made


def test_modes(default_tokenizer):
    slow = Pipeline.from_tokenizer(default_tokenizer, legacy=False)
    assert (slow.mode, slow.legacy, slow.add_prefix_space) == ("sentencepiece", False, True)
    assert slow.with_settings(legacy=True, add_prefix_space=False).legacy
    json = Pipeline.from_tokenizer_json(slow.to_json())
    assert json.mode == "tokenizer_json"
    with pytest.raises(ValueError, match="settings of its file"):
        json.with_settings(legacy=True)


def test_all_ways_give_the_same_ids(pipeline):
    batch = pipeline.encode_batch(TEXTS)
    lists = batch.lists("input_ids")
    assert lists == [pipeline.encode(text) for text in TEXTS]
    assert lists == pipeline.encode_batch(tuple(TEXTS), num_threads=1, offsets=True).lists("input_ids")
    assert [pipeline.ids_to_tokens(ids) for ids in lists] == [batch.tokens(row) for row in range(len(TEXTS))]
    assert batch.ids.tolist() == [token_id for ids in lists for token_id in ids]
    assert np.diff(batch.row_offsets).tolist() == batch.lengths().tolist() == [len(ids) for ids in lists]
    assert batch.lists("attention_mask") == [[1] * len(ids) for ids in lists]
    assert [pipeline.tokenize(text, add_special_tokens=True) for text in TEXTS] == [
        batch.tokens(row) for row in range(-len(TEXTS), 0)
    ]


def test_flat_columns(pipeline):
    batch = pipeline.encode_batch(["a b", "c"], ["d", "e f"], offsets=True)
    for row in range(2):
        part = slice(*batch.row_offsets[row : row + 2])
        assert batch.type_ids[part].tolist() == batch.lists("token_type_ids")[row]
        assert batch.special_tokens_mask[part].tolist() == batch.lists("special_tokens_mask")[row]
        words = [None if word < 0 else word for word in batch.word_ids[part].tolist()]
        assert words == batch.lists("word_ids")[row]
        assert [tuple(span) for span in batch.char_offsets[part].tolist()] == batch.lists("offset_mapping")[
            row
        ]
        sequences = batch.lists("sequence_ids")[row]
        assert [-1 if sequence is None else sequence for sequence in sequences] == batch.sequence_ids[
            part
        ].tolist()
        assert batch.lists("special_tokens_mask")[row] == [int(sequence is None) for sequence in sequences]
    assert batch.sample_mapping.tolist() == [0, 1]
    for column in (batch.ids, batch.row_offsets, batch.type_ids, batch.word_ids, batch.char_offsets):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0


def test_details_only_where_asked_for(pipeline):
    batch = pipeline.encode_batch(["a"])
    assert batch.char_offsets is None
    assert batch.word_ids is None
    with pytest.raises(ValueError, match="offsets=True"):
        batch.lists("offset_mapping")


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(pipeline, side):
    batch = pipeline.encode_batch(TEXTS)
    lists = batch.lists("input_ids")
    width = max(map(len, lists)) + 3
    fill = [[7] * (width - len(ids)) for ids in lists]
    expected = [pad + ids if side == "left" else ids + pad for ids, pad in zip(lists, fill, strict=True)]
    assert batch.lists("input_ids", length=width, side=side, pad_value=7) == expected
    padded = batch.padded("input_ids", width, side, 7)
    assert padded.dtype == np.int64
    assert padded.tolist() == expected
    mask = batch.padded("attention_mask", width, side)
    assert mask.tolist() == batch.lists("attention_mask", length=width, side=side)
    assert mask.sum(axis=1).tolist() == batch.lengths().tolist()
    assert batch.padded("input_ids").shape == (len(TEXTS), width - 3)
    with pytest.raises(ValueError, match="more than length"):
        batch.padded("input_ids", 1)


def test_a_large_rectangle_is_filled_by_threads(pipeline):
    texts = [f"text number {number}" * (number % 7) for number in range(3_000)]
    batch = pipeline.encode_batch(texts)
    assert batch.padded("input_ids", 200, pad_value=9).tolist() == batch.lists(
        "input_ids", length=200, pad_value=9
    )


def test_rows_are_sliced(pipeline):
    batch = pipeline.encode_batch(TEXTS, ["b"] * len(TEXTS), offsets=True)
    part = batch[2:5]
    assert len(part) == 3
    for column in ("input_ids", "token_type_ids", "offset_mapping", "word_ids", "sequence_ids"):
        assert part.lists(column) == batch.lists(column)[2:5]
    assert len(batch[4:2]) == 0


def test_words(pipeline):
    batch = pipeline.encode_batch([["Hello", " world", ""], []], is_split_into_words=True, offsets=True)
    single = [pipeline.encode(word, add_special_tokens=False) for word in ["Hello", " world"]]
    assert batch.lists("input_ids") == [[1, *single[0], *single[1]], [1]]
    assert batch.lists("word_ids")[0] == [None, *[0] * len(single[0]), *[1] * len(single[1])]
    assert batch.lists("offset_mapping")[0][-1][1] == len(" world")


def test_offsets_give_the_text_back(pipeline):
    text = "Grüße, 世界!  two <s> 🦙s"
    batch = pipeline.encode_batch([text], offsets=True)
    for token, (start, end) in zip(batch.tokens(0), batch.lists("offset_mapping")[0], strict=True):
        piece = token.replace("▁", " ")
        if not token.startswith("<0x") and start != end:
            assert piece.endswith(text[start:end]) or text[start:end] == piece[-1:] or piece == " "
    assert batch.lists("offset_mapping")[0].count((text.index("🦙"), text.index("🦙") + 1)) == 4


def test_lone_surrogates(pipeline):
    with pytest.raises(ValueError, match=r"position 1.*texts\[1\]"):
        pipeline.encode_batch(["ok", "a\ud800b"])
    with pytest.raises(ValueError, match=r"position 0.*pairs\[0\]\[1\]"):
        pipeline.encode_batch([["a"]], [["b", "\udfff"]], is_split_into_words=True)
    with pytest.raises(ValueError, match="position 1"):
        pipeline.encode("a\ud800b")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("a",), TypeError, "iterable of str, not str"),
        (([b"a"],), TypeError, r"texts\[0\] must be str, not bytes"),
        (([1],), TypeError, r"texts\[0\] must be str, not int"),
        ((["a"], ["b", "c"]), TokenizerError, "as many"),
    ],
)
def test_wrong_texts(pipeline, arguments, error, message):
    with pytest.raises(error, match=message):
        pipeline.encode_batch(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": "longest_first"}, "max_length"),
        ({"truncation": "shortest", "max_length": 4}, "truncation must be"),
        ({"truncation": "only_first", "max_length": -1}, "max_length must not be negative"),
        ({"truncation": "only_first", "max_length": 9, "stride": -1}, "stride must not be negative"),
        ({"truncation": "only_first", "max_length": 9, "truncation_side": "up"}, "truncation_side"),
        ({"dropout": 1.5}, "between 0 and 1"),
        ({"num_threads": 0}, "num_threads"),
    ],
)
def test_wrong_options(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline.encode_batch(["some text"], **options)


def test_strides_without_room(pipeline):
    options = {"truncation": "only_first", "max_length": 4, "stride": 3, "overflow": True}
    if pipeline.mode == "sentencepiece":
        assert pipeline.encode_batch(["a b c d e f"], **options).lengths().tolist() == [4]
    else:
        with pytest.raises(ValueError, match="stride"):
            pipeline.encode_batch(["a b c d e f"], **options)


def test_overflow(pipeline):
    ids = pipeline.encode("a b c d e f g", add_special_tokens=False)
    batch = pipeline.encode_batch(
        ["a b c d e f g", "a"], truncation="longest_first", max_length=4, stride=1, overflow=True
    )
    if pipeline.mode == "sentencepiece":
        assert batch.lists("input_ids") == [[1, *ids[:3]], [1, ids[0]]]
        assert batch.overflowing_ids == [ids[2:], []]
        assert batch.num_truncated.tolist() == [len(ids) - 3, -2]
        assert batch.sample_mapping.tolist() == [0, 1]
    else:
        windows = [[1, *ids[start : start + 3]] for start in (0, 2, 4)]
        assert batch.lists("input_ids") == [*windows, [1, ids[0]]]
        assert batch.sample_mapping.tolist() == [0, 0, 0, 1]
        assert batch.overflowing_ids is None
        assert batch.num_truncated is None


def test_too_short_to_be_cut(pipeline):
    options = {"truncation": "only_first", "max_length": 3}
    if pipeline.mode == "sentencepiece":
        batch = pipeline.encode_batch(["a", "a"], ["b c d e", "b"], **options)
        assert batch.unmet_rows == [0, 1]
        assert batch.lists("input_ids")[0] == pipeline.encode("a", "b c d e")
    else:
        with pytest.raises(ValueError, match="first text has 1 token"):
            pipeline.encode_batch(["a"], ["b c d e"], **options)


def test_no_text_gives_a_control_id_where_specials_are_split(pipeline):
    text = "<s></s><unk> <s>\n</s>x<<s>>"
    assert not {0, 1, 2} & set(pipeline.encode(text, add_special_tokens=False, split_special_tokens=True))
    assert {0, 1, 2} <= set(pipeline.encode(text, add_special_tokens=False))


def test_decoding(pipeline):
    lists = [pipeline.encode(text) for text in TEXTS]
    assert pipeline.decode_batch(lists) == [pipeline.decode(ids) for ids in lists]
    decoded = pipeline.decode_batch(lists, skip_special_tokens=True, num_threads=2)
    assert [text.strip() for text in decoded][:3] == [text.strip() for text in TEXTS][:3]
    assert pipeline.decode([]) == ""
    assert pipeline.tokens_to_string([]) == ""
    assert pipeline.decode(pipeline.encode("it 's n't ?"), clean_up_tokenization_spaces=True).endswith(
        "it'sn't?"
    )
    missing = pipeline.vocab_size() + 5
    if pipeline.mode == "sentencepiece":
        with pytest.raises(IndexError, match=f"id {missing} at index 1"):
            pipeline.decode([1, missing])
        with pytest.raises(IndexError, match="at index 0"):
            pipeline.ids_to_tokens([missing])
    else:
        assert pipeline.decode([1, missing]) == "<s>"
        assert pipeline.ids_to_tokens([missing]) == []


def test_vocabulary(pipeline, default_tokenizer):
    size = default_tokenizer.vocab_size
    more = pipeline.with_added_tokens([*SPECIAL, (size, "<pad>", False, False, False, False, True)])
    assert (more.vocab_size(), more.vocab_size(with_added=False)) == (size + 1, size)
    assert more.token_to_id("<pad>") == size
    assert pipeline.token_to_id("<pad>") is None
    assert more.id_to_token(size) == "<pad>"
    assert more.id_to_token(size + 1) is None
    assert more.tokens_to_ids(["<pad>", "no such token"], 0) == [size, 0]
    assert more.vocab()["<pad>"] == size
    assert "<pad>" not in more.vocab(with_added=False)
    assert more.added_tokens[-1] == (size, "<pad>", False, False, False, False, True)
    assert more.encode("a<pad>", add_special_tokens=False)[-1] == size
    assert pipeline.encode("a<pad>", add_special_tokens=False)[-1] != size
    assert pipeline.num_special_tokens() == 1
    assert pipeline.num_special_tokens(pair=True) == 2


def test_wrong_templates(pipeline):
    with pytest.raises(ValueError, match="each text once"):
        pipeline.with_template([("B", None, 0)], [("A", None, 0), ("B", None, 0)])
    with pytest.raises(ValueError, match=r"<s>.* has no id"):
        pipeline.with_template([("<s>", None, 0), ("A", None, 0)], [])


def test_type_ids_are_int32(pipeline):
    single, pair = [("A", None, 0)], [("A", None, 0), ("B", None, 2**31 - 1)]
    assert pipeline.with_template(single, pair).template == (single, pair)
    with pytest.raises(TokenizerError, match=r"single: the type id 2147483648 is more than 2147483647"):
        pipeline.with_template([("A", None, 2**31)], pair)
    with pytest.raises(TokenizerError, match=r"pair: the type id 4294967295 is more than 2147483647"):
        pipeline.with_template(single, [*pair, ("</s>", 2, 2**32 - 1)])


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(pipeline, protocol, default_tokenizer):
    pipeline = pipeline.with_added_tokens(
        [*SPECIAL, (default_tokenizer.vocab_size + 3, "<far>", True, False, True, False, False)]
    )
    again = pickle.loads(pickle.dumps(pipeline, protocol))
    assert again.mode == pipeline.mode
    assert again.legacy == pipeline.legacy
    assert again.added_tokens == pipeline.added_tokens
    assert again.template == pipeline.template
    assert again.encode_batch(TEXTS).lists("input_ids") == pipeline.encode_batch(TEXTS).lists("input_ids")
    assert copy.copy(pipeline) is pipeline
    assert copy.deepcopy(pipeline) is pipeline


def test_threads_share_a_pipeline(pipeline):
    expected = pipeline.encode_batch(TEXTS * 50).lists("input_ids")
    failures: list[str] = []

    def work() -> None:
        for _ in range(20):
            if pipeline.encode_batch(TEXTS * 50).lists("input_ids") != expected:
                failures.append("other ids")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_dropout(pipeline):
    text = "several ordinary words in a row"
    plain = pipeline.encode(text, add_special_tokens=False)
    ids = lambda **options: pipeline.encode_batch(  # noqa: E731
        [text] * 40, add_special_tokens=False, **options
    ).lists("input_ids")
    assert ids(dropout=0.0) == [plain] * 40
    sampled = ids(dropout=0.3, seed=7)
    assert sampled == ids(dropout=0.3, seed=7, num_threads=1) != ids(dropout=0.3, seed=8)
    assert len({tuple(row) for row in sampled}) > 1
    assert {pipeline.decode(row).strip() for row in sampled} == {text}
    assert {len(row) for row in ids(dropout=1.0)} == {len(text) + 1}


def test_not_a_tokenizer_json():
    with pytest.raises(TypeError, match="data must be bytes"):
        Pipeline.from_tokenizer_json("{}")
    with pytest.raises(ValueError, match="model"):
        Pipeline.from_tokenizer_json(b"{}")


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("from_json", [True, False])
def test_a_long_text_is_shared_among_threads_with_the_same_ids(legacy, from_json):
    made = Pipeline.from_tokenizer(Tokenizer.default(), legacy=legacy)
    made = made.with_added_tokens([(1, "<s>", False, False, False, False, True)])
    pipeline = Pipeline.from_tokenizer_json(made.to_json()) if from_json else made
    for part in ["the end  of\n ", "▁ ▁a ▁▁ b", "中文漢字", "abab", "    ", "é🦙 \ufffd ", "x", "a<s>b "]:
        text = part * (1_700_000 // len(part.encode()) + 3)
        expected = pipeline.encode_batch([text], num_threads=1).ids
        for texts in ([text], [text, part]):
            batch = pipeline.encode_batch(texts, num_threads=3)
            assert np.array_equal(batch.ids[: len(expected)], expected), part
    words = [["the end " * 200_000, "x"]]
    alone = pipeline.encode_batch(words, is_split_into_words=True, num_threads=1, offsets=True)
    shared = pipeline.encode_batch(words, is_split_into_words=True, num_threads=3, offsets=True)
    assert np.array_equal(alone.ids, shared.ids)
    assert np.array_equal(alone.char_offsets, shared.char_offsets)
