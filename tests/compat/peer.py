"""The other library, answering from a process and an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from compat.cases import Case
from compat.environments import COMPLETE, ENVIRONMENTS, interpreter

TESTS = Path(__file__).resolve().parents[1]
#: Cases sent at a time: pipes hold little, so one side must not write much before the other reads.
CHUNK = 64


class Peer:
    """A worker of transformers. Use it as a context manager."""

    def __init__(self, python: Path | str = sys.executable) -> None:
        environment = {**os.environ, "PYTHONPATH": str(TESTS), "RUST_BACKTRACE": "0"}
        self._process = subprocess.Popen(
            [str(python), "-m", "compat.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="ascii",
            env=environment,
        )
        self.versions: dict[str, str] = json.loads(self._read())

    def answer(self, cases: Iterable[Case]) -> list[Any]:
        """The answers to cases, in their order."""
        waiting, answers = list(cases), []
        for start in range(0, len(waiting), CHUNK):
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(waiting[start : start + CHUNK]) + "\n")
            self._process.stdin.flush()
            answers += json.loads(self._read())
        return answers

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with {self._process.wait()}")
        return line

    def close(self) -> None:
        """Ends the worker."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait(timeout=60)

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def environments() -> dict[str, Path]:
    """The Pythons of the environments that have been made (see `compat.environments`), by name."""
    folder = os.environ.get("LLAMATOK_COMPAT")
    if not folder:
        return {}
    return {
        name: interpreter(Path(folder, name))
        for name in ENVIRONMENTS
        if Path(folder, name, COMPLETE).exists()
    }
