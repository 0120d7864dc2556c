"""`encode` gives the ids of the Python interface in each format, and `decode` takes each of them back."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from llamatok import Tokenizer
from llamatok.cli.encode import FORMATS, writer
from llamatok.cli.errors import UsageError
from llamatok.cli.pieces import shown_pieces

from .conftest import TEXTS, Run

ONE_LINE = [text for text in TEXTS if "\n" not in text]
WHOLE = "\n".join(TEXTS)


def jsonl(texts: list[str], key: str = "text") -> bytes:
    return "".join(json.dumps({key: text}) + "\n" for text in texts).encode()


@pytest.mark.parametrize("form", FORMATS)
def test_whole_input_round_trips(run: Run, form: str) -> None:
    encoded = run("encode", "--format", form, input=WHOLE.encode()).stdout
    assert run("decode", "--format", form, input=encoded).stdout.decode() == WHOLE


@pytest.mark.parametrize("form", ["ids", "json", "pieces"])
@pytest.mark.parametrize("shape", ["--lines", "--jsonl", "--text-key=a.b"])
def test_documents_round_trip(run: Run, form: str, shape: str) -> None:
    if shape == "--lines":
        data = "".join(text + "\n" for text in ONE_LINE).encode()
    else:
        record = (lambda text: {"text": text}) if shape == "--jsonl" else (lambda text: {"a": {"b": text}})
        data = "".join(json.dumps(record(text), ensure_ascii=False) + "\n" for text in TEXTS).encode()
    encoded = run("encode", "--format", form, shape, input=data).stdout
    assert encoded.count(b"\n") == data.count(b"\n")
    assert run("decode", "--format", form, shape, input=encoded).stdout == data


@pytest.mark.parametrize("special", [{}, {"add_bos": True}, {"add_bos": True, "add_eos": True}])
def test_ids_are_those_of_the_python_interface(
    run: Run, tokenizer: Tokenizer, special: dict[str, bool]
) -> None:
    switches = ["--" + name.replace("_", "-") for name in special]
    lists = [tokenizer.encode(text, **special) for text in TEXTS]
    flat = np.array([id for ids in lists for id in ids])

    def encoded(form: str) -> bytes:
        return run("encode", "--jsonl", "--format", form, *switches, input=jsonl(TEXTS)).stdout

    assert encoded("ids").decode() == "".join(" ".join(map(str, ids)) + "\n" for ids in lists)
    assert [json.loads(line) for line in encoded("json").splitlines()] == [{"ids": ids} for ids in lists]
    assert encoded("u16") == flat.astype("<u2").tobytes()
    assert encoded("u32") == flat.astype("<u4").tobytes()
    shown = shown_pieces(tokenizer)
    pieces = "".join(" ".join(shown[id] for id in ids) + "\n" for ids in lists)
    assert encoded("pieces").decode() == pieces


def test_pieces_are_those_of_the_vocabulary(run: Run, tokenizer: Tokenizer) -> None:
    text = "Grüße, 世界! back\\slash"
    pieces = " ".join(map(tokenizer.id_to_piece, tokenizer.encode(text)))
    assert run("encode", "--pieces", input=text.encode()).stdout.decode() == pieces + "\n"


def test_pieces_is_a_format(run: Run) -> None:
    assert (
        run("encode", "--pieces", input=b"Hi").stdout == run("encode", "--format=pieces", input=b"Hi").stdout
    )


def test_control_tokens_are_parsed_on_request_only(run: Run, tokenizer: Tokenizer) -> None:
    text = b"a</s>b"
    plain = run("encode", input=text).stdout
    parsed = run("encode", "--parse-special", input=text).stdout
    assert str(tokenizer.eos_id) not in plain.decode().split()
    assert str(tokenizer.eos_id) in parsed.decode().split()
    assert run("decode", input=parsed).stdout == run("decode", "--skip-special-tokens", input=parsed).stdout


def test_threads_do_not_change_the_result(run: Run) -> None:
    data = jsonl(TEXTS * 50)
    one = run("encode", "--jsonl", "--threads", "1", input=data).stdout
    assert run("encode", "--jsonl", "--threads", "3", input=data).stdout == one


def test_batches_join_without_a_seam(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from llamatok.cli import decode, encode, io, main

    source, ids, back = (str(tmp_path / name) for name in ("source", "ids", "back"))
    Path(source).write_text("".join(text + "\n" for text in ONE_LINE * 20), encoding="utf-8", newline="")
    expected = run("encode", "--lines", source).stdout
    monkeypatch.setattr(io, "BATCH_BYTES", 100)
    monkeypatch.setattr(io, "BATCH_DOCUMENTS", 3)
    monkeypatch.setattr(encode, "BLOCK", 7)
    monkeypatch.setattr(decode, "CHUNK_BYTES", 11)
    assert main(["encode", "--lines", source, "-o", ids]) == 0
    assert Path(ids).read_bytes() == expected
    assert main(["decode", "--lines", ids, "-o", back]) == 0
    assert Path(back).read_bytes() == Path(source).read_bytes()
    for form in FORMATS:
        assert main(["encode", "--format", form, source, "-o", ids]) == 0
        assert main(["decode", "--format", form, ids, "-o", back]) == 0
        assert Path(back).read_bytes() == Path(source).read_bytes(), form


def test_last_line_needs_no_line_break(run: Run, tokenizer: Tokenizer) -> None:
    ids = " ".join(map(str, tokenizer.encode("Hello world"))).encode()
    for data in (ids, ids + b" ", ids + b"\n", ids + b"\r\n"):
        assert run("decode", "--lines", input=data).stdout == b"Hello world\n"
    assert run("encode", "--lines", input=b"a\nb").stdout == run("encode", "--lines", input=b"a\nb\n").stdout


def test_u16_is_refused_where_ids_do_not_fit() -> None:
    small, large = (cast(Tokenizer, SimpleNamespace(vocab_size=size)) for size in (65536, 65537))
    writer("u16", small)
    with pytest.raises(UsageError, match="65537") as caught:
        writer("u16", large)
    assert caught.value.status == 2
    assert caught.value.hints == ("use --format u32",)


def test_pieces_with_spaces_and_line_breaks_stay_apart() -> None:
    pieces = ["a", "\n", "\\n", "\\\\n", "a b", "\u00a0", "\t\n"]
    fake: Any = SimpleNamespace(vocab_size=len(pieces), id_to_piece=pieces.__getitem__)
    shown = shown_pieces(fake)
    assert shown == ["a", "\\\\\\n", "\\n", "\\\\n", "a\\x20b", "\u00a0", "\\t\\n"]
    assert len(set(shown)) == len(pieces)


BAD_IDS = [
    ("ids", b"1 2\n3 x 4\n", b"<stdin>:2: `x` at index 1 is no token id"),
    ("ids", b"1 -2", b"<stdin>:1: id -2 at index 1 is out of range"),
    ("ids", b"1 99999999999999999999", b"`99999999999999999999` at index 1 is no token id"),
    ("json", b'{"ids": [1]}\n{"ids": 1}\n', b"<stdin>:2: neither a list of ids"),
    ("json", b"[[1], [2, 3]]", b"neither a list of ids"),
    ("json", b"[1.5]", b"neither a list of ids"),
    ("json", b'{"ids": [1, 2', b"<stdin>:1: not valid JSON"),
    ("json", b"[1, 4294967295]", b"id 4294967295 at index 1 is out of range"),
    ("u16", b"abc", b"3 bytes are no whole number of u16 ids"),
    ("u32", b"\xff\xff\xff\xff", b"id 4294967295 at index 0 is out of range"),
    ("pieces", "a ∄∄".encode(), "`∄∄` at index 1 is no piece".encode()),
]


@pytest.mark.parametrize(("form", "data", "message"), BAD_IDS)
def test_bad_ids_are_named(run: Run, form: str, data: bytes, message: bytes) -> None:
    environment = {"PYTHONIOENCODING": "utf-8"}
    done = run("decode", "--format", form, input=data, status=1, env=environment)
    assert done.stderr.startswith(b"llamatok: error: ")
    assert message in done.stderr
    assert b"Traceback" not in done.stderr
