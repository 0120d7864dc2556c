"""`count` agrees with the Python interface."""

from __future__ import annotations

import json
from pathlib import Path

from llamatok import Tokenizer

from .conftest import TEXTS, Run

DATA = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
SIZES = [len(text.encode()) for text in TEXTS]


def test_totals(run: Run, tokenizer: Tokenizer) -> None:
    tokens = sum(len(tokenizer.encode(text)) for text in TEXTS)
    totals = {"documents": len(TEXTS), "bytes": sum(SIZES), "tokens": tokens}
    assert json.loads(run("count", "--jsonl", "--json", input=DATA).stdout) == totals
    shown = run("count", "--jsonl", input=DATA).stdout.decode().splitlines()
    assert [line.split() for line in shown[:3]] == [[name, str(value)] for name, value in totals.items()]


def test_special_tokens_count(run: Run, tokenizer: Tokenizer) -> None:
    tokens = sum(len(tokenizer.encode(text, add_bos=True, add_eos=True)) for text in TEXTS)
    done = run("count", "--jsonl", "--json", "--add-bos", "--add-eos", input=DATA)
    assert json.loads(done.stdout)["tokens"] == tokens


def test_per_document(run: Run, tokenizer: Tokenizer, tmp_path: Path) -> None:
    counts = [len(tokenizer.encode(text)) for text in TEXTS]
    lines = run("count", "--per-document", "--jsonl", input=DATA).stdout.decode().splitlines()
    assert lines == [
        f"{count}\t{size}\t<stdin>:{number}"
        for number, (count, size) in enumerate(zip(counts, SIZES, strict=True), 1)
    ]
    file = tmp_path / "text"
    file.write_bytes(TEXTS[0].encode())
    record = json.loads(run("count", "--per-document", "--json", file).stdout)
    assert record == {"document": str(file), "bytes": SIZES[0], "tokens": counts[0]}


def test_no_input(run: Run) -> None:
    nothing = json.loads(run("count", "--lines", "--json").stdout)
    assert nothing == {"documents": 0, "bytes": 0, "tokens": 0}
    assert b"per token" not in run("count").stdout
