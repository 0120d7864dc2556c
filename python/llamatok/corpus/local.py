"""One machine: readers cut blocks, workers tokenize them, and the caller's thread puts them together in
order.

All are threads: decompressing, parsing, tokenizing and writing happen outside Python's lock. A few inputs are
read ahead, so that compressed files are decompressed side by side; what is on its way is bounded, and so is
memory.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from llamatok.corpus.documents import Parsed, RawBlock, Reject, TokenBlock, Unit
from llamatok.corpus.errors import DamagedInputError
from llamatok.corpus.plan import Plan
from llamatok.corpus.run import Skip
from llamatok.corpus.settings import Settings
from llamatok.corpus.sources import read_unit
from llamatok.corpus.work import Worker

__all__ = ["Damage", "default_workers", "raw_blocks", "token_blocks"]

#: Blocks of a unit that are read ahead, and blocks for each worker that are on their way.
READ_AHEAD = 2
WINDOW = 2
#: How often a blocked reader looks whether the run was stopped, in seconds.
POLL = 0.2

END = object()


def default_workers() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


class Damage:
    """The rest of a damaged input, as a block with one reject."""

    size = stored = 0
    signature = 0

    def __init__(self, message: str) -> None:
        self.message = message

    def parse(self, settings: Settings) -> Parsed:
        """No documents, and the reason."""
        import pyarrow as pa

        ids = None if settings.id_key is None else pa.array([], pa.large_string())
        return Parsed(pa.array([], pa.string()), ids, rejects=[Reject(0, self.message)])


def raw_blocks(plan: Plan, unit: Unit, skip: Skip | None = None) -> Iterator[tuple[int, RawBlock, float]]:
    """The blocks of a unit that are still to be done: number, content, and seconds spent on reading."""
    settings = plan.settings

    def blocks() -> Iterator[RawBlock]:
        try:
            yield from read_unit(plan.inputs[unit.input], unit, settings, plan.schema)
        except DamagedInputError as error:
            if not settings.skip_damaged:
                raise
            yield Damage(error.message)

    numbered = skip.pass_over(unit.index, blocks()) if skip is not None else iter(enumerate(blocks()))
    while True:
        started = time.thread_time()
        found = next(numbered, None)
        if found is None:
            return
        yield found[0], found[1], time.thread_time() - started


class _Reader:
    """Reads units ahead, each into a queue of its own."""

    def __init__(self, plan: Plan, skip: Skip, readers: int) -> None:
        self._plan = plan
        self._skip = skip
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(readers, "llamatok-read")
        self._queues: deque[queue.Queue[Any]] = deque()
        self._waiting = iter(plan.units[skip.unit :])
        for _ in range(min(readers + 1, len(plan.units))):
            self._start_next()

    def _start_next(self) -> None:
        unit = next(self._waiting, None)
        if unit is not None:
            filled: queue.Queue[Any] = queue.Queue(READ_AHEAD)
            self._queues.append(filled)
            self._pool.submit(self._read, unit, filled)

    def _read(self, unit: Unit, filled: queue.Queue[Any]) -> None:
        try:
            for block in raw_blocks(self._plan, unit, self._skip):
                if not self._put(filled, (unit.index, *block)):
                    return
            self._put(filled, END)
        except BaseException as error:
            self._put(filled, error)

    def _put(self, filled: queue.Queue[Any], item: Any) -> bool:
        while not self._stopped.is_set():
            try:
                filled.put(item, timeout=POLL)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[tuple[int, int, RawBlock, float]]:
        while self._queues:
            filled = self._queues[0]
            item = filled.get()
            if item is END:
                self._queues.popleft()
                self._start_next()
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item

    def stop(self) -> None:
        """Ends all threads."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


def token_blocks(plan: Plan, worker: Worker, skip: Skip, workers: int) -> Generator[TokenBlock, None, None]:
    """All blocks from `skip` on, tokenized, in order."""
    reader = _Reader(plan, skip, readers=max(1, (workers + 1) // 2))
    pool = ThreadPoolExecutor(workers, "llamatok-tokenize")
    pending: deque[Future[TokenBlock]] = deque()
    error: BaseException | None = None
    try:
        blocks = iter(reader)
        exhausted = False
        while True:
            while not exhausted and len(pending) < WINDOW * workers:
                try:
                    item = next(blocks, None)
                except Exception as failure:
                    # What was read before is sound, and is brought to its place first.
                    error, item = failure, None
                if item is None:
                    exhausted = True
                else:
                    pending.append(pool.submit(worker, *item))
            if not pending:
                break
            yield pending.popleft().result()
        if error is not None:
            raise error
    finally:
        reader.stop()
        pool.shutdown(wait=True, cancel_futures=True)
