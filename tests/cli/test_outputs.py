"""What comes out: files that are complete or absent, quiet broken pipes, exit statuses, progress."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamatok.cli import main, progress
from llamatok.cli.io import Inputs, open_output

from .conftest import Run

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file modes and signals")


def test_output_file_equals_standard_output(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "ids"
    done = run("encode", "--output", output, input=b"Hello world")
    assert done.stdout == b""
    assert output.read_bytes() == run("encode", input=b"Hello world").stdout
    assert run("encode", "-o", "-", input=b"Hello world").stdout == output.read_bytes()


def test_failure_leaves_the_old_file_and_nothing_else(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "ids"
    output.write_bytes(b"old")
    run("encode", "--jsonl", "--output", output, input=b'{"text": "a"}\n{', status=1)
    assert output.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["ids"]


def test_output_may_be_the_input(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"Hello")
    run("encode", file, "-o", file)
    assert file.read_bytes() == run("encode", input=b"Hello").stdout


@posix
def test_output_has_the_mode_that_open_gives(tmp_path: Path) -> None:
    new, old, link = tmp_path / "new", tmp_path / "old", tmp_path / "link"
    old.write_bytes(b"")
    old.chmod(0o600)
    link.symlink_to(old)
    (tmp_path / "plain").write_bytes(b"")
    for path in (new, link):
        with open_output(str(path)) as file:
            file.write(b"x")
    assert new.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert old.stat().st_mode & 0o777 == 0o600
    assert link.is_symlink()
    assert old.read_bytes() == b"x"


@posix
def test_output_may_be_a_device(run: Run) -> None:
    run("encode", "-o", "/dev/null", input=b"a")


def test_output_in_a_missing_folder_is_named(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "missing" / "ids"
    assert f"cannot write `{output}`" in run("encode", "-o", output, status=1).stderr.decode()


@posix
def test_broken_pipe_is_quiet(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"some words on a line\n" * 100_000)
    command = [sys.executable, "-m", "llamatok", "encode", "--lines", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_interrupt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(self: Inputs, form: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Inputs, "batches", interrupted)
    assert main(["encode", "-o", str(tmp_path / "ids")]) == 130
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("encode", "--format", "nonsense"),
        ("encode", "--threads", "0"),
        ("encode", "--lines", "--jsonl"),
        ("encode", "--form", "ids"),
        ("train",),
        ("train", "--character-coverage", "2", "-o", "x"),
        ("inspect", "a.model", "--model", "b.model"),
    ],
)
def test_wrong_calls(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, status=2)
    assert done.stdout == b""
    assert b"usage: llamatok" in done.stderr or b"llamatok: error: " in done.stderr


def test_version(run: Run) -> None:
    import llamatok

    assert run("--version").stdout.decode().split() == ["llamatok", llamatok.__version__]


@pytest.mark.parametrize("command", ["encode", "decode", "count", "inspect", "train"])
def test_help_has_an_example(run: Run, command: str) -> None:
    text = run(command, "--help").stdout.decode("ascii")
    assert "examples:\n  " in text
    assert f"llamatok {command} " in text


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_locale_does_not_matter(run: Run, tmp_path: Path, environment: dict[str, str]) -> None:
    file = tmp_path / "text"
    file.write_bytes("Grüße 🦙".encode())
    pieces = run("encode", "--pieces", file, env=environment).stdout
    assert pieces == run("encode", "--pieces", file).stdout
    assert run("decode", "--pieces", input=pieces, env=environment).stdout == file.read_bytes()
    shown = run("inspect", "--text", "Grüße 🦙", env=environment).stdout
    assert shown == run("inspect", "--text", "-", input="Grüße 🦙".encode()).stdout
    assert "▁" in shown.decode()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals_and_long_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"word\n" * 1000)

    def drawn(stream: io.StringIO, show_after: float) -> str:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(progress, "SHOW_AFTER", show_after)
        assert main(["encode", "--lines", str(file), "-o", str(tmp_path / "ids")]) == 0
        return stream.getvalue()

    shown = drawn(Terminal(), 0.0)
    assert "1,000 documents" in shown
    assert "100%" in shown
    assert shown.endswith("MB/s\n")
    assert drawn(Terminal(), 60.0) == ""
    assert drawn(io.StringIO(), 0.0) == ""
