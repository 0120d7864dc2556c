"""Many machines: Ray Data reads and tokenizes, and the caller puts the results together in order.

Each unit of work is a row of a Ray dataset. Actors that hold the tokenizer turn units into blocks of tokens,
which come back in the order of the input; what a lost machine was working on, Ray gives to another. The
caller writes exactly as `llamatok.corpus.tokenize` does, so shards and manifest are the same bytes, an
interrupted run is resumed in the same way, and either of the two may go on with what the other has begun.

Inputs must be readable from every machine under the same name. Needs the extra ``llamatok[ray]``.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Generator, Iterator
from typing import Any

from llamatok.corpus.api import make_settings, tokenize_arguments
from llamatok.corpus.documents import TokenBlock
from llamatok.corpus.errors import CorpusError
from llamatok.corpus.inputs import as_list
from llamatok.corpus.local import raw_blocks
from llamatok.corpus.plan import Plan
from llamatok.corpus.progress import Progress, progress_for
from llamatok.corpus.report import Report
from llamatok.corpus.run import Run, Skip
from llamatok.corpus.tokenizers import TokenizerSource
from llamatok.corpus.work import Worker

try:
    import ray
except ImportError as _error:
    raise ImportError(f"llamatok.corpus.ray needs ray ({_error}): pip install 'llamatok[ray]'") from _error

__all__ = ["tokenize"]

#: Units of a row group of work: as many tasks as Ray handles with ease.
MOST_TASKS = 20_000


def tokenize(
    inputs: Any,
    output: str | os.PathLike[str],
    *,
    address: str | None = None,
    workers: int | None = None,
    cpus_per_worker: float = 1.0,
    tokenizer: Any = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: bool | Progress | None = None,
    checkpoint_seconds: float = 5.0,
    **settings: Any,
) -> Report:
    """Tokenize corpora into shards on a Ray cluster.

    Args:
        inputs: As for `llamatok.corpus.tokenize`; readable from all machines.
        output: A folder of the machine that calls.
        address: The cluster to join ("auto": the one that this machine belongs to). Without it, the cluster
            that Ray is connected to, or a new one on this machine.
        workers: The most actors at a time; by default as many as the cluster has processors.
        cpus_per_worker: The processors that Ray keeps for an actor.
        tokenizer, resume, overwrite, progress, checkpoint_seconds: As for `llamatok.corpus.tokenize`.
        **settings: The other arguments of `llamatok.corpus.tokenize`, from `format` to `block_size`.

    Returns:
        The same report.

    Raises:
        CorpusError: As there.
        ConnectionError: There is no cluster at `address`.
    """
    chosen = make_settings(tokenize_arguments(settings))
    source = TokenizerSource.of(tokenizer)
    Worker(source, chosen)  # whether the tokenizer has the tokens that are asked for
    if address is not None or not ray.is_initialized():
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    count = workers or max(1, int(_processors() / cpus_per_worker))
    view = progress if isinstance(progress, Progress) else progress_for(progress)
    run = Run(as_list(inputs), os.fspath(output), source, chosen, resume, overwrite, checkpoint_seconds, view)
    with run:
        if run.report is None:
            run.consume(_token_blocks(run.plan, source, run.skip, count, cpus_per_worker))
    assert run.report is not None
    return run.report


def _processors() -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU", 1.0)


class _UnitTokenizer:
    """An actor: units in, blocks of tokens out."""

    def __init__(self, plan: Any, source: Any) -> None:
        self._plan: Plan = ray.get(plan)
        self._worker = Worker(ray.get(source), self._plan.settings)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for row, skip in zip(batch["unit"].tolist(), batch["skip"].tolist(), strict=True):
            unit = self._plan.units[row]
            passed = pickle.loads(skip) if skip else None
            try:
                for number, raw, seconds in raw_blocks(self._plan, unit, passed):
                    yield _row(self._worker(unit.index, number, raw, seconds))
            except Exception as error:
                # An exception here would be retried, and at last be wrapped in Ray's own: it travels as a
                # row.
                yield _row(error)
                return


def _row(value: TokenBlock | Exception) -> dict[str, Any]:
    return {"block": [pickle.dumps(value, protocol=5)]}


def _token_blocks(
    plan: Plan, source: TokenizerSource, skip: Skip, workers: int, cpus: float
) -> Generator[TokenBlock, None, None]:
    """All blocks from `skip` on, tokenized on the cluster, in order."""
    units = plan.units[skip.unit :]
    if not units:
        return
    rows = [
        {"unit": unit.index, "skip": pickle.dumps(skip) if unit.index == skip.unit and skip.blocks else b""}
        for unit in units
    ]
    plan_reference, source_reference = ray.put(plan), ray.put(source)
    context = ray.data.DataContext.get_current()
    ordered, bars = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    try:
        dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), MOST_TASKS)).map_batches(
            _UnitTokenizer,
            fn_constructor_args=(plan_reference, source_reference),
            batch_size=1,
            batch_format="numpy",
            zero_copy_batch=True,
            concurrency=(1, max(1, min(workers, len(rows)))),
            num_cpus=cpus,
        )
        for row in dataset.iter_rows():
            value = pickle.loads(row["block"])
            if isinstance(value, Exception):
                raise value
            yield value
    except ray.exceptions.RayError as error:
        raise CorpusError(f"the Ray cluster failed: {error}", "the run can be resumed") from error
    finally:
        context.execution_options.preserve_order = ordered
        context.enable_progress_bars = bars
