"""Every kind of input, compressed or not, gives the documents that are in it, in their order."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from llamatok import Tokenizer
from llamatok.corpus import CorpusError, MissingInputError, tokenize

from .conftest import TEXTS, expected, manifest, nanogpt, write_jsonl

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def ids_of(inputs: object, folder: Path, **settings: object) -> list[int]:
    settings = {"format": "nanogpt", "add_eos": True, "block_size": 2048, **settings}
    tokenize(inputs, folder, progress=False, **settings)  # type: ignore[arg-type]
    return nanogpt(folder)


def flat(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    return [id for ids in expected(tokenizer, texts) for id in ids]


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_jsonl(suffix: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    plain = write_jsonl(tmp_path / "plain", TEXTS).read_bytes()
    source = tmp_path / f"a.jsonl{suffix}"
    source.write_bytes(COMPRESSORS[suffix](plain))
    assert ids_of(source, tmp_path / "out") == flat(tokenizer, TEXTS)
    assert ids_of(source, tmp_path / "nested", text_key="n.deep") == flat(tokenizer, TEXTS)


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_text_whole_by_line_and_by_separator(suffix: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = [text.replace("\n", " ") for text in TEXTS]
    source = tmp_path / f"a.txt{suffix}"
    source.write_bytes(COMPRESSORS[suffix]("\n".join(texts).encode()))
    assert ids_of(source, tmp_path / "whole") == flat(tokenizer, ["\n".join(texts)])
    assert ids_of(source, tmp_path / "lines", kind="lines") == flat(tokenizer, texts)
    source.write_bytes(COMPRESSORS[suffix]("<|end|>".join(TEXTS).encode()))
    assert ids_of(source, tmp_path / "apart", separator="<|end|>") == flat(tokenizer, TEXTS)


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_csv(suffix: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = [text.replace("\r", "").replace("\0", "") for text in TEXTS if "\r" not in text]
    plain = tmp_path / "plain"
    with open(plain, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["id", "text"], *enumerate(texts)])
    source = tmp_path / f"a.csv{suffix}"
    source.write_bytes(COMPRESSORS[suffix](plain.read_bytes()))
    assert ids_of(source, tmp_path / "out", block_size=1 << 14) == flat(tokenizer, texts)


def test_parquet_with_row_groups_nulls_and_nested_columns(tmp_path: Path, tokenizer: Tokenizer) -> None:
    table = pa.table({"text": TEXTS, "meta": [{"body": text, "n": 1} for text in TEXTS]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    assert ids_of(tmp_path / "a.parquet", tmp_path / "out") == flat(tokenizer, TEXTS)
    assert ids_of(tmp_path / "a.parquet", tmp_path / "nested", text_key="meta.body") == flat(tokenizer, TEXTS)
    pq.write_table(pa.table({"text": ["a", None, "b"]}), tmp_path / "nulls.parquet")
    assert ids_of(tmp_path / "nulls.parquet", tmp_path / "nulls") == flat(tokenizer, ["a", "b"])
    reject = json.loads((tmp_path / "nulls" / "rejects.jsonl").read_bytes())
    assert (reject["row"], reject["reason"]) == (2, "`text` is null")


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
@pytest.mark.parametrize("stream", [False, True])
def test_arrow_files_and_streams(
    kind: pa.DataType, stream: bool, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    column = (
        pa.array(TEXTS).cast(kind)
        if not pa.types.is_dictionary(kind)
        else pa.array(TEXTS).dictionary_encode()
    )
    table = pa.table({"text": column, "n": range(len(TEXTS))})
    path = tmp_path / "a.arrow"
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    assert ids_of(path, tmp_path / "out") == flat(tokenizer, TEXTS)


def test_folders_globs_and_several_arguments_keep_their_order(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    write_jsonl(data / "b.jsonl", ["b"])
    write_jsonl(data / "a.jsonl", ["a"])
    write_jsonl(data / "sub" / "c.jsonl", ["c"])
    (data / "notes.bin").write_bytes(b"not taken")
    (data / ".hidden.jsonl").write_text("{}")
    assert ids_of(data, tmp_path / "folder") == flat(tokenizer, ["a", "b", "c"])
    assert ids_of(f"{data}/*.jsonl", tmp_path / "glob") == flat(tokenizer, ["a", "b"])
    assert ids_of(f"{data}/**/*.jsonl", tmp_path / "deep") == flat(tokenizer, ["a", "b", "c"])
    # A file counts once, at its first place.
    several = [data / "sub" / "c.jsonl", f"{data}/b*", data]
    assert ids_of(several, tmp_path / "several") == flat(tokenizer, ["c", "b", "a"])


def test_urls(tmp_path: Path, tokenizer: Tokenizer) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    write_jsonl(tmp_path / "a.jsonl", TEXTS)
    content = (tmp_path / "a.jsonl").read_bytes()
    memory.pipe({"/bucket/a.jsonl": content, "/bucket/b.jsonl.gz": gzip.compress(content)})
    table = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": TEXTS}), table)
    memory.pipe({"/bucket/c.parquet": table.getvalue().to_pybytes()})
    try:
        assert ids_of("memory://bucket", tmp_path / "out") == flat(tokenizer, TEXTS * 3)
        assert ids_of("memory://bucket/*.gz", tmp_path / "glob") == flat(tokenizer, TEXTS)
        assert manifest(tmp_path / "glob")["inputs"][0]["path"] == "memory:///bucket/b.jsonl.gz"
        with pytest.raises(MissingInputError, match="no such input"):
            ids_of("memory://bucket/none.jsonl", tmp_path / "none")
    finally:
        memory.rm("/bucket", recursive=True)


def test_datasets_objects(tmp_path: Path, tokenizer: Tokenizer) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"text": TEXTS, "n": range(len(TEXTS))})
    assert ids_of(dataset, tmp_path / "out") == flat(tokenizer, TEXTS)
    # Rows that were chosen and put in another order are an indirection inside.
    some = dataset.select([5, 3, 3])
    assert ids_of(some, tmp_path / "some") == flat(tokenizer, [TEXTS[5], TEXTS[3], TEXTS[3]])
    with pytest.raises(CorpusError, match="pass one of them"):
        ids_of(datasets.DatasetDict(train=dataset), tmp_path / "dict")


@pytest.mark.parametrize("unit_bytes", [1, 7, 100, 1000, 10**6])
@pytest.mark.parametrize("ending", ["\n", ""])
def test_lines_at_the_borders_of_units(unit_bytes: int, ending: str, tmp_path: Path) -> None:
    from llamatok.corpus.sources.cut import cut_stream

    lines = [b"", b"a", b"bb" * 40, b"", b"c", b"x" * 300, b"", b"", b"end"]
    content = b"\n".join(lines) + ending.encode()
    path = tmp_path / "lines"
    path.write_bytes(content)
    found = b""
    starts = list(range(0, len(content), unit_bytes))
    for start, stop in zip(starts, [*starts[1:], None], strict=True):
        with open(path, "rb") as file:
            part = b"".join(bytes(block) for block in cut_stream(file, 16, b"\n", "lines", start, stop))
        assert not part or content[found.__len__() - 1 : len(found)] in (b"", b"\n")
        found += part
    assert found == content


def test_blank_lines_byte_order_marks_and_several_values_in_a_line(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(
        b'\xef\xbb\xbf{"text": "one"}\r\n\r\n   \n\n{"text": "two"}\n'
        b'{"text": "3"} {"text": "4"}\n{"text": "five"}'
    )
    assert ids_of(source, tmp_path / "out") == flat(tokenizer, ["one", "two", "five"])
    reject = json.loads((tmp_path / "out" / "rejects.jsonl").read_bytes())
    assert (reject["line"], reject["reason"]) == (6, "not one JSON object, but several")


def test_a_field_whose_name_has_a_dot_comes_before_a_path(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"a.b": "name", "a": {"b": "path"}}\n{"a": {"b": "path"}}\n{"a.b": "name"}\n')
    assert ids_of(source, tmp_path / "out", text_key="a.b") == flat(tokenizer, ["name", "path", "name"])


def test_a_document_larger_than_a_block(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = ["a", "word " * 20_000, "b"]
    source = write_jsonl(tmp_path / "a.jsonl", texts)
    assert ids_of(source, tmp_path / "out", block_size=1024) == flat(tokenizer, texts)


def test_frames_with_a_long_window(tmp_path: Path, tokenizer: Tokenizer) -> None:
    plain = write_jsonl(tmp_path / "plain", TEXTS).read_bytes()
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(plain) + compressor.flush()
    source = tmp_path / "a.jsonl.zst"
    source.write_bytes(frame + zstandard.compress(plain))
    assert ids_of(source, tmp_path / "out") == flat(tokenizer, TEXTS * 2)


def test_the_default_kind_of_an_unknown_name_is_text(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = tmp_path / "README"
    source.write_text("Hello")
    assert ids_of(source, tmp_path / "out") == flat(tokenizer, ["Hello"])


def test_an_empty_input_gives_an_empty_shard(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"")
    assert ids_of(source, tmp_path / "out") == []
    assert manifest(tmp_path / "out")["counts"]["documents"] == 0
    assert np.fromfile(tmp_path / "out" / "train.bin", "<u2").size == 0
