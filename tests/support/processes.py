"""Python code in a process of its own: pytest's is full of threads and handlers that are not ours."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def start(code: str, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run code; a process that hangs fails by its time."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def run(code: str, *arguments: str, seconds: float = 300) -> str:
    """Run code that must end well and silently; its output."""
    result = start(code, *arguments, seconds=seconds)
    assert not result.stderr, result.stderr
    assert result.returncode == 0
    return result.stdout


def run_file(folder: Path, code: str) -> str:
    """The same with code in a file, which processes that are spawned can import.

    What multiprocessing's resource tracker says is no failure: a process of its own, it complains now and
    then of a semaphore that another process was quicker to remove.
    """
    file = folder / "main.py"
    file.write_text(textwrap.dedent(code), "utf-8")
    result = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ,
    )
    assert not result.stderr or "resource_tracker" in result.stderr, result.stderr
    assert result.returncode == 0
    return result.stdout
