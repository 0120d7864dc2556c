"""`generate` goes on with a text, by the demo checkpoint of the package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llamatok.cli import main

from .conftest import Run

pytest.importorskip("torch", reason="generation needs torch")

PROMPT = "Once upon a time there was"


#: Greedy, so that every run writes the same.
OPTIONS = ("generate", "--max-new-tokens", "12", "--temperature", "0")


@pytest.fixture(scope="module")
def printed(run: Run) -> bytes:
    """What the command prints for `PROMPT`."""
    done = run(*OPTIONS, PROMPT)
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("command", [["generate", PROMPT], ["chat"]])
def test_missing_torch_is_named(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(command) == 1
    shown = capsys.readouterr().err
    assert "this command needs torch" in shown
    assert "hint: pip install 'llamatok[torch]'" in shown


def test_text_goes_on(run: Run, printed: bytes) -> None:
    text = printed.decode()
    assert text.endswith("\n")
    assert text[0] == " "
    assert len(text.split()) >= 3
    assert run(*OPTIONS, "--echo", PROMPT).stdout.decode() == PROMPT + text


def test_the_prompt_may_come_from_standard_input(run: Run, printed: bytes) -> None:
    assert run(*OPTIONS, input=PROMPT.encode()).stdout == printed
    assert run(*OPTIONS, "-", input=PROMPT.encode()).stdout == printed


def test_json_tells_text_tokens_and_speed(run: Run, printed: bytes) -> None:
    told = json.loads(run(*OPTIONS, "--json", PROMPT).stdout)
    assert told["prompt"] == PROMPT
    assert told["text"] == printed.decode().removesuffix("\n")
    assert told["tokens"] == len(told["ids"]) <= 12
    assert told["finish_reason"] in ("length", "eos")
    assert told["tokens_per_second"] > 0
    assert 0 < told["seconds_to_first_token"] <= told["seconds"]


def test_a_seed_makes_draws_repeatable(run: Run) -> None:
    options = ("generate", "--max-new-tokens", "12", "--temperature", "1.5", PROMPT)
    first, again, other = (run(*options, "--seed", seed).stdout for seed in ("1", "1", "2"))
    assert first == again != other


def test_a_stop_ends_the_text(run: Run, printed: bytes) -> None:
    stop = printed.decode()[8:11]
    told = json.loads(run(*OPTIONS, "--json", "--stop", stop, PROMPT).stdout)
    assert stop in told["text"]
    assert told["tokens"] < 12
    assert told["finish_reason"] == "stop"


def test_beams(run: Run) -> None:
    options = ("generate", "--max-new-tokens", "6", "--num-beams", "3", "--json", PROMPT)
    assert json.loads(run(*options).stdout)["tokens"] <= 6


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--temperature", "-1", PROMPT], 2, "expected a number of at least 0, got `-1`"),
        (["--temperature", "warm", PROMPT], 2, "expected a number of at least 0, got `warm`"),
        (["--top-p", "2", PROMPT], 2, "expected a number from 0 to 1, got `2`"),
        (["--top-k", "2", "--temperature", "0", PROMPT], 2, "--top-k has no effect with --temperature 0"),
        (["--seed", str(1 << 64), PROMPT], 2, "expected a whole number from 0 to 2**64 - 1, got `1844"),
        (["--seed", "9" * 5000, PROMPT], 2, "expected a whole number from 0 to 2**64 - 1"),
        (["--max-new-tokens", "0", PROMPT], 2, "expected a whole number above 0, got `0`"),
        (["--model", "no/such/folder", PROMPT], 1, "`no/such/folder`: no such file or folder"),
        (["--num-beams", "2", "--repetition-penalty", "x", PROMPT], 2, "got `x`"),
        (["--threads", "9" * 20, PROMPT], 2, "--threads: at most 4096"),
        (["--dtype", "float8_e5m2", PROMPT], 1, "16 bits or more"),
        (["--max-new-tokens", "9" * 20, PROMPT], 2, "`max_new_tokens`: expected a whole number of at most"),
        (["\udcff"], 2, "the text '\\udcff' is not UTF-8"),
    ],
)
def test_bad_calls_are_told(run: Run, arguments: list[str], status: int, message: str) -> None:
    done = run("generate", *arguments, status=status)
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert done.stdout == b""


def test_an_empty_folder_is_told(run: Run, tmp_path: Path) -> None:
    done = run("generate", "--model", str(tmp_path), PROMPT, status=1)
    assert str(tmp_path) in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_input_that_is_no_text_is_told(run: Run) -> None:
    done = run("generate", input=b"abc\xff", status=1)
    assert "standard input: byte 3 is no valid UTF-8" in done.stderr.decode()
