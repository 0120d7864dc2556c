"""Taking turns: every round times every peer once on the same documents, one after the other.

For each corpus and number of threads: fresh processes make a cold pass each, in turn, as often as asked; the
last of them stay, and make the warm rounds and the lesser jobs, in turn, starting with another peer each
round. Machine noise then falls on all alike, and ratios are taken within a round before their median is.
"""

from __future__ import annotations

import json
import os
import platform
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benches.compare.documents import Corpus, probes, short_strings
from benches.compare.peers import PEERS, REFERENCE, Files, Flat, thread_environment
from benches.compare.worker import first_difference

ROOT = Path(__file__).resolve().parents[2]
# Jobs beside encoding, and the documents they are done on.
LESSER_JOBS = {
    "latency": "documents",
    "count": "documents",
    "decode": "documents",
    "short": "short",
    "padded": "short",
    "one": "one",
}
# Jobs that are `encode` on other documents.
ENCODE_JOBS = ("short", "one")
LARGEST_ONE = 4_000_000


@dataclass
class Row:
    """Timings of one peer at one job; `agrees` is None where ids could not be compared."""

    corpus: str
    threads: int
    job: str
    peer: str
    bytes: int
    seconds: list[float]
    cpu_seconds: list[float]
    agrees: bool | None = None

    @property
    def rates(self) -> list[float]:
        """Megabytes a second, a round each."""
        return [self.bytes / 1e6 / seconds for seconds in self.seconds]

    @property
    def cpu_rates(self) -> list[float]:
        """Megabytes a second of processor time, which other programs on the machine disturb less."""
        return [self.bytes / 1e6 / seconds for seconds in self.cpu_seconds]


@dataclass
class Report:
    """Everything a run found; what `report` renders and the JSON file holds."""

    command: str
    date: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    corpora: dict[str, dict[str, int]] = field(default_factory=dict)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    differences: list[dict[str, Any]] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    memory: list[dict[str, Any]] = field(default_factory=list)
    hard: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> str:
        """Write the report as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)


class Failed(Exception):
    """A peer could not do what it was asked; the message says why."""


class Client:
    """The parent's end of one worker."""

    def __init__(self, peer: str, threads: int, files: Files, cap: float) -> None:
        self.peer, self.cap = peer, cap
        paths = [None if path is None else str(path) for path in asdict(files).values()]
        settings = json.dumps({"peer": peer, "threads": threads, "files": paths})
        environment = thread_environment(threads)
        old = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([old] if old else [])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benches.compare.worker", settings],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, order: str, **arguments: Any) -> dict[str, Any] | None:
        """Give an order and wait for its answer; None when the library has no call for it."""
        pipe, answers = self.process.stdin, self.process.stdout
        assert pipe is not None
        assert answers is not None
        try:
            pipe.write(json.dumps({"order": order, **arguments}).encode() + b"\n")
            pipe.flush()
            ready, _, _ = select.select([answers], [], [], self.cap)
            line = answers.readline() if ready else b""
        except BrokenPipeError:
            line = b""
            ready = [answers]
        if not line:
            self.close(kill=True)
            raise Failed(f"died in `{order}`" if ready else f"took longer than {self.cap:g} s in `{order}`")
        answer: dict[str, Any] = json.loads(line)
        for problem in ("unavailable", "error"):
            if problem in answer:
                raise Failed(answer[problem])
        return None if "unsupported" in answer else answer

    def read_ids(self, place: str, scratch: Path) -> Flat:
        """Take the ids of the documents that lie in the scratch folder under that name."""
        path = scratch / "ids.npz"
        self.ask("take", name=place, path=str(scratch / place))
        self.ask("ids", name=place, path=str(path))
        with np.load(path) as arrays:
            return arrays["ids"], arrays["offsets"]

    def close(self, kill: bool = False) -> None:
        """End the worker."""
        if kill:
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()


@dataclass
class Comparison:
    """One whole comparison, from documents to `Report`."""

    files: Files
    peers: list[str]
    report: Report
    rounds: int = 5
    cold_rounds: int = 3
    cap: float = 300.0
    lesser_jobs: bool = True

    def measure(self, corpora: list[Corpus], thread_counts: list[int]) -> None:
        """Fill the report."""
        for corpus in corpora:
            self.report.corpora[corpus.name] = {"documents": len(corpus.documents), "bytes": corpus.byte_len}
            places = {"documents": corpus, "short": short_strings(corpus), "probes": probes()}
            places["one"] = Corpus(corpus.name, ["".join(corpus.documents)[:LARGEST_ONE]])
            for name, texts in places.items():
                texts.write(self.files.scratch / name)
            for threads in thread_counts:
                say(f"{corpus.name}, {threads} thread(s)")
                self._measure(corpus.name, threads)

    def _measure(self, corpus: str, threads: int) -> None:
        cold = {name: Row(corpus, threads, "encode cold", name, 0, [], []) for name in self.peers}
        workers: dict[str, Client] = {}
        try:
            for number in range(self.cold_rounds):
                last = number == self.cold_rounds - 1
                for name in turned(self.peers, number):
                    if name in self.report.absent:
                        continue
                    with self._failing(name, workers):
                        worker = Client(name, threads, self.files, self.cap)
                        workers[name] = worker
                        self._start(worker, name)
                        self._time(worker, cold[name], "encode", "documents")
                        if not last:
                            workers.pop(name).close()
            rows = [row for row in cold.values() if row.peer in workers]
            self._warm(workers, corpus, threads, rows)
            verdicts = self._compare(workers, corpus, threads)
            for row in rows:
                row.agrees = verdicts.get((LESSER_JOBS.get(row.job, "documents"), row.peer))
            self.report.rows.extend(row for row in rows if row.seconds)
        finally:
            for worker in workers.values():
                worker.close()

    def _start(self, worker: Client, name: str) -> None:
        loaded = worker.ask("load")
        assert loaded is not None
        known = self.report.peers.setdefault(name, {"version": loaded["version"], "load_seconds": []})
        known.update(call=PEERS[name].call, llama=PEERS[name].llama)
        known["load_seconds"].append(loaded["load_seconds"])
        worker.ask("take", name="documents", path=str(self.files.scratch / "documents"))

    def _warm(self, workers: dict[str, Client], corpus: str, threads: int, rows: list[Row]) -> None:
        """Warm rounds of every job, each job after a pass that is not counted."""
        jobs = {"encode": "documents", **(LESSER_JOBS if self.lesser_jobs else {})}
        for job, place in jobs.items():
            label = {"encode": "encode warm"}.get(job, job)
            found = {name: Row(corpus, threads, label, name, 0, [], []) for name in workers}
            for number in range(self.rounds + 1):
                for name in turned(list(workers), number):
                    if name not in found or name not in workers:
                        continue
                    with self._failing(name, workers):
                        if number == 0 and place != "documents":
                            workers[name].ask("take", name=place, path=str(self.files.scratch / place))
                        call = "encode" if job in ENCODE_JOBS else job
                        try:
                            done = self._time(workers[name], found[name], call, place)
                        except Failed as failure:
                            if job == "encode" or workers[name].process.poll() is not None:
                                raise
                            self.report.failures[f"{name}: {job}"] = str(failure)
                            done = False
                        if not done:
                            del found[name]
            for row in found.values():
                if row.peer in workers:
                    # The first pass warmed up.
                    del row.seconds[0], row.cpu_seconds[0]
                    rows.append(row)
            if job == "encode":
                self._memory(workers, corpus, threads)

    def _memory(self, workers: dict[str, Client], corpus: str, threads: int) -> None:
        for name in list(workers):
            with self._failing(name, workers):
                peak = workers[name].ask("peak")
                assert peak is not None
                self.report.memory.append({"corpus": corpus, "threads": threads, "peer": name, **peak})

    def _compare(self, workers: dict[str, Client], corpus: str, threads: int) -> dict[tuple[str, str], bool]:
        """Tell for each place and peer whether its ids are the reference's; note where they are not.

        A peer that differs on odd texts only is reported too, but counts as agreeing on the corpus.
        """
        verdicts: dict[tuple[str, str], bool] = {}
        names = {"documents": corpus, "probes": "odd texts"}
        if self.lesser_jobs:
            names |= {"short": f"{corpus}, short strings", "one": f"{corpus} as one document"}
        for place, title in names.items():
            reference = self._ids(workers, REFERENCE, place)
            if reference is None:
                return verdicts
            for name in list(workers):
                if not PEERS[name].llama:
                    continue
                ids = self._ids(workers, name, place)
                if ids is None:
                    continue
                difference = first_difference(reference, ids)
                verdicts[place, name] = difference is None
                if difference is not None:
                    entry = {"peer": name, "corpus": title, "threads": threads, **difference}
                    # The odd texts are the same beside every corpus.
                    if entry not in self.report.differences:
                        self.report.differences.append(entry)
        return verdicts

    def _ids(self, workers: dict[str, Client], name: str, place: str) -> Flat | None:
        if name not in workers:
            return None
        with self._failing(name, workers):
            return workers[name].read_ids(place, self.files.scratch)
        return None

    def _time(self, worker: Client, row: Row, job: str, place: str) -> bool:
        answer = worker.ask("run", job=job, name=place)
        if answer is None:
            return False
        row.bytes = answer["bytes"]
        row.seconds.append(answer["seconds"])
        row.cpu_seconds.append(answer["cpu_seconds"])
        return True

    @contextmanager
    def _failing(self, name: str, workers: dict[str, Client]) -> Iterator[None]:
        """Leave a peer that fails out from here on, with its reason in the report."""
        try:
            yield
        except Failed as failure:
            self.report.absent[name] = str(failure)
            say(f"  {name} is left out: {failure}")
            if name in workers:
                workers.pop(name).close()


def turned(names: list[str], number: int) -> list[str]:
    """Give the peers in the order of a round: each round starts with the next one."""
    start = number % max(1, len(names))
    return names[start:] + names[:start]


def ratios(rows: list[Row], over: str) -> dict[str, float]:
    """Each peer's rate over another's, the median of ratios within a round."""
    by_peer = {row.peer: row.seconds for row in rows}
    base = by_peer.get(over)
    if not base:
        return {}
    return {
        peer: float(np.median([b / s for b, s in zip(base, seconds, strict=False)]))
        for peer, seconds in by_peer.items()
        if seconds
    }


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system and Python, as far as the system tells."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        memory = 0
    return {
        "processor": model,
        "cores": available_cores(),
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "commit": commit(),
    }


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str:
    """Name the checked-out commit, with a plus when files differ from it."""
    try:
        arguments = ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def new_report(settings: dict[str, Any]) -> Report:
    """Make an empty report that knows when, where and how."""
    command = "python -m benches.compare " + " ".join(sys.argv[1:])
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return Report(command=command, date=now, machine=describe_machine(), settings=settings)


def say(text: str) -> None:
    """Tell the user what is going on, off the data's way."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder that lasts as long as the comparison."""
    with tempfile.TemporaryDirectory(prefix="llamatok-compare-") as folder:
        yield Path(folder)
