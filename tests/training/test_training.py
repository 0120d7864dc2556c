"""llamatok.train writes models of Llama's layout, the same on every run, and refuses what it cannot use."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from llamatok import Tokenizer
from llamatok.train import train
from support import locations, models, oracle, texts

SPACE = texts.SPACE


def _corpus(folder: Path) -> Path:
    path = folder / "corpus.txt"
    path.write_text("\n".join(texts.training_text(1, 1_500, ("latin", "cyrillic"))), encoding="utf-8")
    return path


def assert_llama_layout(data: bytes, vocab_size: int, longest_run: int) -> None:
    """The properties of Llama's vocabulary that fast tokenizers rely on."""
    message = models.parsed(data)
    pieces = [piece.piece for piece in message.pieces]
    known = set(pieces)
    assert len(pieces) == len(known) == vocab_size
    assert pieces[:3] == ["<unk>", "<s>", "</s>"]
    assert pieces[3:259] == [f"<0x{byte:02X}>" for byte in range(256)]
    runs = {piece for piece in pieces if not piece.strip(SPACE)}
    assert runs == {SPACE * length for length in range(1, longest_run + 1)}
    characters = [index for index in range(259, vocab_size) if len(pieces[index]) == 1]
    assert characters == list(range(characters[0], vocab_size)), "merges first, then characters"
    for rank, piece in enumerate(message.pieces[259:]):
        text = piece.piece
        assert piece.score == (-1e9 if text in runs else -rank)
        assert SPACE not in text[1:] or text in runs
        assert all(letter in known for letter in text)
        cuts = range(1, len(text))
        assert len(text) == 1 or any(text[:cut] in known and text[cut:] in known for cut in cuts)
    assert message.normalizer_spec.name == "identity"
    assert not message.normalizer_spec.precompiled_charsmap
    assert message.normalizer_spec.add_dummy_prefix
    assert not message.normalizer_spec.remove_extra_whitespaces
    settings = message.trainer_spec
    assert (settings.byte_fallback, settings.split_digits, settings.vocab_size) == (True, True, vocab_size)


def test_default_model_has_llama_layout() -> None:
    """The embedded tokenizer has Llama 2's layout, and its sha256 is the one written beside it."""
    import hashlib

    data = locations.DEFAULT_MODEL.read_bytes()
    assert_llama_layout(data, 32_000, 16)
    provenance = locations.DEFAULT_MODEL.with_name("README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(data).hexdigest() in provenance


@pytest.mark.parametrize(("vocab_size", "longest_run"), [(700, 16), (2_000, 16), (700, 1), (700, 4)])
def test_layout(vocab_size: int, longest_run: int, tmp_path: Path) -> None:
    """A model has the layout for any size, both libraries load it, and they agree on it."""
    output = tmp_path / "new.model"
    report = train([_corpus(tmp_path)], output, vocab_size=vocab_size, longest_space_run=longest_run)
    data = output.read_bytes()
    assert_llama_layout(data, vocab_size, longest_run)
    assert (report["vocab_size"], report["lines_too_long"]) == (vocab_size, 0)
    tokenizer, reference = Tokenizer.from_file(output), oracle.load(data)
    for text in texts.familiar(1, ("latin", "cyrillic")) + texts.tricky():
        oracle.assert_same_ids(tokenizer.encode(text), reference.encode(text), text)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["corpus.txt", "new.model"]


def test_same_every_time(tmp_path: Path) -> None:
    """The file depends on the text and the settings: not on threads, not on how the text is packed."""
    corpus = _corpus(tmp_path)
    lines = corpus.read_text(encoding="utf-8").split("\n")
    packed = tmp_path / "corpus.jsonl.gz"
    with gzip.open(packed, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"body": line}) + "\n" for line in lines)
    made = [
        train([corpus], tmp_path / "1", vocab_size=700, num_threads=1)["sha256"],
        train([corpus], tmp_path / "2", vocab_size=700, num_threads=3)["sha256"],
        train([packed], tmp_path / "3", vocab_size=700, text_key="body")["sha256"],
    ]
    assert len(set(made)) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vocab_size": 275}, "vocab_size must be more than 275"),
        ({"vocab_size": 280}, "(?i)vocabulary size"),
        ({"vocab_size": 500_000}, r"vocab_size must be at most \d+ for these texts, not 500000"),
        ({"character_coverage": 2.0}, "character_coverage"),
        ({"longest_space_run": 0}, "longest_space_run"),
        ({"num_threads": 0}, "num_threads"),
        ({"max_sentence_length": 0}, "max_sentence_length"),
        ({"model_type": "unigram"}, "model_type"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_settings_refused(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A setting that cannot be used is a ValueError that names it, and no file is left."""
    with pytest.raises(ValueError, match=words):
        train([_corpus(tmp_path)], tmp_path / "new.model", **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"body": "x"}\n', "line 1: no field 'text'.*'body'"),
        ("a.jsonl", b'{"text": 5}\n', "holds int"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "surrogate"),
        ("a.jsonl", b"[1]\n", "line 1: no field"),
        ("a.txt", b"good\n\xff\xfe\n", "UTF-8"),
        ("a.txt", b"", "no text"),
        ("a.txt.gz", b"no gzip", "gzip"),
        ("a.txt.zst", b"no zstandard", "zstandard"),
    ],
)
def test_inputs_refused(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    """An input that cannot be used is a ValueError that names the file and the line."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        train([path], tmp_path / "new.model", vocab_size=700)
    assert not (tmp_path / "new.model").exists()


def test_the_greatest_vocabulary_that_is_named_can_be_trained(tmp_path: Path) -> None:
    """The library's own count leaves out the runs of spaces, which are added later."""
    text = tmp_path / "text.txt"
    text.write_text("the llama hums, and the llamas hum\n" * 20, encoding="utf-8")
    with pytest.raises(ValueError, match="at most") as refused:
        train(text, tmp_path / "model", vocab_size=8_000)
    found = re.search(r"at most (\d+) ", str(refused.value))
    assert found is not None
    most = int(found[1])
    assert train(text, tmp_path / "model", vocab_size=most)["vocab_size"] == most
    with pytest.raises(ValueError, match=f"at most {most} for these texts, not {most + 1}"):
        train(text, tmp_path / "model", vocab_size=most + 1)


def test_no_inputs(tmp_path: Path) -> None:
    """No inputs, or one that is not there."""
    with pytest.raises(ValueError, match="no input"):
        train([], tmp_path / "new.model")
    with pytest.raises(FileNotFoundError, match="absent"):
        train([tmp_path / "absent.txt"], tmp_path / "new.model")


def test_long_lines_are_counted(tmp_path: Path) -> None:
    """Lines longer than max_sentence_length are left out, and the report says how many."""
    path = _corpus(tmp_path)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + "Ω " * 5_000)
    report = train([path], tmp_path / "new.model", vocab_size=700)
    assert report["lines_too_long"] == 1
    assert "Ω" not in {piece.piece for piece in models.parsed((tmp_path / "new.model").read_bytes()).pieces}


def test_without_sentencepiece(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the library the error names the command that installs it."""
    import sys

    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"pip install 'llamatok\[train\]'"):
        train([_corpus(tmp_path)], tmp_path / "new.model", vocab_size=700)


def test_ctrl_c_while_documents_are_read(tmp_path, monkeypatch):
    """The library wraps what its iterator raises into an error of its own."""

    def documents(*_: Any) -> Any:
        yield "some words"
        raise KeyboardInterrupt

    monkeypatch.setattr("llamatok.train._documents", documents)
    with pytest.raises(KeyboardInterrupt):
        train([_corpus(tmp_path)], tmp_path / "out.model", vocab_size=500)
    assert not (tmp_path / "out.model").exists()
