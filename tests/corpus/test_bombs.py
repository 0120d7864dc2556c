"""Compressed files that expand to more than a document may have: refused, at the cost of what is allowed."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from llamatok.corpus import DamagedInputError, tokenize
from llamatok.corpus.sources import cut, text

LIMIT = 2 << 20
BLOCK = 1 << 20


def bomb(ending: str, size: int) -> bytes:
    """`size` bytes of one line, compressed."""
    content = b'{"text": "' + b"a" * size
    if ending == "zst":
        return bytes(pa.compress(content, "zstd", asbytes=True))
    return gzip.compress(content)


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.jsonl.zst", "in.txt.gz"])
def test_a_line_without_end_is_refused_with_little_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held at most has to do with the limit, not with what the file expands to."""
    monkeypatch.setattr(cut, "LARGEST_DOCUMENT", LIMIT)
    monkeypatch.setattr(text, "LARGEST_DOCUMENT", LIMIT)
    path = tmp_path / name
    path.write_bytes(bomb(name.rpartition(".")[2], 64 << 20))
    assert path.stat().st_size < 1 << 20
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(DamagedInputError, match="document of more than"):
            tokenize([str(path)], tmp_path / "out", workers=1, progress=False, block_size=BLOCK)
        assert tracemalloc.get_traced_memory()[1] < 16 * LIMIT
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() - arrow < 16 * LIMIT
