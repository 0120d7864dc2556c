"""Every bad input, with the message it gives; and a state that goes on when the fault is mended."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import llamatok.corpus.files
from llamatok import Tokenizer
from llamatok.corpus import (
    CorpusError,
    DamagedInputError,
    InputChangedError,
    MissingInputError,
    OutputError,
    RejectedError,
    tokenize,
)
from support.texts import random_texts

from .conftest import TEXTS, expected, nanogpt, tree, write_jsonl

SETTINGS: dict[str, Any] = {
    "format": "nanogpt",
    "add_eos": True,
    "block_size": 2048,
    "progress": False,
    "checkpoint_seconds": 0.0,
}


def run(inputs: Any, folder: Path, **settings: Any) -> Any:
    return tokenize(inputs, folder, **{**SETTINGS, **settings})


def rejects(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_bytes().splitlines()]


BAD_LINES: list[tuple[bytes, str]] = [
    (b"not json", "not valid JSON: Expecting value at column 1"),
    (b'{"text": "cut', "not valid JSON: Unterminated string starting at at column 10"),
    (b'{"text": "a",}', "not valid JSON: "),
    (b"[1, 2]", "not a JSON object but an array"),
    (b'"text"', "not a JSON object but a string"),
    (b"null", "not a JSON object but null"),
    (b'{"text": 5}', "`text` is not a string but a number"),
    (b'{"text": {"a": 1}}', "`text` is not a string but a object"),
    (b'{"text": null}', "`text` is null"),
    (b'{"body": "x"}', "no key `text`"),
    (b'{"text": "a", "text": "b"}', "`text` stands there twice"),
    (b'{"text": "\\ud800"}', "a string has a lone surrogate"),
    (b'{"text": "caf\xe9"}', "not valid UTF-8 at byte 13: "),
    (b'{"text": "a"} trailing', "not valid JSON: Extra data at column 15"),
    (b"[" * 100_000, "not valid JSON: nested too deeply"),
    (b'{"text": "tab\there"}', "not valid JSON: Invalid control character at at column 14"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_line_costs_only_itself(line: bytes, reason: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    good = [json.dumps({"text": text}).encode() for text in TEXTS]
    lines = [*good[:5], line, *good[5:], line]
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"\n".join(lines))
    report = run(source, tmp_path / "out")
    assert nanogpt(tmp_path / "out") == [id for ids in expected(tokenizer, TEXTS) for id in ids]
    found = rejects(tmp_path / "out")
    assert [(reject["source"], reject["line"]) for reject in found] == [
        (str(source), 6),
        (str(source), len(lines)),
    ]
    assert all(reject["reason"].startswith(reason) for reject in found), found
    assert report.rejected == 2
    with pytest.raises(RejectedError) as caught:
        run(source, tmp_path / "strict", strict=True)
    assert str(caught.value).startswith(f"`{source}`, line 6: {reason}")


def test_lines_are_counted_over_units_and_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps({"text": f"line {i}"}) for i in range(2000)]
    bad = [3, 700, 701, 1999]
    for number in bad:
        lines[number] = "{"
    source = tmp_path / "a.jsonl"
    source.write_text("\n".join(lines) + "\n")
    from llamatok.corpus import settings

    monkeypatch.setattr(settings.Settings, "unit_bytes", 5000)
    run([source, source.with_name("a.jsonl")], tmp_path / "out")
    assert [reject["line"] - 1 for reject in rejects(tmp_path / "out")] == bad


def test_text_that_is_not_utf8(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\nb\xffd\nalso good\n")
    run(tmp_path / "a.txt", tmp_path / "out", kind="lines")
    assert rejects(tmp_path / "out") == [
        {
            "source": str(tmp_path / "a.txt"),
            "line": 2,
            "reason": "not valid UTF-8 at byte 1: invalid start byte",
            "excerpt": "b\ufffdd",
        }
    ]
    run(tmp_path / "a.txt", tmp_path / "mended", kind="lines", invalid_utf8="replace")
    texts = ["good", "b\ufffdd", "also good"]
    assert nanogpt(tmp_path / "mended") == [id for ids in expected(tokenizer, texts) for id in ids]
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "b\xffd"}\n')
    run(tmp_path / "b.jsonl", tmp_path / "jsonl", invalid_utf8="replace")
    assert nanogpt(tmp_path / "jsonl") == expected(tokenizer, ["b\ufffdd"])[0]
    pq.write_table(pa.table({"text": pa.array([b"good", b"b\xffd"], pa.binary())}), tmp_path / "c.parquet")
    run(tmp_path / "c.parquet", tmp_path / "parquet")
    assert nanogpt(tmp_path / "parquet") == expected(tokenizer, ["good"])[0]
    assert rejects(tmp_path / "parquet")[0]["row"] == 2


def test_rows_of_csv_with_too_many_fields(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,good\n2,too,many\n3,b\xffd\n4,fine\n")
    run(tmp_path / "a.csv", tmp_path / "out")
    assert nanogpt(tmp_path / "out") == [id for ids in expected(tokenizer, ["good", "fine"]) for id in ids]
    assert {reject["reason"] for reject in rejects(tmp_path / "out")} == {
        "3 fields instead of 2",
        "not valid UTF-8 at byte 1: invalid start byte",
    }


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip cut short": (".jsonl.gz", lambda data: gzip.compress(data)[:-2000]),
    "gzip with wrong bytes": (".jsonl.gz", lambda data: _changed(gzip.compress(data))),
    "zstd cut short": (".jsonl.zst", lambda data: zstandard.compress(data)[:-2000]),
    "xz cut short": (".jsonl.xz", lambda data: __import__("lzma").compress(data)[:-2000]),
    "bz2 cut short": (".jsonl.bz2", lambda data: __import__("bz2").compress(data)[:-2000]),
}


def _changed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(50) + data[middle + 50 :]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_compressed_data(damage: str, tmp_path: Path) -> None:
    suffix, change = DAMAGE[damage]
    plain = write_jsonl(tmp_path / "plain", random_texts(31, 900)).read_bytes()
    first = write_jsonl(tmp_path / "1.jsonl", TEXTS)
    middle = tmp_path / f"2{suffix}"
    last = write_jsonl(tmp_path / "3.jsonl", TEXTS)
    middle.write_bytes(change(plain))
    inputs = [first, middle, last]
    with pytest.raises(DamagedInputError) as caught:
        run(inputs, tmp_path / "out")
    name = damage.split()[0]
    assert str(caught.value).startswith(f"`{middle}`: the {name} data is damaged: ")
    assert "--skip-damaged" in caught.value.hints[0]
    # With a sound copy in its place, the run goes on.
    whole = {".gz": gzip.compress, ".zst": zstandard.compress}.get(middle.suffix)
    compress = whole or __import__({".xz": "lzma", ".bz2": "bz2"}[middle.suffix]).compress
    middle.write_bytes(compress(plain))
    if damage == "gzip with wrong bytes":
        # The checksum comes last: what was read before it may have been wrong, and is not built upon.
        with pytest.raises(InputChangedError, match="is not what it was"):
            run(inputs, tmp_path / "out")
        run(inputs, tmp_path / "out", overwrite=True)
    run(inputs, tmp_path / "out")
    run(inputs, tmp_path / "whole")
    shards = tree(tmp_path / "out")
    assert shards["train.bin"] == tree(tmp_path / "whole")["train.bin"]
    # Or its rest is left out.
    middle.write_bytes(change(plain))
    report = run(inputs, tmp_path / "rest", skip_damaged=True)
    assert report.rejected == 1
    assert "data is damaged" in rejects(tmp_path / "rest")[0]["reason"]
    assert report.documents >= 2 * len(TEXTS)


def test_damaged_parquet_and_arrow(tmp_path: Path) -> None:
    table = pa.table({"text": TEXTS})
    pq.write_table(table, tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:-20])
    with pytest.raises(DamagedInputError, match=r"`.*a\.parquet`: the Parquet data is damaged: "):
        run(tmp_path / "a.parquet", tmp_path / "parquet")
    (tmp_path / "b.arrow").write_bytes(b"not Arrow at all")
    with pytest.raises(DamagedInputError, match=r"`.*b\.arrow`: the Arrow data is damaged: "):
        run(tmp_path / "b.arrow", tmp_path / "arrow")
    (tmp_path / "c.csv").write_bytes(b"")
    with pytest.raises(DamagedInputError, match="an empty CSV file has no header"):
        run(tmp_path / "c.csv", tmp_path / "csv")


def test_an_input_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    inputs = [write_jsonl(tmp_path / f"{i}.jsonl", random_texts(40 + i, 200)) for i in range(3)]
    run(inputs, tmp_path / "whole")
    content = inputs[2].read_bytes()

    class Vanish(Exception):
        pass

    from llamatok.corpus.progress import Progress

    class Thief(Progress):
        def update(self, *arguments: Any) -> None:
            inputs[2].unlink(missing_ok=True)

    with pytest.raises(MissingInputError) as caught:
        run(inputs, tmp_path / "out", progress=Thief(), workers=1)
    assert str(caught.value).startswith(f"the input is gone: `{inputs[2]}`\nhint: put it back and resume")
    with pytest.raises(MissingInputError, match="the input is gone"):
        run(inputs, tmp_path / "out")
    inputs[2].write_bytes(content)
    run(inputs, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def interrupted(inputs: list[Path], folder: Path, blocks: int) -> None:
    """Leaves a run that stopped after some blocks."""

    class Stop(BaseException):
        pass

    from llamatok.corpus.progress import Progress

    class Stopper(Progress):
        count = 0

        def update(self, *arguments: Any) -> None:
            self.count += 1
            if self.count == blocks:
                raise Stop

    with pytest.raises(Stop):
        run(inputs, folder, progress=Stopper())


def test_an_input_that_changed_since_it_was_read_in_part(tmp_path: Path) -> None:
    plain = write_jsonl(tmp_path / "a.jsonl", random_texts(50, 300))
    interrupted([plain], tmp_path / "size", 3)
    original = plain.read_bytes()
    plain.write_bytes(original + b'{"text": "more"}\n')
    with pytest.raises(InputChangedError, match=r"has \d+ bytes, but had \d+ when the run began"):
        run([plain], tmp_path / "size")
    plain.write_bytes(b" " + original[:-1])
    with pytest.raises(InputChangedError, match="is not what it was when the run began"):
        run([plain], tmp_path / "size")
    plain.write_bytes(original)
    run([plain], tmp_path / "size")
    run([plain], tmp_path / "whole")
    assert tree(tmp_path / "size") == tree(tmp_path / "whole")


def test_missing_inputs_and_columns(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no such input: `.*none\.jsonl`"):
        run(tmp_path / "none.jsonl", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match=r"no input files: `.*empty`\nhint: files with these endings"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(CorpusError, match="no inputs were given"):
        run([], tmp_path / "out")
    with pytest.raises(CorpusError, match="standard input cannot be read twice"):
        run("-", tmp_path / "out")
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"has no column `text`\nhint: its columns are: `body`, `n`"):
        run(tmp_path / "a.parquet", tmp_path / "out")
    with pytest.raises(CorpusError, match="the column `n` holds int64, not text"):
        run(tmp_path / "a.parquet", tmp_path / "n", text_key="n")
    (tmp_path / "a.csv").write_text("body,n\nx,1\n")
    with pytest.raises(CorpusError, match="has no column `text`"):
        run(tmp_path / "a.csv", tmp_path / "csv")
    (tmp_path / "a.parquet.gz").write_bytes(b"")
    with pytest.raises(CorpusError, match="files of kind parquet compress inside"):
        run(tmp_path / "a.parquet.gz", tmp_path / "gz")


FULL = """
import resource, sys
from llamatok.corpus import tokenize
if sys.argv[3] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    tokenize(sys.argv[1], sys.argv[2], format="megatron", add_eos=True, block_size=2048, progress=False,
             checkpoint_seconds=0.0)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", random_texts(60, 600))

    def start(folder: str, limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", FULL, str(source), str(tmp_path / folder), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    done = start("out", 40_000)
    assert done.returncode == 1
    assert done.stderr.startswith("OutputError: cannot write `")
    assert "File too large\nhint: free some space or raise the limit, then resume the run" in done.stderr
    assert start("out", 0).returncode == 0
    assert start("whole", 0).returncode == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize("form", ["megatron", "mds", "parquet", "npy"])
def test_a_full_disk(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", random_texts(61, 400))
    run(source, tmp_path / "whole", format=form, shard_size=5000)
    write, fsync = llamatok.corpus.files.AppendFile.write, os.fsync
    count = 0

    def full(*arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    class FullFile:
        """A file on a disk that was filled up."""

        write = staticmethod(full)

    def write_until_full(self: Any, data: Any) -> None:
        nonlocal count
        count += 1
        if count > 20:
            file, self._file = self._file, FullFile()
            try:
                write(self, data)
            finally:
                self._file = file
        else:
            write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(llamatok.corpus.files.AppendFile, "write", write_until_full)
        with pytest.raises(OutputError, match="No space left on device\nhint: free some space"):
            run(source, tmp_path / "out", format=form, shard_size=5000)
    # At other times, it is the flush to the disk that finds it full.
    count = 0

    def fsync_until_full(number: int) -> None:
        nonlocal count
        count += 1
        if count > 10:
            full()
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync_until_full)
        with pytest.raises(OutputError, match="No space left on device"):
            run(source, tmp_path / "out", format=form, shard_size=5000)
    run(source, tmp_path / "out", format=form, shard_size=5000)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of files are bytes on Linux")
def test_names_of_files_that_are_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, ending in enumerate(("jsonl", "txt", "jsonl.gz", "arrow", "parquet")):
        table = pa.table({"text": ["hello"]})
        sink = pa.BufferOutputStream()
        if ending == "parquet":
            pq.write_table(table, sink)
        else:
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        line = b'{"text": "hello"}\n'
        content = {"jsonl": line, "txt": b"hello", "jsonl.gz": gzip.compress(line)}
        path = os.fsencode(folder) + b"/\xff%d." % number + ending.encode()
        with open(path, "wb") as file:
            file.write(content.get(ending, sink.getvalue()))
    report = tokenize(folder, tmp_path / "out", progress=False)
    assert (report.documents, report.rejected) == (5, 0)
    with pytest.raises(OutputError, match="is not UTF-8"):
        tokenize(folder, os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shard_size": "9" * 400 + "GB"}, "shard_size must be above 0, and no file is of"),
        ({"block_size": "9" * 400}, "block_size must be above 0, and no file is of"),
        ({"block_size": 1 << 40}, "block_bytes must be .* below 2 GiB"),
        ({"text_key": "\udcff"}, "text_key is not text that UTF-8 can hold"),
        ({"id_key": "\udcff"}, "id_key is not text"),
        ({"delimiter": "\udcff"}, "delimiter is not text"),
        ({"separator": "\udcff"}, "separator is not text"),
        ({"columns": ["\udcff"], "format": "arrow"}, "columns is not text"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(CorpusError, match=message):
        tokenize(tmp_path / "a.txt", tmp_path / "out", progress=False, **settings)


def test_workers_without_end_are_as_many_as_there_is_work(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert tokenize(tmp_path / "a.txt", tmp_path / "out", progress=False, workers=10**18).documents == 1


def broken_off(tmp_path: Path) -> Path:
    """The folder of a run that a bad line has ended."""
    lines = [json.dumps({"text": f"{n} " + "hello world " * 40}) + "\n" for n in range(60)]
    (tmp_path / "in.jsonl").write_text("".join(lines) + "bad\n")
    with pytest.raises(RejectedError):
        run(tmp_path / "in.jsonl", tmp_path / "out", strict=True, dedup=True, checkpoint_seconds=60.0)
    assert (tmp_path / "out" / ".llamatok" / "checkpoint.json").exists()
    return tmp_path / "out"


def _spool(name: str, length: Any) -> Callable[[Any], None]:
    return lambda state: state["assembler"]["lanes"]["train"]["sink"]["spools"].update({name: length})


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["renames"].append(["../../victim", "train.bin"]),
        lambda state: state["renames"].append(["checkpoint.json", "../victim"]),
        lambda state: state["renames"].append(["checkpoint.json", "/victim"]),
        lambda state: state["renames"].append(["checkpoint.json", 3]),
        _spool("/../../../victim", 0),
        _spool("tokens", "3"),
        lambda state: state.pop("journals"),
        lambda state: state.update(phase="done"),
        lambda state: state.update(position=[]),
        lambda state: state["position"].update(unit="a"),
        lambda state: state["assembler"]["lanes"].clear(),
        lambda state: state["assembler"].update(seen="x"),
    ],
)
def test_a_state_that_was_tampered_with(change: Callable[[Any], None], tmp_path: Path) -> None:
    """It moves, cuts and writes nothing outside the folder, and is told in one error."""
    folder = broken_off(tmp_path)
    (tmp_path / "victim").write_text("mine")
    path = folder / ".llamatok" / "checkpoint.json"
    state = json.loads(path.read_bytes())
    change(state)
    path.write_text(json.dumps(state))
    with pytest.raises(OutputError, match=r"state of the run .*is damaged"):
        run(tmp_path / "in.jsonl", folder, strict=True, dedup=True, resume=True)
    assert (tmp_path / "victim").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    assert run(tmp_path / "in.jsonl", folder, dedup=True, overwrite=True).documents == 1


@pytest.mark.parametrize("name", ["plan.json", "checkpoint.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "[" * 100_000, '"a"'])
def test_a_state_that_is_damaged(name: str, content: str, tmp_path: Path) -> None:
    folder = broken_off(tmp_path)
    (folder / ".llamatok" / name).write_text(content)
    with pytest.raises(OutputError, match=r"state of the run .*is damaged"):
        run(tmp_path / "in.jsonl", folder, strict=True, dedup=True, resume=True)


@pytest.mark.parametrize("names", ["[3, null, {}]", '["../victim", "/victim", "folder", "\\u0000"]', "3"])
def test_overwriting_removes_nothing_outside_the_folder(names: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out" / "folder").mkdir(parents=True)
    files = [{"name": name} for name in json.loads(names)] if names[0] == "[" else 3
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"shards": [{"files": files}]}))
    run(tmp_path / "a.txt", tmp_path / "out", overwrite=True)
    assert (tmp_path / "victim").read_text() == "mine"
    (tmp_path / "out" / "summary.json").write_text("{}")
    with pytest.raises(OutputError, match="summary of the run"):
        run(tmp_path / "a.txt", tmp_path / "out", resume=True)
