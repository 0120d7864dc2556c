"""The text to measure on: files the user names, the project's corpora, or text that installed packages ship.

Documents travel to the workers as one file (UTF-8 text end to end, and where each document ends), so that
every worker encodes the same documents.
"""

from __future__ import annotations

import gzip
import io
import json
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

MB = 1_000_000
MIN_TXT_DOCUMENT = 8_000
SHARED = ("en", "multi", "code")

# Where tokenizers usually part ways: each of these has split at least two libraries.
PROBES = [
    "",
    " ",
    "  ",
    " " * 33,
    "Hello world",
    "  leading and trailing  ",
    "tab\tnewline\nreturn\r\nform\x0cnul\x00end",
    "<s> </s> <unk> [INST] text </s>",
    "▁literal▁marker ▁ ▁▁",
    "naïve façade, 日本語のテキスト, Здравствуй, مرحبا, 안녕하세요",
    "🎉👩‍👩‍👧‍👦🏳️‍🌈 \U000e0001\U0010ffff",
    "e\u0301 \u00a0\u200b\u2028\ufeff\ufffd",
    "x" * 500,
    "1234567890 0xDEADBEEF 3.14159e-26",
    "<0x41> <0x0A>",
]


@dataclass(frozen=True)
class Corpus:
    """A named list of documents."""

    name: str
    documents: list[str]

    @property
    def byte_len(self) -> int:
        """UTF-8 bytes of all documents together."""
        return sum(len(document.encode()) for document in self.documents)

    def write(self, path: Path) -> None:
        """Lay the documents out for `read_documents`."""
        encoded = [document.encode() for document in self.documents]
        ends = np.cumsum([len(document) for document in encoded], dtype=np.int64)
        path.write_bytes(b"".join(encoded))
        np.save(path.with_suffix(".npy"), ends)


def read_documents(path: Path) -> list[str]:
    """Documents as `Corpus.write` laid them out."""
    text, ends = path.read_bytes(), np.load(path.with_suffix(".npy"))
    starts = np.concatenate([[0], ends[:-1]])
    return [text[a:b].decode() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def gather(files: list[Path], root: Path, limit_mb: float | None, text_key: str = "text") -> list[Corpus]:
    """Collect the corpora to measure on, each cut after `limit_mb` megabytes."""
    limit = int(limit_mb * MB) if limit_mb else None
    if files:
        return [_named(file.name.split(".")[0], _read(file, text_key), limit) for file in files]
    folder = root.parent / "shared" / "corpora"
    shared = [folder / f"{name}.jsonl.zst" for name in SHARED]
    if all(file.exists() for file in shared):
        return [_named(file.name.split(".")[0], _read(file, text_key), limit) for file in shared]
    return [_named("python-source", _stdlib(), limit), _named("package-texts", _package_texts(), limit)]


def probes() -> Corpus:
    """Short odd texts on which ids are compared, and nothing is timed."""
    return Corpus("odd texts", PROBES)


def short_strings(corpus: Corpus, count: int = 10_000, length: int = 60) -> Corpus:
    """Cut `count` strings of `length` characters, evenly taken from the corpus (fewer when it is small)."""
    text = "".join(corpus.documents)
    step = max(length, len(text) // count)
    strings = [text[at : at + length] for at in range(0, len(text) - length + 1, step)][:count]
    return Corpus(f"{corpus.name}, short strings", strings)


def _named(name: str, documents: Iterable[str], limit: int | None) -> Corpus:
    kept: list[str] = []
    size = 0
    for document in documents:
        room = None if limit is None else limit - size
        if room is not None and room <= 0:
            break
        data = document.encode("utf-8", "replace")
        if room is not None and len(data) > room:
            data = data[:room]
        kept.append(data.decode("utf-8", "ignore"))
        size += len(data)
    if not kept:
        raise ValueError(f"no documents in the corpus: `{name}`")
    return Corpus(name, kept)


def _read(path: Path, text_key: str) -> Iterator[str]:
    """Documents of a `.jsonl` or text file, either of them plain, `.gz` or `.zst`."""
    suffixes = path.suffixes
    with _open(path) as lines:
        if ".jsonl" in suffixes:
            for line in lines:
                if line.strip():
                    yield json.loads(line)[text_key]
            return
        # A text file is cut at blank lines, so that threads have documents to share.
        held: list[str] = []
        size = 0
        for line in lines:
            held.append(line)
            size += len(line)
            if size >= MIN_TXT_DOCUMENT and not line.strip():
                yield "".join(held)
                held, size = [], 0
        if held:
            yield "".join(held)


def _open(path: Path) -> TextIO:
    # `newline=""` keeps carriage returns, which are text to a tokenizer.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="")
    if path.suffix == ".zst":
        import zstandard

        stream = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True)
        return io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
    return path.open(encoding="utf-8", errors="replace", newline="")


def _stdlib() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" not in path.parts:
            yield path.read_text(encoding="utf-8", errors="replace")


def _package_texts() -> Iterator[str]:
    """Python's own manual of topics, then licences, descriptions and read-me files of installed packages."""
    yield (Path(sysconfig.get_path("stdlib")) / "pydoc_data" / "topics.py").read_text(encoding="utf-8")
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*")):
        wanted = path.name in ("METADATA", "LICENSE") or path.suffix in (".rst", ".md", ".txt")
        if wanted and path.is_file():
            yield path.read_text(encoding="utf-8", errors="replace")
