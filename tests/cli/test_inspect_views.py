"""`inspect --html`, `--beside`, `--compare-legacy` and `--report`."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import llamatok
from llamatok import Tokenizer

from .conftest import Run

DEFAULT = Path(llamatok.__file__).parent / "data" / "default.model"


def test_a_page(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tokens.html"
    done = run("inspect", "--text", "Hello <script>", "--html", path)
    content = path.read_text(encoding="utf-8")
    assert done.stdout == b""
    assert content.startswith("<!doctype html>")
    assert content.count("<script>") == 1
    assert run("inspect", "--text", "Hello <script>", "--html", "-").stdout.decode() == content


def test_two_models_on_a_text(run: Run, tokenizer: Tokenizer, tmp_path: Path) -> None:
    other = tmp_path / "other.model"
    assert run("inspect", "--text", "x", "--beside", other, status=1).stderr
    other.write_bytes(DEFAULT.read_bytes())
    views = json.loads(run("inspect", "--json", "--text", "Hi", "--beside", other).stdout)["views"]
    assert [view["title"] for view in views] == ["the embedded tokenizer", "other.model"]
    assert [t["id"] for t in views[0]["tokens"]] == tokenizer.encode("Hi")
    assert views[0]["tokens"] == views[1]["tokens"]
    assert views[0]["tokens"][-1]["span"][1] == 2


def test_legacy_beside_not(run: Run) -> None:
    shown = run("inspect", "--text", "Hi</s>there", "--compare-legacy").stdout.decode()
    legacy, not_legacy = shown.split("\n\nlegacy=False\n")
    assert legacy.startswith("legacy=True\n<s>|▁Hi|</s>|▁there\n")
    assert not_legacy.startswith("<s>|▁Hi|</s>|t|here\n")
    assert "≠" in legacy


def test_a_report(run: Run, tokenizer: Tokenizer, tmp_path: Path) -> None:
    path, text = tmp_path / "report.html", tmp_path / "text.txt"
    text.write_text("Hello 🦙", encoding="utf-8")
    run("inspect", "--report", path, "--measure", text)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert str(text) in path.read_text(encoding="utf-8")
    found = json.loads(run("inspect", "--report", "-", "--json", "--measure", text).stdout)
    assert found["kinds"]["byte"] == 256
    assert found["texts"][0]["tokens"] == tokenizer.count("Hello 🦙")
    two = json.loads(run("inspect", "--report", "-", "--json", "--beside", DEFAULT).stdout)
    assert two["common"] == tokenizer.vocab_size
    assert two["only_in_first"] == two["only_in_second"] == []


def test_the_commands_of_the_documentation(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "inspect.md").read_text(encoding="utf-8")
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    monkeypatch.setenv("PYTHONPATH", str(Path(llamatok.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    outputs = [run(*shlex.split(command)[1:]).stdout.decode() for command in commands]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "legacy.html",
        "tokens.html",
        "vocabulary.html",
    ]
    shown = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert shown == [outputs[0]]


def test_calls_that_make_no_sense(run: Run) -> None:
    assert b"--text" in run("inspect", "--html", "-", status=2).stderr
    assert b"--add-bos" in run("inspect", "--compare-legacy", "--text", "a", "--add-bos", status=2).stderr
    run("inspect", "--compare-legacy", "--beside", "x", "--text", "a", status=2)
    assert b"--report" in run("inspect", "--measure", "x", status=2).stderr
    assert b"of a text" in run("inspect", "--report", "-", "--text", "a", status=2).stderr
    assert b"one of them" in run("inspect", "--html", "-", "--json", "--text", "a", status=2).stderr
