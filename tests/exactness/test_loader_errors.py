"""Damaged and foreign files are refused with an error naming the file and the field: no crash, no guess."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamatok import ModelFormatError, Tokenizer
from support import locations, models

GOOD = locations.DEFAULT_MODEL.read_bytes()


def _duplicate(message: Any) -> None:
    message.pieces[400].piece = message.pieces[300].piece


def _no_unknown(message: Any) -> None:
    message.trainer_spec.byte_fallback = False
    for piece in message.pieces:
        if piece.type in (piece.UNKNOWN, piece.BYTE):
            piece.type = piece.NORMAL


def _two_unknown(message: Any) -> None:
    message.pieces[300].type = message.pieces[300].UNKNOWN


def _missing_bytes(message: Any) -> None:
    del message.pieces[3 + 0x41 : 3 + 0x44]


def _bad_byte_name(message: Any) -> None:
    message.pieces[3 + 0x41].piece = "<0xZZ>"


def _nan(message: Any) -> None:
    message.pieces[500].score = math.nan


def _empty_piece(message: Any) -> None:
    message.pieces[500].piece = ""


def _no_pieces(message: Any) -> None:
    del message.pieces[:]


def _unfit_charsmap(message: Any) -> None:
    message.normalizer_spec.precompiled_charsmap = b"\xff\xff\xff\xff not a table"


def _short_charsmap(message: Any) -> None:
    message.normalizer_spec.precompiled_charsmap = b"\x01"


# (the change, words of which the message has one: the field that is at fault)
CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "duplicate piece": (_duplicate, "piece"),
    "no unknown piece": (_no_unknown, "unk|UNKNOWN|unknown"),
    "two unknown pieces": (_two_unknown, "unk|UNKNOWN|unknown|byte"),
    "missing byte pieces": (_missing_bytes, "byte"),
    "byte piece of no byte": (_bad_byte_name, "byte|piece"),
    "score that is no number": (_nan, "score"),
    "empty piece": (_empty_piece, "piece"),
    "no pieces": (_no_pieces, "piece|empty"),
    "charsmap of nonsense": (_unfit_charsmap, "charsmap"),
    "charsmap of one byte": (_short_charsmap, "charsmap"),
}


def _refused(path: Path, data: bytes, field: str | None = None) -> ModelFormatError:
    """Write the data and check that both ways of loading refuse it; the error of from_file is returned."""
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match=field):
        Tokenizer.from_bytes(data)
    with pytest.raises(ModelFormatError, match=field) as caught:
        Tokenizer.from_file(path)
    assert path.name in str(caught.value)
    assert isinstance(caught.value, ValueError)
    return caught.value


@pytest.mark.parametrize("name", list(CHANGES))
def test_contradictory_model(name: str, tmp_path: Path) -> None:
    """A file that contradicts itself: the message names the file and the field."""
    change, field = CHANGES[name]
    _refused(tmp_path / "spoilt.model", models.edited(GOOD, change), f"(?i){field}")


@pytest.mark.parametrize("kind", ["unigram", "word", "char"])
def test_other_model_types(kind: str, tmp_path: Path) -> None:
    """A model that is not BPE: the message names the type found."""
    size = 100 if kind == "word" else 400
    data = models.train(vocab_size=size, model_type=kind, alphabets=("latin",), hard_vocab_limit=False)
    _refused(tmp_path / f"{kind}-type.model", data, f"(?i)\\b{kind}\\b")


def test_truncated(tmp_path: Path) -> None:
    """The first part of a file, cut anywhere: no part of a model is taken for the whole of it."""
    rng = random.Random(1)
    cuts = {
        1,
        2,
        3,
        10,
        100,
        len(GOOD) // 2,
        len(GOOD) - 1,
        len(GOOD) - 2,
        *(rng.randrange(len(GOOD)) for _ in range(40)),
    }
    for cut in sorted(cuts):
        _refused(tmp_path / "cut.model", GOOD[:cut])


def test_empty(tmp_path: Path) -> None:
    """An empty file is no model."""
    _refused(tmp_path / "empty.model", b"")


@pytest.mark.parametrize("tail", [b"\0", b"\xff", b"garbage", b"\xff" * 1_000, b"\x0a\x05ab"])
def test_trailing_garbage(tail: bytes, tmp_path: Path) -> None:
    """Bytes after the end that are no part of the format."""
    _refused(tmp_path / "tail.model", GOOD + tail)


def test_random_bytes(tmp_path: Path) -> None:
    """Noise is refused, whatever it looks like at first."""
    rng = random.Random(3)
    starts = (
        b"",
        b"\x0a",
        b"GGUF",
        b"GGUF\x03\0\0\0",
        b"{",
        b'{"model": {"type": "BPE"}}',
        b"\x08\x96\x01",
        b"\x1f\x8b",
    )
    for start in starts:
        for size in (0, 1, 10, 1_000, 100_000):
            _refused(tmp_path / "noise.model", start + rng.randbytes(size) if size or start else b"\0")


def test_changed_bytes() -> None:
    """A byte changed anywhere: refused, or loaded as a model that works; never a crash."""
    rng = random.Random(4)
    small = models.model("tiny")
    for _ in range(400):
        data = bytearray(small)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            tokenizer = Tokenizer.from_bytes(bytes(data))
        except (ModelFormatError, OSError):
            continue
        tokenizer.decode(tokenizer.encode("Hello  world é \0 🦙"))


def test_gguf_of_absurd_lengths(tmp_path: Path) -> None:
    """Lengths and counts in a GGUF header that no file could hold are refused, and nothing is allocated."""
    huge = (2**63).to_bytes(8, "little")
    zero = (0).to_bytes(8, "little")
    one = (1).to_bytes(8, "little")
    for version in (2, 3):
        head = b"GGUF" + version.to_bytes(4, "little")
        key = (len("tokenizer.ggml.tokens")).to_bytes(8, "little") + b"tokenizer.ggml.tokens"
        array = key + (9).to_bytes(4, "little") + (8).to_bytes(4, "little")
        for body in (
            zero + huge,
            huge + zero,
            zero + one + huge,
            zero + one + array + huge,
            zero + one + array + one + huge,
        ):
            _refused(tmp_path / "absurd.gguf", head + body)


@pytest.mark.parametrize("cut", [4, 8, 24, 100, 10_000, -1])
def test_truncated_gguf(cut: int, tmp_path: Path) -> None:
    """A GGUF file cut in its header or metadata."""
    data = locations.shared_file("vectors", "ggml-vocab-llama-spm.gguf").read_bytes()
    _refused(tmp_path / "cut.gguf", data[: cut if cut > 0 else len(data) // 2])


@pytest.mark.parametrize("start", [b"\x0a", b'{"version": "1.0", "model": {}'])
def test_files_beyond_the_limit(start: bytes, tmp_path: Path) -> None:
    """A file of one byte more than 256 MiB is refused for its size, a `tokenizer.json`, too."""
    path = tmp_path / "large.model"
    path.write_bytes(start)
    os.truncate(path, (256 << 20) + 1)
    with pytest.raises(ModelFormatError, match=r"large\.model: file: 268435457 bytes, more than the limit"):
        Tokenizer.from_file(path)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is an OSError that has its name."""
    path = tmp_path / "absent.model"
    with pytest.raises(FileNotFoundError) as caught:
        Tokenizer.from_file(path)
    assert "absent.model" in str(caught.value)


def test_folder(tmp_path: Path) -> None:
    """A folder is no file."""
    with pytest.raises(OSError, match=tmp_path.name):
        Tokenizer.from_file(tmp_path)


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that may not be read is an OSError, not a format error."""
    path = tmp_path / "closed.model"
    path.write_bytes(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads every file")
    with pytest.raises(PermissionError, match="closed"):
        Tokenizer.from_file(path)


@pytest.mark.parametrize("wrong", [None, 5, 1.5, ["a"], {"a": 1}])
def test_wrong_types(wrong: Any) -> None:
    """Arguments of another type are a TypeError."""
    with pytest.raises(TypeError):
        Tokenizer.from_bytes(wrong)
    with pytest.raises(TypeError):
        Tokenizer.default().encode(wrong)


def test_nothing_is_printed() -> None:
    """A refused file leaves standard error to the exception: no panic message, no trace of the core."""
    code = (
        "from llamatok import Tokenizer, ModelFormatError\n"
        "try:\n    Tokenizer.from_bytes(b'\\x0a\\xff\\xff\\xff\\xff\\x0f')\n"
        "except ModelFormatError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("refused\n", "", 0)
