"""The scripts in `examples` do what they say. Those for engines of data are run by `tests/corpus`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from llamatok import LlamaTokenizer, Tokenizer
from support.locations import DEFAULT_MODEL, ROOT

EXAMPLES = ROOT / "examples"
ELSEWHERE = {f"corpus_{name}.py" for name in ("daft", "dask", "ray", "spark", "training")}


def run(folder: Path, name: str, *arguments: object, needs: str = "", input: str = "") -> str:
    """What a script prints, run in a folder; skipped where one of the packages that it needs is missing."""
    for package in needs.split():
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    path = os.environ.get("PYTHONPATH", "")
    environment = {
        "PYTHONPATH": os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep) if part),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": "1",  # for models as small as these, threads wait for each other
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
    }
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        input=input,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Some 30 KB of English."""
    path = tmp_path / "book.txt"
    path.write_text("\n".join(topics[name] for name in sorted(topics))[:30_000], encoding="utf-8")
    return path


def test_all_are_run_and_listed() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"]({path.name})" in page, path
        assert path.name in ELSEWHERE or f'"{path.name}"' in here, path


def test_chat(tmp_path: Path) -> None:
    printed = run(tmp_path, "chat.py", needs="torch jinja2", input="Good morrow, old king!\n</s> And thou?\n")
    again = run(tmp_path, "chat.py", needs="torch jinja2", input="Good morrow, old king!\n")
    assert printed.startswith(again.rstrip("\n"))
    assert len(printed) > len(again) > 1


def test_collator(tmp_path: Path, book: Path) -> None:
    printed = run(tmp_path, "collator.py", book, needs="torch").splitlines()
    texts = [line for line in book.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(printed) == -(-len(texts) // 8)
    assert all(re.fullmatch(r"\d+ x \d+, \d+% text", line) for line in printed)


def test_datasets_map(tmp_path: Path) -> None:
    lines = [topics[name][:200] for name in sorted(topics)[:20]]
    source = tmp_path / "corpus.jsonl"
    source.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    printed = run(tmp_path, "datasets_map.py", source, "tokens", needs="datasets")
    tokens = Tokenizer.default().count(lines).sum() + 2 * len(lines)
    assert printed == f"20 documents, {tokens} tokens\n"


def test_ner_labels(tmp_path: Path) -> None:
    rows = [line.split("\t") for line in run(tmp_path, "ner_labels.py").splitlines()]
    tokenizer = LlamaTokenizer.default()
    assert [token for token, _ in rows[1:]] == tokenizer.tokenize(
        "Ada Lovelace met Charles Babbage in London in 1833."
    )
    names: list[str] = []
    for token, label in rows:
        if label.startswith("B-"):
            names.append("")
        if label != "O":
            names[-1] += token.replace("▁", " ")
    assert [name.strip() for name in names] == ["Ada Lovelace", "Charles Babbage", "London", "1833"]


def test_gguf_model(tmp_path: Path) -> None:
    for package in ("torch", "gguf", "sentencepiece"):
        pytest.importorskip(package)
    from support.small_checkpoints import write_gguf

    write_gguf(tmp_path / "model.gguf")
    assert run(tmp_path, "gguf_model.py", "model.gguf", "Once upon a time").startswith("Once upon a time")


def test_trainer(tmp_path: Path, book: Path) -> None:
    needs = "torch transformers datasets accelerate"
    printed = run(tmp_path, "trainer.py", book, "tiny", needs=needs)
    found = re.search(r"loss: ([\d.]+) at first, ([\d.]+) at last", printed)
    assert found is not None
    assert float(found[2]) < float(found[1]) - 1
    saved = LlamaTokenizer.from_pretrained(tmp_path / "tiny")
    assert saved("Hello")["input_ids"] == Tokenizer.default().encode("Hello", add_bos=True)


def test_train_tiny(tmp_path: Path, book: Path) -> None:
    options = "--steps 3 --batch-size 2 --length 16 --hidden-size 16 --heads 2 --kv-heads 1 --layers 1"
    run(tmp_path, "train_tiny.py", book, "-o", "tiny", *options.split(), needs="torch safetensors")
    assert (tmp_path / "tiny" / "tokenizer.model").read_bytes() == DEFAULT_MODEL.read_bytes()
    from llamatok.models import LlamaForCausalLM

    assert LlamaForCausalLM.from_pretrained(tmp_path / "tiny").config.vocab_size == 32_000
