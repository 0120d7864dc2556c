"""The process that one peer runs in: reads an order a line, does it, answers with a line of JSON.

A process of its own gives each peer its own threads, caches and peak memory, and makes a first pass truly
cold. Workers wait on their pipe while another works, so no two ever run at the same time.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from benches.compare.documents import read_documents
from benches.compare.peers import PEERS, Files, Flat, Peer, Unavailable, rows

LATENCY_LENGTH = 100
LATENCY_TEXTS = 1_000


class Worker:
    """Holds one peer and the documents it was given, and carries out orders by name."""

    def __init__(self, peer: type[Peer], files: Files, threads: int) -> None:
        self.peer = peer(files, threads)
        self.documents: dict[str, list[str]] = {}
        self.byte_len: dict[str, int] = {}
        self.decodable: dict[str, Any] = {}
        self.latency_start = 0

    def load(self) -> dict[str, Any]:
        """Import and load, then one tiny call, so that pools and lazy imports are not taken for encoding."""
        base = peak_kb()
        start = time.perf_counter()
        self.peer.load()
        seconds = time.perf_counter() - start
        tiny = ["a"] * (2 * self.peer.threads)
        self._prepare(tiny)
        self.peer.flat(self.peer.encode(tiny))
        return {"load_seconds": seconds, "base_kb": base, "version": self.peer.version()}

    def take(self, name: str, path: str) -> dict[str, Any]:
        """Read documents and keep them under a name."""
        documents = read_documents(Path(path))
        self.documents[name] = documents
        self.byte_len[name] = sum(len(document.encode()) for document in documents)
        self._prepare(documents)
        return {"bytes": self.byte_len[name]}

    def run(self, job: str, name: str) -> dict[str, Any]:
        """Do a job once and tell how long it took, on the wall and on all processors together."""
        documents = self.documents[name]
        if job == "latency":
            return self._latency(documents)
        argument: Any = documents
        if job == "decode":
            if name not in self.decodable:
                self.decodable[name] = self.peer.decode_input(self.peer.encode(documents))
            argument = self.decodable[name]
        call = getattr(self.peer, job)
        wall, cpu, result = timed(call, argument)
        del result
        return {"seconds": wall, "cpu_seconds": cpu, "bytes": self.byte_len[name]}

    def ids(self, name: str, path: str) -> dict[str, Any]:
        """Write flat ids and offsets of documents."""
        flat = self.peer.flat(self.peer.encode(self.documents[name]))
        np.savez(path, ids=flat[0], offsets=flat[1])
        return {}

    def peak(self) -> dict[str, Any]:
        """Peak resident memory so far, in KiB."""
        return {"peak_kb": peak_kb()}

    def _latency(self, documents: list[str]) -> dict[str, Any]:
        """Mean time of `encode_one` over texts of 100 characters from all over the documents.

        Each call takes other texts, so that a library that keeps whole texts gains nothing by it.
        """
        text = "".join(documents[:: max(1, len(documents) // LATENCY_TEXTS)])
        step = max(LATENCY_LENGTH, len(text) // LATENCY_TEXTS)
        self.latency_start += 37
        starts = range(self.latency_start % step, len(text) - LATENCY_LENGTH + 1, step)
        texts = [text[start : start + LATENCY_LENGTH] for start in starts]
        if not texts:
            raise NotImplementedError("no text of 100 characters")
        encode = self.peer.encode_one

        def each() -> None:
            for text in texts:
                encode(text)

        wall, cpu, _ = timed(each)
        return {"seconds": wall / len(texts), "cpu_seconds": cpu / len(texts), "bytes": 0}

    def _prepare(self, documents: list[str]) -> None:
        prepare = getattr(self.peer, "prepare", None)
        if prepare is not None:
            prepare(documents)


def timed(call: Any, *arguments: Any) -> tuple[float, float, Any]:
    """Wall and processor seconds of a call, and its result, which is freed outside the measurement."""
    gc.collect()
    gc.disable()
    try:
        cpu = time.process_time()
        wall = time.perf_counter()
        result = call(*arguments)
        wall = time.perf_counter() - wall
        cpu = time.process_time() - cpu
    finally:
        gc.enable()
    return wall, cpu, result


def peak_kb() -> int:
    """Peak resident memory of this process in KiB."""
    # Linux's `getrusage` starts from the parent's peak; the status file tells this process's own.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak


def first_difference(reference: Flat, other: Flat) -> dict[str, Any] | None:
    """How two results differ: documents that differ, the first of them, and where in it; None if equal."""
    if np.array_equal(reference[1], other[1]) and np.array_equal(reference[0], other[0]):
        return None
    ours, theirs = rows(reference), rows(other)
    if len(ours) != len(theirs):
        return {"documents": abs(len(ours) - len(theirs)), "reason": "another number of documents"}
    differing = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if not np.array_equal(a, b)]
    first = differing[0]
    a, b = ours[first].tolist(), theirs[first].tolist()
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    around = slice(max(0, at - 1), at + 5)
    return {
        "documents": len(differing),
        "of": len(ours),
        "first_document": first,
        "first_token": at,
        "expected": a[around],
        "got": b[around],
    }


def main() -> None:
    """Serve orders from standard input until it ends."""
    # Libraries may print; answers go to a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])
    files = Files(*(None if path is None else Path(path) for path in settings["files"]))  # type: ignore[arg-type]
    worker = Worker(PEERS[settings["peer"]], files, settings["threads"])
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(worker, order.pop("order"))(**order)
        except NotImplementedError:
            answer = {"unsupported": True}
        except ModuleNotFoundError as error:
            answer = {"unavailable": f"not installed: `{error.name}`"}
        except Unavailable as error:
            answer = {"unavailable": str(error)}
        except BaseException as error:
            # Some bindings panic with a class outside `Exception`; the peer fails, the comparison goes on.
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
