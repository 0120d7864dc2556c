"""The package is typed for its users: a program of theirs passes mypy --strict, and a wrong one does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import llamatok

PROGRAM = Path(__file__).with_name("user_program.py")


def mypy(program: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What mypy says of a program, with this llamatok and no settings but --strict."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    root = Path(llamatok.__file__).parents[1]
    # An installed package is found by itself, and mypy wants no site-packages in its path.
    path = {} if "site-packages" in root.parts else {"MYPYPATH": str(root)}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            "--follow-imports=silent",
            f"--cache-dir={folder / 'cache'}",
            program,
        ],
        cwd=folder,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_program_of_a_user(tmp_path: Path) -> None:
    done = mypy(PROGRAM, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_are_found(tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text("from llamatok import Tokenizer\n\nids: str = Tokenizer.default().encode(1)\n")
    found = mypy(program, tmp_path).stdout
    assert 'has incompatible type "int"' in found
    assert 'variable has type "str"' in found
