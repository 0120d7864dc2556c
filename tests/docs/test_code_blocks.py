"""Every block of Python and shell in the README and the docs runs, page by page, or says why it does not."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from support import small_checkpoints
from support.locations import DEFAULT_MODEL, ROOT
from support.markdown import blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
RUN_PAGE = Path(__file__).with_name("run_page.py")
MISSING = 77

#: The blocks that are excused, by page.
NOT_RUN = {
    "README.md": ["runs these tests"],
    "docs/corpus.md": ["needs a Ray cluster"],
    "docs/index.md": ["builds the package"],
    "docs/weights.md": ["needs a GPU and the Hub", "needs two processes and two GPUs"],
}


#: What must hold at the end of a page that has no assertions itself, and what it must have printed.
CHECKS = {
    "README.md": 'assert tokens.to_pylist() == tok.encode_batch(["Hello world", "Grüße"]).to_lists()',
    "docs/models.md": "assert out.logits.shape == (1, 1, 32000)",
    "docs/corpus.md": "assert report.documents == 79 and loss.isfinite()",
    "docs/inspect.md": 'assert [g.text for g in view.groups()] == ["<s>", " H", "ello", " ", "🦙"]',
    "docs/weights.md": "assert model.num_parameters() == 1_978_200",
}
PRINTED = {"README.md": "\nHello world\n", "docs/generation.md": "Once upon a time"}


def runs(page: Path) -> bool:
    return any(block.language in {"python", "sh"} and block.excuse is None for block in blocks(page))


def test_blocks_that_do_not_run_are_known() -> None:
    found = {
        name: [block.excuse for block in blocks(page) if block.excuse is not None]
        for name, page in zip(NAMES, PAGES, strict=True)
    }
    assert {name: excuses for name, excuses in found.items() if excuses} == NOT_RUN


def test_blocks_name_a_language_that_is_known() -> None:
    """No block is left out by its spelling."""
    for page in PAGES:
        fences = re.findall(r"^\s*```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(fences[::2]) <= {"python", "sh", "text", ""}, page
        unnamed = sum(not fence for fence in fences[::2])
        assert len(fences) == 2 * (len(blocks(page)) + unnamed), page


def test_extras_exist() -> None:
    """`pip install` in the docs asks for extras that there are."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^(\w+) = ", section, re.MULTILINE))
    for page in PAGES:
        for named in re.findall(r"'(?:\.|llamatok)\[([\w,]+)\]'", page.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, page


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with `llamatok`, and a `pip` that leaves the installation as it is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    executable(folder / "llamatok", f'exec "{sys.executable}" -m llamatok "$@"')
    executable(folder / "pip", "exit 0")
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with the files that the pages name."""
    from llamatok import demo_checkpoint

    folder = tmp_path / "work"
    (folder / "data").mkdir(parents=True)
    documents = [{"id": name, "text": text[:3_000]} for name, text in sorted(topics.items())]
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    for name in ("corpus.jsonl", "data.jsonl", "data/a.jsonl"):
        (folder / name).write_text(lines, encoding="utf-8")
    text = "\n".join(topics[name] for name in sorted(topics))
    (folder / "book.txt").write_text(text, encoding="utf-8")
    (folder / "notes.txt").write_text(text[:2_000], encoding="utf-8")
    shutil.copy(DEFAULT_MODEL, folder / "tokenizer.model")
    shutil.copytree(demo_checkpoint(), folder / "checkpoint")
    return folder


def prepare(name: str, folder: Path) -> None:
    """The files that one page names, and that take a package to make."""
    if name in {"README.md", "docs/corpus.md"}:
        zstandard = pytest.importorskip("zstandard")
        compressed = zstandard.compress((folder / "corpus.jsonl").read_bytes())
        (folder / "corpus.jsonl.zst").write_bytes(compressed)
        (folder / "data" / "a.jsonl.zst").write_bytes(compressed)
    if name == "docs/tutorial.md":
        (folder / "corpus.jsonl").unlink()
    if name == "docs/weights.md":
        for package in ("torch", "gguf", "sentencepiece"):
            pytest.importorskip(package)
        shutil.copytree(folder / "checkpoint", folder / "llama-2-7b")
        small_checkpoints.write_meta(folder / "llama-2-70b")
        small_checkpoints.write_gguf(folder / "model.Q4_K.gguf")
        small_checkpoints.write_llama2c(folder / "stories15M.bin")
    if name == "README.md":
        for package in ("torch", "sentencepiece", "pyarrow"):
            pytest.importorskip(package)
        small_checkpoints.write_meta(folder / "llama-2-7b")


@pytest.mark.parametrize("name", [name for name, page in zip(NAMES, PAGES, strict=True) if runs(page)])
def test_page(name: str, work: Path, commands: Path) -> None:
    prepare(name, work)
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *paths]),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": "1",  # for models as small as these, threads wait for each other
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(work / "hub"),
    }
    done = subprocess.run(
        [sys.executable, RUN_PAGE, ROOT / name, CHECKS.get(name, "")],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    if done.returncode == MISSING:
        pytest.skip(f"{done.stdout.splitlines()[-1]} is not installed")
    assert done.returncode == 0, done.stdout
    assert PRINTED.get(name, "") in done.stdout
