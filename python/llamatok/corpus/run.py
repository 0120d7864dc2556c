"""A run over its whole life: begun, interrupted at any moment, taken up again, finished.

The state folder `.llamatok` in the output folder holds the plan, the spools of the shards that are open, and
a checkpoint: which block comes next, and how long each file was when all blocks before it had been written. A
file that is longer was written to by blocks that are going to come again, and is cut back. The checkpoint
replaces its predecessor atomically, and finished shards take their names only after it knows of them; so
there is no moment at which a kill loses or repeats anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from llamatok._paths import is_within
from llamatok.corpus.assemble import Assembler
from llamatok.corpus.documents import RawBlock, TokenBlock
from llamatok.corpus.errors import CorpusError, InputChangedError, OutputError, RejectedError
from llamatok.corpus.files import AppendFile, rename, sync_folder, write_whole, writing
from llamatok.corpus.inputs import Input
from llamatok.corpus.manifest import write_results
from llamatok.corpus.plan import Plan
from llamatok.corpus.progress import Progress
from llamatok.corpus.report import Report, read_report
from llamatok.corpus.settings import Settings
from llamatok.corpus.tokenizers import TokenizerSource
from llamatok.corpus.totals import COUNTERS
from llamatok.corpus.work import token_dtype

__all__ = ["Run", "Skip"]

STATE = ".llamatok"
MANIFEST = "manifest.json"
JOURNALS = ("rejects", "inputs", "shards")

#: Phases of a run.
READ, PLACE, FINISH, INDEX, REPORT = PHASES = ("read", "place", "finish", "index", "report")


class Skip:
    """What a resumed run has of its first unit already: so many blocks, told apart by a chained signature."""

    def __init__(self, unit: int, blocks: int, chain: int, path: str) -> None:
        self.unit = unit
        self.blocks = blocks
        self.chain = chain
        self.path = path

    def pass_over(self, unit: int, blocks: Iterable[RawBlock]) -> Iterator[tuple[int, RawBlock]]:
        """The blocks of a unit with their numbers, without those that were done.

        Raises `InputChangedError` where those were others.
        """
        numbered = iter(enumerate(blocks))
        if unit == self.unit and self.blocks:
            chain = 0
            found = 0
            for _, block in numbered:
                chain = chained(chain, block.signature)
                found += 1
                if found == self.blocks:
                    break
            if found < self.blocks or chain != self.chain:
                raise InputChangedError(
                    f"`{self.path}` is not what it was when the run began",
                    "put the old one back and resume, or start anew with --overwrite",
                )
        yield from numbered


def chained(chain: int, signature: int) -> int:
    """The signature of a sequence of blocks that goes on with another."""
    return zlib.crc32(signature.to_bytes(16, "little"), chain)


class Run:
    """A run in its output folder. Use it as a context manager."""

    def __init__(
        self,
        inputs: list[Any],
        output: str,
        source: TokenizerSource,
        settings: Settings,
        resume: bool,
        overwrite: bool,
        checkpoint_seconds: float,
        progress: Progress,
    ) -> None:
        if "://" in output:
            raise OutputError(
                f"`{output}` is a URL: a run writes to a local folder",
                "name one, and copy it when the run is finished",
            )
        try:
            output.encode()
        except UnicodeEncodeError:
            raise OutputError(f"the name of the output folder is not UTF-8: {output!r}") from None
        self.output = os.path.abspath(output)
        self.state_folder = os.path.join(self.output, STATE)
        self.source = source
        self.settings = settings
        self.progress = progress
        self.report: Report | None = None
        self._checkpoint_seconds = checkpoint_seconds
        self._lock: Any = None
        self._journals: dict[str, AppendFile] = {}
        self._assembler: Assembler | None = None
        self._in_step = False
        self._shown = output
        try:
            if overwrite:
                self._clear()
            self._begin(inputs, resume, overwrite)
        except BaseException:
            self._release()
            raise

    # Beginning and resuming.

    def _begin(self, inputs: list[Any], resume: bool, overwrite: bool) -> None:
        plan_path = os.path.join(self.state_folder, "plan.json")
        if os.path.exists(plan_path):
            if not resume:
                raise OutputError(
                    f"`{self._shown}` holds a run that was interrupted",
                    "continue it with --resume, or pass --overwrite",
                )
            self._take_lock()
            try:
                with open(plan_path, "rb") as file:
                    self.plan = Plan.from_json(file.read(), inputs)
                self.plan.check_same(inputs, self.settings, self.source, self._shown)
                self._restore()
            except CorpusError:
                raise
            except (
                ValueError,
                TypeError,
                LookupError,
                AttributeError,
                ArithmeticError,
                RecursionError,
            ) as error:
                raise self._damaged(f"{type(error).__name__}: {error}") from error
            return
        manifest = os.path.join(self.output, MANIFEST)
        if os.path.exists(manifest) and resume:
            self.report = read_report(self.output, inputs, self.settings, self.source, self._shown)
            return
        taken = os.path.isdir(self.output) and any(name != STATE for name in os.listdir(self.output))
        if taken and not overwrite:
            raise OutputError(
                f"the output folder is not empty: `{self._shown}`", "name a new one, or pass --overwrite"
            )
        plan = Plan.make(inputs, self.settings, self.source)
        with writing(self.output):
            os.makedirs(self.state_folder, exist_ok=True)
        self._take_lock()
        self.plan = plan
        write_whole(plan_path, plan.to_json())
        self._restore()

    def _clear(self) -> None:
        """Removes what an earlier run has left in the output folder, and nothing else."""
        manifest = os.path.join(self.output, MANIFEST)
        names = ["manifest.json", "rejects.jsonl", "summary.json", "report.html"]
        shards = os.path.join(self.state_folder, "shards")
        if os.path.exists(manifest):
            with contextlib.suppress(ValueError, KeyError, TypeError), open(manifest, "rb") as file:
                names += [part["name"] for shard in json.load(file)["shards"] for part in shard["files"]]
        elif os.path.exists(shards):
            with open(shards, "rb") as file:
                for line in file:
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        names += [part["name"] for part in json.loads(line)["files"]]
        for name in names:
            # A manifest is a file that anybody may have written: it names nothing outside its folder.
            if is_within(self.output, name):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(os.path.join(self.output, name))
        shutil.rmtree(self.state_folder, ignore_errors=True)

    def _damaged(self, reason: str) -> OutputError:
        return OutputError(
            f"the state of the run in `{self._shown}` is damaged: {reason}", "start anew with --overwrite"
        )

    def _take_lock(self) -> None:
        """Keeps other processes out, until this one ends in whatever way."""
        try:
            import fcntl
        except ImportError:  # not a POSIX system
            return
        with writing(self.state_folder):
            self._lock = open(os.path.join(self.state_folder, "lock"), "wb")  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(
                f"another run is writing to `{self._shown}`", "wait for it, or name another output"
            ) from None

    def _restore(self) -> None:
        checkpoint: dict[str, Any] | None = None
        path = os.path.join(self.state_folder, "checkpoint.json")
        if os.path.exists(path):
            with open(path, "rb") as file:
                checkpoint = json.load(file)
        self.phase = READ if checkpoint is None else checkpoint["phase"]
        if self.phase not in PHASES:
            raise self._damaged(f"there is no phase {self.phase!r}")
        self.position: dict[str, Any] = _start() if checkpoint is None else checkpoint["position"]
        if self.phase == READ:
            self.plan.check_inputs(self.position["unit"], self.position["block"])
        if checkpoint is not None:
            self._rename(checkpoint["renames"])
        lengths = dict.fromkeys(JOURNALS, 0) if checkpoint is None else checkpoint["journals"]
        for name in JOURNALS:
            self._journals[name] = AppendFile(os.path.join(self.state_folder, name), lengths[name])
        tokenizer = self.source.tokenizer
        pad_id = next((id for id in (tokenizer.pad_id, tokenizer.eos_id) if id is not None), 0)
        self._assembler = Assembler(
            self.settings,
            self.state_folder,
            token_dtype(self.settings.format, tokenizer.vocab_size),
            self.source.name,
            tokenizer.vocab_size,
            pad_id,
            self.plan.buckets,
            None if checkpoint is None else checkpoint["assembler"],
        )
        self._checkpointed = self._started = time.monotonic()
        self.progress.begin(
            sum(unit.stored for unit in self.plan.units),
            sum(unit.stored for unit in self.plan.units[: self.position["unit"]]),
            self.totals,
        )

    @property
    def assembler(self) -> Assembler:
        """The ordered part of the run."""
        assert self._assembler is not None
        return self._assembler

    @property
    def totals(self) -> Any:
        """What has been counted so far."""
        return self.assembler.totals

    @property
    def skip(self) -> Skip:
        """Where reading goes on."""
        unit = self.position["unit"]
        path = self.plan.inputs[self.plan.units[unit].input].path if unit < len(self.plan.units) else ""
        return Skip(unit, self.position["block"], self.position["chain"], path)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if self._assembler is not None and (
                error is not None
                and not self._in_step
                and self.phase == READ
                and not isinstance(error, OutputError)
            ):
                # Between two blocks, the state is whole: save the work since the last checkpoint.
                with contextlib.suppress(OutputError, OSError):
                    self._commit()
        finally:
            self._release()
            self.progress.end()
            if self.report is not None and error is None and os.path.isdir(self.state_folder):
                shutil.rmtree(self.state_folder, ignore_errors=True)

    def _release(self) -> None:
        """Closes all files."""
        if self._assembler is not None:
            self._assembler.close()
        for journal in self._journals.values():
            journal.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # Going on.

    def consume(self, blocks: Generator[TokenBlock, None, None]) -> None:
        """Takes all blocks from `skip` on, in order, and finishes the run."""
        if self.phase == READ:
            # Closed whatever happens: the threads behind it would keep the process alive.
            with contextlib.closing(blocks):
                for block in blocks:
                    self._apply(block)
            self._in_step = True
            self._end_inputs(len(self.plan.inputs))
            self._in_step = False
            self.position = {**self.position, "unit": len(self.plan.units), "block": 0, "place": [0, 0, 0]}
            self._commit(PLACE if self.settings.shuffle else FINISH)
        self._in_step = True  # from here on, only whole steps are committed
        if self.phase == PLACE:
            for place in self.assembler.shuffled(*self.position["place"]):
                self.position["place"] = place
                self._commit_if_due()
            self._commit(FINISH)
        if self.phase == FINISH:
            self.assembler.finish()
            self._commit(INDEX)
        if self.phase == INDEX:
            self.assembler.finish_indexes(self._records("shards"))
            self._commit(REPORT)
        self.totals.elapsed += time.monotonic() - self._started
        self._started = time.monotonic()
        for journal in self._journals.values():
            journal.close()
        self.report = write_results(
            self.output,
            self.plan,
            self.source,
            self.totals,
            self.assembler.left_over,
            os.path.join(self.state_folder, "inputs"),
            os.path.join(self.state_folder, "shards"),
            os.path.join(self.state_folder, "rejects"),
        )

    def _apply(self, block: TokenBlock) -> None:
        position = self.position
        unit = self.plan.units[block.unit]
        item = self.plan.inputs[unit.input]
        if self.settings.strict and block.rejects:
            first = min(block.rejects, key=lambda reject: reject.line)
            base = position["lines"] if unit.input == position["input"] else 0
            raise RejectedError(
                f"{_place(item, base + first.line)}: {first.reason}",
                "without --strict, such documents go to the reject file; the run can be resumed",
            )
        self._in_step = True
        if unit.input != position["input"]:
            self._end_inputs(unit.input)
        self._write_rejects(block, item)
        counts = self.assembler.apply(block)
        for name, count in counts.items():
            position["counts"][name] += count
        position["lines"] += block.lines
        chain = position["chain"] if block.unit == position["unit"] and block.index else 0
        position.update(unit=block.unit, block=block.index + 1, chain=chained(chain, block.signature))
        self._in_step = False
        self.progress.update(block.unit, self.plan.units, block.stored, self.totals)
        self._commit_if_due()

    def _write_rejects(self, block: TokenBlock, item: Input) -> None:
        if not block.rejects:
            return
        lines = []
        for reject in sorted(block.rejects, key=lambda reject: reject.line):
            number = self.position["lines"] + reject.line + 1
            record = {"source": item.path, _unit_name(item): number, "reason": reject.reason}
            if reject.excerpt:
                record["excerpt"] = reject.excerpt
            lines.append(json.dumps(record, ensure_ascii=False) + "\n")
        self._journals["rejects"].write("".join(lines).encode("utf-8", "replace"))

    def _end_inputs(self, next_input: int) -> None:
        """Keeps the records of the inputs before `next_input`, and begins with that one."""
        for number in range(self.position["input"], next_input):
            item = self.plan.inputs[number]
            counts = (
                self.position["counts"] if number == self.position["input"] else dict.fromkeys(COUNTERS, 0)
            )
            record = {
                "path": item.path,
                "argument": item.argument,
                "kind": item.kind,
                "bytes": item.size,
                **counts,
            }
            self._journals["inputs"].write((json.dumps(record) + "\n").encode())
        self.position.update(input=next_input, lines=0, counts=dict.fromkeys(COUNTERS, 0))

    def _records(self, journal: str) -> list[dict[str, Any]]:
        with open(self._journals[journal].path, "rb") as file:
            return [json.loads(line) for line in file]

    # Keeping the state.

    def _commit_if_due(self) -> None:
        if self.assembler.finished or time.monotonic() - self._checkpointed >= self._checkpoint_seconds:
            self._commit()

    def _commit(self, phase: str | None = None) -> None:
        """Makes all that was done up to now last, and gives finished shards their names."""
        # Broken off in the middle, this must not be done again: the journals would hold records twice.
        whole, self._in_step = not self._in_step, True
        now = time.monotonic()
        self.totals.elapsed += now - self._started
        self._started = now
        finished = list(self.assembler.finished)
        for shard in finished:
            self._journals["shards"].write((json.dumps(shard.record()) + "\n").encode())
        state = self.assembler.state()
        self.assembler.sync()
        for journal in self._journals.values():
            journal.sync()
        renames = [
            [os.path.basename(file.temporary), file.name] for shard in finished for file in shard.files
        ]
        self.phase = phase or self.phase
        checkpoint = {
            "phase": self.phase,
            "position": self.position,
            "assembler": state,
            "journals": {name: journal.length for name, journal in self._journals.items()},
            "renames": renames,
        }
        write_whole(os.path.join(self.state_folder, "checkpoint.json"), json.dumps(checkpoint).encode())
        self._rename(renames)
        for shard in finished:
            self._remove_spools(shard.split, shard.number)
        self.assembler.finished.clear()
        self._checkpointed = time.monotonic()
        self._in_step = not whole

    def _rename(self, renames: list[list[str]]) -> None:
        for temporary, name in renames:
            # The state is a file that anybody may have written, as a manifest is.
            if os.path.basename(temporary) != temporary or not is_within(self.output, name):
                raise self._damaged(f"it would move {temporary!r} to {name!r}")
            rename(os.path.join(self.state_folder, temporary), os.path.join(self.output, name))
        if renames:
            sync_folder(self.output)

    def _remove_spools(self, split: str, shard: int) -> None:
        prefix = f"{split}-{shard:05d}."
        for name in os.listdir(self.state_folder):
            if name.startswith(prefix):
                os.unlink(os.path.join(self.state_folder, name))


def _start() -> dict[str, Any]:
    return {
        "unit": 0, "block": 0, "chain": 0, "input": 0, "lines": 0, "counts": dict.fromkeys(COUNTERS, 0),
        "place": [0, 0, 0],
    }  # fmt: skip


def _unit_name(item: Input) -> str:
    return "line" if item.kind in ("jsonl", "lines") else "document" if item.kind == "text" else "row"


def _place(item: Input, number: int) -> str:
    return f"`{item.path}`, {_unit_name(item)} {number + 1}"
