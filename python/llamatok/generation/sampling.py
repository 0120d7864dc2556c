"""Greedy search and sampling: one token of every row a step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from llamatok.generation.state import State, without_choice

__all__ = ["steps"]

#: On a GPU, how many steps go by between two looks at whether all rows are finished: each look waits for the
#: device. Steps too many only add padding, which is cut off.
_STEPS_UNSEEN = 16


def steps(state: State, times: int = 1) -> Iterator[Tensor]:
    """Generates until every row is finished; each step gives its tokens, int64 of shape (rows,).

    A finished row goes on with padding. With `times`, each prompt runs once and is gone on with that often.

    Raises:
        ValueError: a row has no token to choose. On a GPU that is told at the end: to look costs a wait.
    """
    logits = state.forward(keep=1)[:, -1]
    if times > 1:
        logits = logits.repeat_interleave(times, dim=0)
        state.repeat(times)
    finished = torch.zeros(state.rows, dtype=torch.bool, device=state.ids.device)
    unseen = 0
    ends_early = len(state.stopping) > 1
    lazy = state.ids.device.type != "cpu"
    impossible = torch.zeros_like(finished)
    lengths = torch.full_like(finished, state.length, dtype=torch.int64)
    while True:
        scores = state.processed(logits)
        impossible = impossible | (without_choice(scores) & ~finished)
        if not lazy:
            state.check_choice(impossible)
        tokens = state.choose(scores)
        if ends_early:
            tokens = torch.where(finished, state.pad_id, tokens)
            lengths += ~finished
        state.append(tokens)
        yield tokens
        if state.length >= state.max_length:
            break
        if ends_early:
            finished = finished | state.stopping(state.text, state.records.scores)
            unseen += 1
            if (not lazy or unseen >= _STEPS_UNSEEN) and bool((finished | impossible).all()):
                break
            unseen %= _STEPS_UNSEEN
        logits = state.forward(keep=1)[:, -1]
    state.check_choice(impossible)
    if ends_early and lazy:
        _cut(state, int(lengths.max()))


def _cut(state: State, length: int) -> None:
    """Takes back the steps after the last row was finished."""
    taken_back = state.length - length
    if taken_back <= 0:
        return
    state.length = length
    for records in (state.records.scores, state.records.logits):
        if records is not None:
            del records[len(records) - taken_back :]
