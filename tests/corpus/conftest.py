"""Small corpora in every form, made in the test, and what their shards must hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamatok import Tokenizer
from support.texts import random_texts

pytest.importorskip("pyarrow")
pytest.importorskip("zstandard")

#: Empty ones, repeated ones, ones that look like control tokens, and ordinary ones.
TEXTS = [
    "Hello world",
    "",
    "</s> is text",
    *random_texts(11, 60),
    "Hello world",
    "x" * 5000,
    *random_texts(12, 60),
]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.default()


def expected(tokenizer: Tokenizer, texts: list[str], bos: bool = False, eos: bool = True) -> list[list[int]]:
    """The ids of each text; an empty one has none, not even eos."""
    return [tokenizer.encode(text, add_bos=bos, add_eos=eos) if text else [] for text in texts]


def write_jsonl(path: Path, texts: list[str], **more: Any) -> Path:
    lines = [json.dumps({"id": i, "text": text, "n": {"deep": text}, **more}) for i, text in enumerate(texts)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """`TEXTS` as JSON lines."""
    return write_jsonl(tmp_path / "corpus.jsonl", TEXTS)


def tree(folder: Path) -> dict[str, str]:
    """The hash of every file that is to be the same from run to run."""
    changing = ("summary.json", "report.html")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in changing
    }


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_bytes())


def nanogpt(folder: Path, split: str = "train") -> list[int]:
    return np.fromfile(folder / f"{split}.bin", "<u2").tolist()


Run = Callable[..., Any]
