"""`llamatok corpus` as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamatok.cli import main
from llamatok.corpus import tokenize

from .conftest import TEXTS, nanogpt, tree, write_jsonl


def test_a_run_and_its_report(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["corpus", "--format", "nanogpt", "--add-eos", "-o", str(tmp_path / "out"), str(corpus)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"documents  {len(TEXTS)}" in shown.err
    assert main([*command, "--resume", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["documents"] == len(TEXTS)
    assert report["tokens"] == len(nanogpt(tmp_path / "out"))
    assert main(command) == 1
    assert "the output folder is not empty" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_all_options_reach_the_run(corpus: Path, tmp_path: Path) -> None:
    options = [
        "--format", "npy", "--add-bos", "--add-eos", "--text-key", "n.deep", "--id-key", "id",
        "--min-tokens", "3", "--max-tokens", "90", "--truncate", "--dedup", "--val-fraction", "0.2",
        "--shuffle", "--seed", "4", "--pack", "16", "--pad-last", "--no-position-ids",
        "--shard-size", "4kB", "--workers", "3", "--block-size", "4KiB", "--quiet",
    ]  # fmt: skip
    assert main(["corpus", "-o", str(tmp_path / "cli"), *options, str(corpus)]) == 0
    tokenize(
        str(corpus),
        tmp_path / "python",
        format="npy",
        add_bos=True,
        add_eos=True,
        text_key="n.deep",
        id_key="id",
        min_tokens=3,
        max_tokens=90,
        long_documents="truncate",
        dedup=True,
        val_fraction=0.2,
        shuffle=True,
        seed=4,
        pack=16,
        pack_remainder="pad",
        position_ids=False,
        shard_size=4000,
        block_size=4096,
        progress=False,
    )
    assert tree(tmp_path / "cli") == tree(tmp_path / "python")


def test_separators_are_unescaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n\nthree")
    command = ["corpus", "--separator", r"\n\n", "--json", "--quiet", "-o", str(tmp_path / "out")]
    assert main([*command, str(tmp_path / "a.txt")]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 3


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["none.jsonl"], 1, "llamatok: error: no such input: `none.jsonl`"),
        (["--pack", "1", "a.jsonl"], 1, "llamatok: error: pack must be between"),
        (["--format", "bin", "a.jsonl"], 2, "invalid choice: 'bin'"),
        (["--strict", "bad.jsonl"], 1, "llamatok: error: `bad.jsonl`, line 2: not valid JSON"),
        (["--columns", "n", "a.jsonl"], 1, "hint: use --format parquet or --format arrow"),
        (["--model", "bad.jsonl", "a.jsonl"], 1, "llamatok: error: "),
        (["--model", "none.model", "a.jsonl"], 1, "llamatok: error: "),
        (
            ["a.jsonl", "-o", "s3://b/x"],
            1,
            "`s3://b/x` is a URL: a run writes to a local folder\nhint: ",
        ),
    ],
)
def test_errors(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", ["a"])
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\nnot json\n')
    try:
        found = main(["corpus", "--quiet", "-o", "out", *arguments])
    except SystemExit as error:
        found = int(error.code or 0)
    assert found == status
    assert message in capsys.readouterr().err


def test_missing_packages_are_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "pyarrow" or name.startswith("llamatok.corpus"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["corpus", "-o", str(tmp_path / "out"), str(corpus)]) == 1
    shown = capsys.readouterr().err
    assert "llamatok.corpus needs pyarrow" in shown
    assert "hint: pip install 'llamatok[corpus]'" in shown


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["corpus", "--help"])
    assert "llamatok corpus --format mds" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")
def test_the_view_on_a_terminal(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("rich")
    import pty

    big = write_jsonl(tmp_path / "big.jsonl", TEXTS * 40)
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "llamatok",
        "corpus",
        "--block-size",
        "8KiB",
        "-o",
        str(tmp_path / "out"),
        str(big),
    ]
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.returncode == 0
    assert b"MB/s" in shown
    assert b"documents" in shown
