"""Every id and every text is sentencepiece's, for every model at hand: trained, shipped, or lying beside.

Proven here, for each model: encode of str and of bytes (ill-formed UTF-8 too), batch = single, count =
length, decode of any ids, decode_bytes, decode_batch, vocabulary.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np
import pytest

from llamatok import ModelFormatError, Tokenizer
from support import locations, models, oracle, texts, ways

SHARED = {"llama2": "models/llama2/tokenizer.model", "mistral-v1": "models/mistral-v1/tokenizer.model"}
FILES = {"default": locations.DEFAULT_MODEL, **locations.mistral_common_models()}
NAMES = [*models.RECIPES, *FILES, *SHARED]


@functools.cache
def _pair(name: str) -> tuple[Tokenizer, Any]:
    """A model in both libraries."""
    if name in models.RECIPES:
        data = models.model(name)
    elif name in FILES:
        data = FILES[name].read_bytes()
    else:
        data = locations.shared_file(SHARED[name]).read_bytes()
    reference = oracle.load(data)
    if name == "default":
        return Tokenizer.default(), reference
    try:
        return Tokenizer.from_bytes(data), reference
    except ModelFormatError as error:
        if name in models.MAY_BE_REFUSED:
            pytest.skip(f"refused with the reason: {error}")
        raise


@pytest.fixture(params=NAMES)
def pair(request: pytest.FixtureRequest) -> tuple[Tokenizer, Any]:
    return _pair(request.param)


@functools.cache
def _sample() -> list[str]:
    """All texts of these tests: the fixed list, random ones, and ones that the trained models know well."""
    known = [
        text
        for alphabets in (
            models.EUROPE,
            models.WORLD,
            ("latin",),
            ("thai",),
            ("deseret",),
            ("emoji", "latin"),
        )
        for text in texts.familiar(1, alphabets)
    ]
    return [*texts.tricky(), *texts.random_texts(2, 250), *known]


def _bytes_sample() -> list[bytes]:
    return [*texts.INVALID_UTF8, *texts.random_bytes(4, 300), *(text.encode() for text in _sample()[::7])]


@functools.cache
def _ids_by_kind(reference: Any) -> tuple[list[int], ...]:
    """Ids of bytes, of control and unknown pieces, of pieces with a space in front, of bytes not ASCII."""
    size = reference.vocab_size()
    all_bytes = [i for i in range(size) if reference.is_byte(i)] or [0]
    special = [i for i in range(size) if reference.is_control(i) or reference.is_unknown(i)] or [0]
    spaced = [i for i in range(min(size, 4_000)) if reference.id_to_piece(i).startswith(texts.SPACE)] or [0]
    lead = [
        i for i in all_bytes if reference.id_to_piece(i)[3:4] in ("C", "D", "E", "F", "8", "9", "A", "B")
    ] or [0]
    return all_bytes, special, spaced, lead


def _id_lists(reference: Any, seed: int) -> list[list[int]]:
    """Ids as no encoder gives them: any order, bytes in runs, control and unknown ids anywhere."""
    rng = random.Random(seed)
    size = reference.vocab_size()
    all_bytes, special, spaced, lead = _ids_by_kind(reference)
    lists: list[list[int]] = [
        [],
        *([i] for i in range(min(size, 600))),
        *([i, i] for i in range(min(size, 300))),
    ]
    # Some vocabularies have hundreds of control pieces, which would make half a million pairs.
    paired = sorted(rng.sample(special, min(len(special), 20)))
    lists += [[a, b] for a in paired for b in (*paired, *spaced[:5], *all_bytes[:40:4])]
    lists += [
        [a, b] for a in (*spaced[:5], *all_bytes[::16]) for b in (*paired, *spaced[:5], *all_bytes[::16])
    ]
    for _ in range(400):
        pools = rng.choices(
            (range(size), all_bytes, lead, special, spaced), (4, 3, 3, 1, 2), k=rng.randrange(1, 30)
        )
        lists.append([rng.choice(pool) for pool in pools])
    for text in ("é🦙漢\u0301", "👩\u200d👧", "\ufffd", "a\U0010ffffb"):
        data = text.encode()
        if len(all_bytes) == 256:
            lists += [
                [all_bytes[b] for b in data[a:z]] for a in range(len(data)) for z in range(a, len(data) + 1)
            ]
    return lists


def _has_denormalizer(reference: Any) -> bool:
    """Whether the model changes decoded text by rules, which bytes do not go through."""
    return bool(models.parsed(reference.serialized_model_proto()).denormalizer_spec.precompiled_charsmap)


def test_encode_str(pair: tuple[Tokenizer, Any]) -> None:
    """encode(str) gives sentencepiece's ids."""
    tokenizer, reference = pair
    for text, expected in zip(_sample(), reference.encode(_sample()), strict=True):
        oracle.assert_same_ids(tokenizer.encode(text), expected, text, "encode")


def test_encode_bytes(pair: tuple[Tokenizer, Any]) -> None:
    """encode(bytes) gives sentencepiece's ids, ill-formed UTF-8 or not; for UTF-8 it equals encode(str)."""
    tokenizer, reference = pair
    for data in _bytes_sample():
        oracle.assert_same_ids(tokenizer.encode(data), reference.encode(data), data, "encode bytes")
    for text in _sample()[::5]:
        oracle.assert_same_ids(tokenizer.encode(text.encode()), tokenizer.encode(text), text, "bytes = str")


@functools.cache
def _aligned() -> list[str]:
    """The sample, and long texts of it that begin at each place of a vector of 64 bytes."""
    long = ["".join(_sample()), " ".join(_sample()), "\n".join(_sample())]
    return [*_sample(), *long, *("-" * shift + long[shift % 3][:3_000] for shift in range(64))]


@functools.cache
def _aligned_ids(name: str) -> list[list[int]]:
    return _pair(name)[1].encode(_aligned())  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ways.WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_every_way(name: str, way: str) -> None:
    """Whichever engine and SIMD level is taken and however little is cached, the ids are sentencepiece's."""
    reference = _pair(name)[1]
    tokenizer = ways.load(reference.serialized_model_proto(), way)
    if way == "general":
        assert tokenizer.settings["engine"] == "general"
    # The second time, what fits is in the cache, which the threads share.
    for time, threads in (("first", 1), ("second", 4)):
        batch = tokenizer.encode_batch(_aligned(), num_threads=threads)
        for text, row, expected in zip(_aligned(), batch.to_lists(), _aligned_ids(name), strict=True):
            oracle.assert_same_ids(row, expected, text, f"{name}, {way}, {time} time")


def test_batch_is_single(pair: tuple[Tokenizer, Any]) -> None:
    """encode_batch gives, in order, what encode gives, with any number of threads; count the lengths."""
    tokenizer, _ = pair
    sample = _sample()
    single = [tokenizer.encode(text) for text in sample]
    for threads in (None, 1, 3):
        batch = tokenizer.encode_batch(sample, num_threads=threads)
        assert len(batch) == len(sample)
        assert batch.offsets.dtype == np.int64
        assert batch.ids.dtype == np.uint32
        for text, row, expected in zip(sample, batch.to_lists(), single, strict=True):
            oracle.assert_same_ids(row, expected, text, f"encode_batch, {threads} threads")
    mixed: list[str | bytes] = [text.encode() if i % 2 else text for i, text in enumerate(sample[:200])]
    assert tokenizer.encode_batch(mixed).to_lists() == single[:200]
    assert tokenizer.count(sample).tolist() == [len(ids) for ids in single]


def test_begin_and_end(pair: tuple[Tokenizer, Any]) -> None:
    """add_bos and add_eos put the model's ids around the text's, the empty text's too."""
    tokenizer, reference = pair
    if reference.bos_id() < 0 or reference.eos_id() < 0:
        pytest.skip("the model has no bos or no eos")
    sample = _sample()[:40]
    for bos, eos in ((True, False), (False, True), (True, True)):
        expected = reference.encode(sample, add_bos=bos, add_eos=eos)
        assert tokenizer.encode_batch(sample, add_bos=bos, add_eos=eos).to_lists() == expected
        assert [tokenizer.encode(text, add_bos=bos, add_eos=eos) for text in sample] == expected


def test_decode_of_encoded(pair: tuple[Tokenizer, Any]) -> None:
    """decode(encode(text)) is sentencepiece's, and decode_batch is decode."""
    tokenizer, reference = pair
    ids = reference.encode(_sample())
    expected = [reference.decode(row) for row in ids]
    for row, text in zip(ids, expected, strict=True):
        oracle.assert_same_text(tokenizer.decode(row), text, row, "decode")
    for text, other in zip(tokenizer.decode_batch(ids), expected, strict=True):
        oracle.assert_same_text(text, other, "a row of a batch", "decode_batch")
    assert list(tokenizer.decode_batch(tokenizer.encode_batch(_sample()))) == expected


def test_decode_of_anything(pair: tuple[Tokenizer, Any]) -> None:
    """decode of any ids is sentencepiece's; the bytes are the same text wherever they are UTF-8."""
    tokenizer, reference = pair
    plain = not _has_denormalizer(reference)
    for row in _id_lists(reference, 5):
        expected = reference.decode(row)
        oracle.assert_same_text(tokenizer.decode(row), expected, row, "decode")
        if plain and "\ufffd" not in expected:
            oracle.assert_same_text(tokenizer.decode_bytes(row).decode(), expected, row, "decode_bytes")


def test_decode_without_special_tokens(pair: tuple[Tokenizer, Any]) -> None:
    """skip_special_tokens drops control and unknown ids first; what is left decodes as sentencepiece does."""
    tokenizer, reference = pair
    for row in _id_lists(reference, 6)[::3]:
        kept = [i for i in row if not reference.is_control(i) and not reference.is_unknown(i)]
        oracle.assert_same_text(
            tokenizer.decode(row, skip_special_tokens=True), reference.decode(kept), row, "decode, skipping"
        )


def test_vocabulary(pair: tuple[Tokenizer, Any]) -> None:
    """Pieces, their ids and the special ids are sentencepiece's."""
    tokenizer, reference = pair
    size = reference.vocab_size()
    assert tokenizer.vocab_size == size
    for i in range(size):
        piece = reference.id_to_piece(i)
        assert tokenizer.id_to_piece(i) == piece
        if piece != "\0":
            assert tokenizer.piece_to_id(piece) == i
    ours = (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    theirs = (reference.unk_id(), reference.bos_id(), reference.eos_id(), reference.pad_id())
    assert [-1 if i is None else i for i in ours] == list(theirs)


@pytest.mark.parametrize("bad", [-1, "size", 2**31, 2**32, 2**63])
def test_ids_out_of_range(bad: int | str) -> None:
    """An id that is in no vocabulary is refused, and the message names it and where it stands."""
    tokenizer, reference = _pair("llama_like")
    value = reference.vocab_size() if bad == "size" else int(bad)
    with pytest.raises((IndexError, ValueError, OverflowError), match=str(value)):
        tokenizer.decode([5, value])
    with pytest.raises((IndexError, ValueError, OverflowError), match=str(value)):
        tokenizer.decode_batch([[5], [6, value]])
