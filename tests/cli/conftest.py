"""Runs the command line as a user does, and makes the texts it runs on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from llamatok import Tokenizer

#: Several scripts, bytes without a piece, runs of spaces, control characters, what looks like a token, a BOM.
TEXTS = [
    "Hello world",
    "",
    "  two  spaces   three ",
    "Grüße, 世界! 🦙\u200d🦙",
    "tab\tand\r and \x00 and \x7f",
    "<s> is text </s> <0x0A>",
    "back\\slash \\n",
    "\ufeffmarked",
    "a" * 300,
]

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="session")
def run() -> Run:
    """`run("encode", ..., input=b"...", env={...})`."""

    def run(
        *arguments: str | os.PathLike[str],
        input: bytes = b"",
        env: dict[str, str] | None = None,
        status: int = 0,
    ) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "llamatok", *map(os.fspath, arguments)]
        # For models as small as these, threads of torch wait for each other.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        done = subprocess.run(
            command, input=input, capture_output=True, env=environment, timeout=300, check=False
        )
        assert done.returncode == status, done.stderr.decode(errors="replace")
        return done

    return run


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The embedded tokenizer, through the Python interface."""
    return Tokenizer.default()
