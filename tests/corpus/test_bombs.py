"""Compressed files that expand to more than a document may have: refused, at the cost of what is allowed."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llamatok import Tokenizer
from llamatok.corpus import DamagedInputError, api, tokenize
from llamatok.corpus.local import raw_blocks
from llamatok.corpus.plan import Plan
from llamatok.corpus.sources import cut, text
from llamatok.corpus.tokenizers import TokenizerSource

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


def test_a_text_of_a_dictionary_that_stands_in_all_rows(tmp_path: Path) -> None:
    """An Arrow file of 2 MB with 100 GB of text is read some rows at a time."""
    rows = 100_000
    column = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["a" * (1 << 20)])
    path = tmp_path / "in.arrow"
    with pa.ipc.new_file(path, pa.schema([("text", column.type)])) as writer:
        writer.write_table(pa.table({"text": column}))
    settings = api.make_settings(api.tokenize_arguments({"inputs": [str(path)], "output": ""}))
    plan = Plan.make([str(path)], settings, TokenizerSource.of(Tokenizer.default()))
    blocks = raw_blocks(plan, plan.units[0])
    before = pa.total_allocated_bytes()
    _, block, *_ = next(iter(blocks))
    texts = block.parse(settings).texts
    assert 0 < len(texts) < 100
    assert pa.total_allocated_bytes() - before < 256 << 20
