"""`inspect` shows what the model says and what becomes of a text."""

from __future__ import annotations

import json

import pytest

from llamatok import Tokenizer
from llamatok.cli.inspect import settings_table
from llamatok.inspect.tokens import COLOURS, printable

from .conftest import Run


def test_settings(run: Run, tokenizer: Tokenizer) -> None:
    shown = run("inspect").stdout.decode()
    for name in tokenizer.settings:
        if tokenizer.settings[name] != {}:
            assert name in shown
    settings = json.loads(run("inspect", "--json").stdout)
    assert settings == json.loads(json.dumps(tokenizer.settings))
    assert settings["vocab_size"] == tokenizer.vocab_size


def test_settings_table() -> None:
    settings = {
        "name": "a\x1bb",
        "surface": " ⁇ ",
        "on": True,
        "pad_id": None,
        "kinds": {"BYTE": 256},
        "none": {},
    }
    assert settings_table(settings) == [
        "name     a\\x1bb",
        'surface  " ⁇ "',
        "on       yes",
        "pad_id   -",
        "kinds",
        "  BYTE   256",
    ]


def test_tokens(run: Run, tokenizer: Tokenizer) -> None:
    text = "Hello 🦙\n"
    ids = tokenizer.encode(text)
    shown = run("inspect", "--text", text).stdout.decode().splitlines()
    assert shown[0] == "|".join(map(tokenizer.id_to_piece, ids))
    assert shown[-1] == f"{len(ids)} tokens, {len(text.encode())} bytes"
    rows = [line.split() for line in shown[2 : 2 + len(ids)]]
    assert [row[3:] for row in rows][-5:] == [["6-7", "🦙"], ["6-7"], ["6-7"], ["6-7"], ["7-8", "\\n"]]
    assert [row[:3] for row in rows] == [
        [str(id), tokenizer.kind(id).lower(), tokenizer.id_to_piece(id)] for id in ids
    ]
    assert "<0x0A>" in shown[0]
    assert run("inspect", "--text", "-", input=text.encode()).stdout.decode().splitlines() == shown


def test_tokens_as_json(run: Run, tokenizer: Tokenizer) -> None:
    tokens = json.loads(run("inspect", "--json", "--add-bos", "--text", "Hi").stdout)["tokens"]
    assert [token["id"] for token in tokens] == tokenizer.encode("Hi", add_bos=True)
    assert tokens[0]["kind"] == tokenizer.kind(tokens[0]["id"])
    assert tokens[-1]["piece"] == tokenizer.id_to_piece(tokens[-1]["id"])


@pytest.mark.parametrize(("choice", "coloured"), [("always", True), ("auto", False), ("never", False)])
def test_colour(run: Run, choice: str, coloured: bool) -> None:
    shown = run("inspect", "--color", choice, "--text", "a b").stdout.decode()
    assert (COLOURS[0] in shown and COLOURS[1] in shown) is coloured


def test_no_text(run: Run) -> None:
    assert run("inspect", "--text", "").stdout.decode().splitlines()[-1] == "0 tokens, 0 bytes"


def test_terminals_are_not_commanded() -> None:
    assert printable("▁a\x1b[2J\x07\u202e世界") == "▁a\\x1b[2J\\x07\\u202e世界"
