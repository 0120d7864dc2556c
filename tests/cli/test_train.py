"""`train` writes a model that the other commands take."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llamatok import Tokenizer
from llamatok.cli import main

from .conftest import Run

TEXT = "the quick brown fox jumps over the lazy dog and the other dogs\n" * 200


def test_train_from_a_file_and_standard_input(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    source = tmp_path / "text.txt"
    source.write_text(TEXT, encoding="utf-8")
    models = [tmp_path / "file.model", tmp_path / "stdin.model"]
    run("train", "--vocab-size", "320", "-o", models[0], source)
    done = run("train", "--vocab-size", "320", "--json", "-o", models[1], input=TEXT.encode())
    assert json.loads(done.stdout)["vocab_size"] == 320
    assert models[0].read_bytes() == models[1].read_bytes()
    tokenizer = Tokenizer.from_file(str(models[0]))
    ids = run("encode", "--model", models[0], input=b"the dog").stdout.split()
    assert [int(id) for id in ids] == tokenizer.encode("the dog")


def test_impossible_sizes_are_named(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    done = run("train", "--vocab-size", "5", "-o", tmp_path / "model", input=TEXT.encode(), status=1)
    assert done.stderr.startswith(b"llamatok: error: ")
    assert b"vocab_size" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_trainer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    source = tmp_path / "text.txt"
    source.write_text(TEXT, encoding="utf-8")
    assert main(["train", "-o", str(tmp_path / "model"), str(source)]) == 1
    assert "hint: pip install 'llamatok[train]'" in capsys.readouterr().err
