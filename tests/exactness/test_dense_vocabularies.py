"""Invented vocabularies over a handful of characters, in which nearly everything merges with everything.

Trained vocabularies seldom let two merges compete. Here they do at every character, so that a mistake in the
order of merges, in the places where text is cut, or in what runs of spaces become shows within a few texts.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from sentencepiece import sentencepiece_model_pb2 as pb

from llamatok import Tokenizer
from support import oracle, ways
from support.texts import SPACE

LETTERS = "abcé中"
SEEDS = range(60)


def _base(rng: random.Random, byte_fallback: bool, characters: str) -> Any:
    message = pb.ModelProto()
    trainer, normalizer = message.trainer_spec, message.normalizer_spec
    trainer.model_type = trainer.BPE
    trainer.byte_fallback = byte_fallback
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = rng.random() < 0.7
    normalizer.remove_extra_whitespaces = rng.random() < 0.3
    for text, kind in (("<unk>", "UNKNOWN"), ("<s>", "CONTROL"), ("</s>", "CONTROL")):
        message.pieces.add(piece=text, score=0.0).type = getattr(pb.ModelProto.SentencePiece, kind)
    if byte_fallback:
        for byte in range(256):
            message.pieces.add(piece=f"<0x{byte:02X}>", score=0.0).type = pb.ModelProto.SentencePiece.BYTE
    for character in characters:
        message.pieces.add(piece=character, score=-1e6)
    return message


def _words(rng: random.Random, alphabet: str, longest: int, count: int) -> list[str]:
    words = {"".join(rng.choices(alphabet, k=rng.randint(2, longest))) for _ in range(count)}
    # Most of them such that they come from others by a merge.
    for word in sorted(words):
        for _ in range(2):
            other = rng.choice(sorted(words))
            if len(word + other) <= 2 * longest:
                words.add(word + other)
    return sorted(words)


def _add(message: Any, pieces: dict[str, float]) -> None:
    present = {piece.piece for piece in message.pieces}
    for text, score in pieces.items():
        if text not in present:
            message.pieces.add(piece=text, score=score)


def like_llama(seed: int) -> bytes:
    """What the fast engine takes: ▁ only in front, merges of growing length, runs of ▁ last."""
    rng = random.Random(seed)
    message = _base(rng, rng.random() < 0.6, SPACE + LETTERS[: rng.randint(2, 5)])
    alphabet = LETTERS[: rng.randint(1, 4)] if rng.random() < 0.8 else LETTERS
    known = {piece.piece for piece in message.pieces}
    words = [
        word for word in _words(rng, alphabet, rng.randint(2, 4), rng.randint(3, 40)) if {*word} <= known
    ]
    words += [SPACE + word for word in [*words, *alphabet] if rng.random() < 0.5 and {*word} <= known]
    # Mostly such that the longer comes later; else the fast engine has to find out whether it may serve it.
    spread = rng.choice((0.9, 0.9, 0.9, 2.0))
    pieces = {word: -(len(word) + spread * rng.random()) for word in words}
    runs = range(2, rng.randint(2, 9))
    if rng.random() < 0.8:
        pieces |= {SPACE * length: -1e9 for length in runs}
    else:
        pieces |= {SPACE * length: -1e3 - rng.random() for length in runs if rng.random() < 0.5}
    _add(message, pieces)
    return bytes(message.SerializeToString())


def with_symbols(seed: int) -> bytes:
    """As `like_llama`, and user-defined symbols without spaces, which take part in no merge."""
    message = pb.ModelProto.FromString(like_llama(seed))
    rng = random.Random(seed)
    for piece in message.pieces:
        share = 0.15 if len(piece.piece) > 1 else 0.03
        if piece.type == piece.NORMAL and SPACE not in piece.piece and rng.random() < share:
            piece.type = piece.USER_DEFINED
    return bytes(message.SerializeToString())


def lawless(seed: int) -> bytes:
    """Anything goes: ▁ anywhere, any scores, equal ones too, unused pieces and user-defined symbols."""
    rng = random.Random(seed)
    characters = "".join(c for c in SPACE + LETTERS if rng.random() < 0.9)
    message = _base(rng, rng.random() < 0.6, characters)
    message.normalizer_spec.escape_whitespaces = rng.random() < 0.9
    message.trainer_spec.treat_whitespace_as_suffix = rng.random() < 0.2
    alphabet = SPACE + LETTERS[: rng.randint(1, 4)]
    scores = rng.choice((lambda: rng.uniform(-5, 5), lambda: float(rng.randrange(3)), lambda: 0.0))
    _add(message, {word: scores() for word in _words(rng, alphabet, rng.randint(2, 4), rng.randint(3, 40))})
    share = rng.choice((0.0, 0.0, 0.1, 0.4))
    for piece in message.pieces:
        if piece.type == piece.NORMAL and rng.random() < share:
            piece.type = rng.choice((piece.UNUSED, piece.USER_DEFINED))
    return bytes(message.SerializeToString())


def _texts(seed: int) -> list[str]:
    rng = random.Random(seed)
    alphabets = ("ab", "ab ", "abc ", f"a {SPACE}", "abcé中 ", "abcé中🦙\n. ")
    short = ["".join(rng.choices(rng.choice(alphabets), k=rng.randrange(40))) for _ in range(150)]
    return [*short, "".join(rng.choices("abc ", k=3_000)), "".join(rng.choices("abé中🦙", k=12_000))]


KINDS = {"like Llama": like_llama, "with symbols": with_symbols, "lawless": lawless}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_dense_vocabulary(kind: str, seed: int) -> None:
    """Ids and the text decoded from them are sentencepiece's, by every way."""
    data = KINDS[kind](seed)
    reference = oracle.load(data)
    sample = _texts(seed)
    expected = reference.encode(sample)
    for way in ways.WAYS:
        tokenizer = ways.load(data, way)
        for text, row, ids in zip(sample, tokenizer.encode_batch(sample).to_lists(), expected, strict=True):
            oracle.assert_same_ids(row, ids, text, f"{kind}, seed {seed}, {way}")
    for ids, text in zip(expected, reference.decode(expected), strict=True):
        oracle.assert_same_text(tokenizer.decode(ids), text, ids, f"{kind}, seed {seed}")


@pytest.mark.parametrize("kind", ["like Llama", "with symbols"])
def test_the_fast_engine_is_tested(kind: str) -> None:
    """Most of the vocabularies that are made for the fast engine are served by it."""
    engines = [Tokenizer.from_bytes(KINDS[kind](seed)).settings["engine"] for seed in SEEDS]
    assert engines.count("fast") > len(engines) // 2
