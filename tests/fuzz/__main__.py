"""Fuzzes a target for a while: `PYTHONPATH=python:tests python -m fuzz TARGET --seconds 60`.

Prints the number of executions, and keeps each input with which the target failed under `--findings`;
one that ends the process is left there as `running`. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

from fuzz.mutate import inputs
from fuzz.targets import TARGETS

#: An input that takes longer than this, in seconds, is a finding.
SLOW = 15.0


def main() -> int:
    """The number of findings."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=60.0, help="of the processor, for each target")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other inputs")
    parser.add_argument("--findings", type=Path, default=Path(__file__).parent / "findings")
    arguments = parser.parse_args()
    names = list(TARGETS) if arguments.target == "all" else [arguments.target]
    return sum(_fuzz(name, arguments) for name in names)


def _fuzz(name: str, arguments: argparse.Namespace) -> int:
    folder = arguments.findings / name
    folder.mkdir(parents=True, exist_ok=True)
    kinds: set[str] = set()
    executions = 0
    begun = time.process_time()
    with (folder / "running").open("wb", buffering=0) as running:
        for data in inputs(name, arguments.seed):
            started = time.process_time()
            if started - begun > arguments.seconds:
                break
            os.pwrite(running.fileno(), data, 0)
            running.truncate(len(data))
            executions += 1
            kind = _failure(name, data)
            if kind and kind not in kinds:
                kinds.add(kind)
                path = folder / hashlib.sha256(data).hexdigest()[:16]
                path.write_bytes(data)
                print(f"{name}: {kind}: {path}", file=sys.stderr, flush=True)
    (folder / "running").unlink()
    seconds = time.process_time() - begun
    print(f"{name}: {executions} executions in {seconds:.0f} s, {len(kinds)} findings", flush=True)
    return len(kinds)


def _failure(name: str, data: bytes) -> str:
    """What went wrong, or nothing."""
    started = time.process_time()
    try:
        TARGETS[name](data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic is no Exception
        return f"{type(error).__name__}: {str(error)[:60]}"
    return "slow" if time.process_time() - started > SLOW else ""


sys.exit(1 if main() else 0)
