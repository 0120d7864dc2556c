"""`inspect --html`, `--beside` and `--compare-legacy`."""

from __future__ import annotations

import json
from pathlib import Path

from llamatok import Tokenizer

from .conftest import Run


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
    other.write_bytes((Path(__file__).parents[2] / "python/llamatok/data/default.model").read_bytes())
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


def test_calls_that_make_no_sense(run: Run) -> None:
    assert b"--text" in run("inspect", "--html", "-", status=2).stderr
    assert b"--add-bos" in run("inspect", "--compare-legacy", "--text", "a", "--add-bos", status=2).stderr
    run("inspect", "--compare-legacy", "--beside", "x", "--text", "a", status=2)
