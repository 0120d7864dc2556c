"""Files, standard input, compression, JSON lines: what goes in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from llamatok import Tokenizer

from .conftest import TEXTS, Run

DATA = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


def test_files_come_in_order(run: Run, tmp_path: Path, tokenizer: Tokenizer) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"one\n")
    second.write_bytes("zwölf".encode())
    out = run("encode", second, "-", first, input=b"three").stdout.decode().splitlines()
    expected = [tokenizer.encode(text) for text in ("zwölf", "three", "one\n")]
    assert [[int(word) for word in line.split()] for line in out] == expected


def test_gzip_of_several_members(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl.gz"
    file.write_bytes(gzip.compress(DATA) + gzip.compress(DATA))
    assert run("encode", "--jsonl", file).stdout == run("encode", "--jsonl", input=DATA + DATA).stdout


def test_zstandard_of_several_frames(run: Run, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    file = tmp_path / "data.jsonl.zst"
    file.write_bytes(zstandard.compress(DATA) + zstandard.compress(DATA))
    assert run("encode", "--jsonl", file).stdout == run("encode", "--jsonl", input=DATA + DATA).stdout


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("fault", ["short", "damaged", "not compressed"])
def test_bad_compression_is_named(run: Run, tmp_path: Path, suffix: str, fault: str) -> None:
    if suffix == "gz":
        data = gzip.compress(DATA * 20)
    else:
        data = pytest.importorskip("zstandard").compress(DATA * 20)
    file = tmp_path / f"data.jsonl.{suffix}"
    file.write_bytes({"short": data[:-9], "damaged": data[:3] + b"\xff" + data[4:]}.get(fault, DATA))
    done = run("count", "--jsonl", file, status=1)
    expected = "cut short" if fault == "short" else "damaged"
    assert f"`{file}`: the compressed data is {expected}" in done.stderr.decode()
    assert done.stdout == b""


def test_missing_zstandard_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from llamatok.cli import main

    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    file = tmp_path / "data.zst"
    file.write_bytes(b"")
    assert main(["count", str(file)]) == 1
    assert "hint: pip install 'llamatok[corpus]'" in capsys.readouterr().err


def test_text_is_taken_as_it_is(run: Run, tokenizer: Tokenizer) -> None:
    for data in (b"\xef\xbb\xbfmarked", b"a\r\nb\r\n", b"bad \xff\xfe bytes", b"\x00\x00"):
        expected = tokenizer.encode_batch([data]).ids.tolist()
        assert run("encode", input=data).stdout.split() == [b"%d" % id for id in expected]


def test_lines_end_at_line_breaks_only(run: Run) -> None:
    data = "a\rb\x0bc\u2028d\x85e\n\nf".encode()
    assert run("encode", "--lines", input=data).stdout.count(b"\n") == 3


def test_json_lines_may_have_blank_lines_a_mark_and_other_keys(run: Run) -> None:
    data = b'\xef\xbb\xbf{"id": 1, "text": "a"}\r\n\n  \n{"text": "b", "meta": {"text": "c"}}'
    assert run("count", "--json", "--jsonl", input=data).stdout.startswith(b'{"documents": 2, "bytes": 2,')
    dotted = b'{"a.b": "xy", "a": {"b": "z"}}'
    assert b'"bytes": 2,' in run("count", "--json", "--text-key", "a.b", input=dotted).stdout


BAD_LINES = [
    (b'{"text": "a"', b"not valid JSON: "),
    (b'{"text": "\xff"}', b"not valid UTF-8 at byte 10"),
    (b'{"body": "a"}', b"no key `text`\nhint: the keys of this line are: `body`"),
    (b'["a"]', b"no key `text`\nhint: each line must be a JSON object"),
    (b'{"text": null}', b"`text` is not a string but null"),
    (b'{"text": ["a"]}', b"`text` is not a string but an array"),
    (b'{"text": "ab\\ud800"}', b"`text` has a lone surrogate, U+D800, at character 2"),
    (b"[" * 100_000, b"not valid JSON: "),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_bad_json_lines_are_named(run: Run, tmp_path: Path, line: bytes, message: bytes) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(b'{"text": "a"}\n\n' + line + b"\n")
    done = run("encode", "--jsonl", file, status=1)
    assert done.stderr.startswith(b"llamatok: error: " + str(file).encode() + b":3: " + message)
    assert b"Traceback" not in done.stderr


def test_missing_files_and_folders_are_named(run: Run, tmp_path: Path) -> None:
    missing = run("encode", tmp_path / "missing", status=1).stderr.decode()
    assert missing == f"llamatok: error: `{tmp_path / 'missing'}`: No such file or directory\n"
    assert f"`{tmp_path}`" in run("encode", tmp_path, status=1).stderr.decode()
    assert "missing.model" in run("encode", "--model", "missing.model", status=1).stderr.decode()


def test_bad_models_are_named(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "bad.model"
    model.write_bytes(b"no model at all")
    done = run("encode", "--model", model, input=b"a", status=1)
    assert done.stderr.startswith(b"llamatok: error: ")
    assert b"bad.model" in done.stderr
    assert b"Traceback" not in done.stderr
