"""The package is typed for its users: a program of theirs passes mypy --strict, and a wrong one does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import llamatok

PROGRAM = Path(__file__).with_name("user_program.py")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says of either program, with this llamatok and no settings but --strict."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    folder = tmp_path_factory.mktemp("programs")
    wrong = folder / "wrong_program.py"
    wrong.write_text("from llamatok import Tokenizer\n\nids: str = Tokenizer.default().encode(1)\n")
    root = Path(llamatok.__file__).parents[1]
    # An installed package is found by itself, and mypy wants no site-packages in its path.
    path = {} if "site-packages" in root.parts else {"MYPYPATH": str(root)}
    options = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={folder / 'cache'}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, PROGRAM, wrong],
        cwd=folder,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("(checked 2 source files)")
    lines = done.stdout.splitlines()[:-1]
    return {
        program.name: [line for line in lines if program.name in line.partition(":")[0]]
        for program in (PROGRAM, wrong)
    } | {"": [line for line in lines if "_program.py:" not in line]}


def test_a_program_of_a_user(said: dict[str, list[str]]) -> None:
    assert said[PROGRAM.name] == []
    assert said[""] == []


def test_mistakes_are_found(said: dict[str, list[str]]) -> None:
    found = "\n".join(said["wrong_program.py"])
    assert 'has incompatible type "int"' in found
    assert 'variable has type "str"' in found
