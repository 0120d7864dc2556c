"""From a SentencePiece `tokenizer.model` to the `tokenizer.json` that most peers want.

The result holds no control tokens as added tokens, so that text containing `</s>` stays text, as it does in
SentencePiece: every peer is then asked the same question. Only what the peers can express is converted; a
model with a character map, or one that is not byte-fallback BPE, is refused.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass
class Model:
    """What a `tokenizer.model` says, as far as a BPE tokenizer needs it."""

    pieces: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    is_bpe: bool = False
    byte_fallback: bool = False
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True

    @property
    def unk(self) -> str:
        """The piece that stands for what is unknown."""
        return self.pieces[self.kinds.index(UNKNOWN)]


def read_model(data: bytes) -> Model:
    """Read a serialized `ModelProto`; fields that do not matter here are passed over."""
    model = Model()
    for number, value in _fields(data):
        if number == 1:
            piece = dict(_fields(_bytes(value)))
            model.pieces.append(_bytes(piece.get(1, b"")).decode())
            model.scores.append(struct.unpack("<f", _bytes(piece.get(2, bytes(4))))[0])
            model.kinds.append(int(piece.get(3, NORMAL)))
        elif number == 2:
            trainer = dict(_fields(_bytes(value)))
            model.is_bpe = trainer.get(3, 1) == 2
            model.byte_fallback = bool(trainer.get(35, 0))
        elif number == 3:
            normalizer = dict(_fields(_bytes(value)))
            model.charsmap = _bytes(normalizer.get(2, b""))
            model.add_dummy_prefix = bool(normalizer.get(3, 1))
            model.remove_extra_whitespaces = bool(normalizer.get(4, 1))
            model.escape_whitespaces = bool(normalizer.get(5, 1))
    return model


def tokenizer_json(data: bytes) -> str:
    """`tokenizer.json` for the model in `data`.

    Raises `ValueError` for a model whose behaviour cannot be said in that format by plain means.
    """
    model = read_model(data)
    if not (model.is_bpe and model.byte_fallback):
        raise ValueError("only BPE models with byte fallback are converted")
    if model.charsmap or model.remove_extra_whitespaces or not model.escape_whitespaces:
        raise ValueError("models that change characters or drop spaces are not converted")
    normalizers: list[dict[str, object]] = []
    if model.add_dummy_prefix:
        normalizers.append({"type": "Prepend", "prepend": "▁"})
    normalizers.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    vocabulary = {piece: i for i, piece in enumerate(model.pieces)}
    added = [
        {
            "id": i,
            "content": model.pieces[i],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": True,
            "special": False,
        }
        for i, kind in enumerate(model.kinds)
        if kind == USER_DEFINED
    ]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                    {"type": "ByteFallback"},
                    {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": int(model.add_dummy_prefix), "stop": 0},
                ],
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": model.unk,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": True,
                "byte_fallback": True,
                "ignore_merges": False,
                "vocab": vocabulary,
                "merges": [list(pair) for pair in _merges(model, vocabulary)],
            },
        },
        ensure_ascii=False,
    )


def _merges(model: Model, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Every split of a piece into two pieces, best score first: the order that transformers writes."""
    found: list[tuple[float, int, int, str, str]] = []
    for piece, score in zip(model.pieces, model.scores, strict=True):
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        known = [(a, b) for a, b in splits if a in vocabulary and b in vocabulary]
        known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        found.extend((score, len(a), len(b), a, b) for a, b in known)
    found.sort(key=lambda merge: merge[:3], reverse=True)
    return [(a, b) for *_, a, b in found]


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Each field of a protobuf message as its number and value."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = data[at : at + size], at + size
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"not a SentencePiece model: wire type {wire} at byte {at}")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("not a SentencePiece model: it ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("not a SentencePiece model: a number where bytes belong")
    return value
