"""Beam search, with or without sampling.

The rules are those of transformers 5.x, so that its texts come out: more continuations than beams are looked
at, finished ones leave the live beams, scores are divided by a power of the generated length when a text is
finished.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from llamatok.generation.state import State, without_choice

__all__ = ["BeamResult", "search"]

#: Stands for "cannot win": so low that no real score comes near, so high that adding to it keeps its rank.
_OUT = -1.0e9


@dataclass
class BeamResult:
    """The best texts.

    Attributes:
        sequences: int64 of shape (batch * num_return_sequences, length).
        scores: float32, one a sequence, falling within a batch item.
        indices: int32 of shape (batch * num_return_sequences, generated): the row that each token was chosen
            from, -1 after the end.
    """

    sequences: Tensor
    scores: Tensor
    indices: Tensor


@dataclass
class _Beams:
    """Texts of each batch item: ids (batch, n, max_length), scores and row of origin per token."""

    ids: Tensor
    scores: Tensor
    rows: Tensor

    def pick(self, scores: Tensor, count: int) -> tuple[_Beams, Tensor]:
        """The `count` texts with the best of `scores`, and their indices (batch, count)."""
        best = scores.topk(count, dim=1)
        return _Beams(
            _take(self.ids, best.indices), best.values, _take(self.rows, best.indices)
        ), best.indices


def _take(values: Tensor, indices: Tensor) -> Tensor:
    indices = indices.reshape(indices.shape + (1,) * (values.dim() - 2))
    return values.take_along_dim(indices, dim=1)


def search(state: State) -> BeamResult:
    """Runs beam search; `state` has one row a batch item when it begins."""
    config, prompt, device = state.config, state.prompt_length, state.ids.device
    batch, count, most = state.rows, config.num_beams, state.max_length
    looked_at = max(2, 1 + len(config.eos_token_ids)) * count
    among_best = torch.arange(looked_at, device=device) < count

    logits = state.forward(keep=1)[:, -1].repeat_interleave(count, dim=0)
    state.repeat(count)
    fill = config.pad_token_id or (config.eos_token_ids or [-1])[0]
    state.ids[:, state.length :] = fill
    live = _Beams(
        state.ids.view(batch, count, most).clone(),
        # All beams begin alike: only the first may be gone on with.
        torch.full((batch, count), _OUT, device=device).index_fill_(1, torch.tensor([0], device=device), 0.0),
        torch.full((batch, count, most - prompt), -1, dtype=torch.int32, device=device),
    )
    done = _Beams(live.ids.clone(), torch.full((batch, count), _OUT, device=device), live.rows.clone())
    complete = torch.zeros((batch, count), dtype=torch.bool, device=device)
    open_ = torch.ones((batch, 1), dtype=torch.bool, device=device)
    first_row = torch.arange(batch, device=device)[:, None] * count

    while True:
        length = state.length
        scores = state.processors(state.text, logits.log_softmax(dim=-1))
        if state.records.logits is not None:
            state.records.logits.append(logits.clone())
        if state.records.scores is not None:
            state.records.scores.append(scores.clone())
        totals = (scores.view(batch, count, -1) + live.scores[:, :, None]).view(batch, -1)
        # A beam without a token to go on with ends; the last one of an item must have finished texts instead.
        state.check_choice(without_choice(totals) & ~complete.any(dim=1))
        if config.do_sample:
            chosen = totals.softmax(dim=-1).multinomial(looked_at, generator=state.generator)
            totals = totals.gather(1, chosen)
        else:
            totals, chosen = totals.topk(looked_at)
        vocabulary = scores.shape[-1]
        origin = chosen // vocabulary
        nexts = _Beams(_take(live.ids, origin), totals, _take(live.rows, origin))
        nexts.ids[:, :, length] = chosen % vocabulary
        nexts.rows[:, :, length - prompt] = (origin + first_row).to(torch.int32)
        ended = state.stopping(nexts.ids[:, :, state.hidden : length + 1].flatten(0, 1), state.records.scores)
        ended = ended.view(batch, looked_at)

        live, _ = nexts.pick(totals + ended * _OUT, count)
        done, complete = _finish(
            state, done, complete, nexts, newly=ended & among_best, open_=open_, length=length
        )

        state.length += 1
        state.ids[:, : state.length] = live.ids[:, :, : state.length].flatten(0, 1)
        open_ = open_ & _may_improve(state, live, done, complete)
        full = bool(complete.all()) and config.early_stopping is True
        if not bool(open_.any()) or full or bool(ended.all()):
            break
        if state.cache is not None:
            state.cache.reorder_cache(live.rows[:, :, length - prompt].flatten().long())
        logits = state.forward(keep=1)[:, -1]

    kept = config.num_return_sequences
    rows = done.rows[:, :kept].flatten(0, 1)
    generated = int((rows >= 0).sum(dim=1).max())
    return BeamResult(
        done.ids[:, :kept, : prompt + generated].flatten(0, 1),
        done.scores[:, :kept].flatten(),
        rows[:, :generated],
    )


def _finish(
    state: State, done: _Beams, complete: Tensor, nexts: _Beams, newly: Tensor, open_: Tensor, length: int
) -> tuple[_Beams, Tensor]:
    """The best finished texts, with those that finish at this step."""
    config = state.config
    scores = nexts.scores / _power(length + 1 - state.prompt_length, config.length_penalty)
    full = complete.all(dim=1, keepdim=True) & (config.early_stopping is True)
    scores = scores + (full.float() + (~open_).float() + (~newly).float()) * _OUT
    merged = _Beams(
        torch.cat((done.ids, nexts.ids), dim=1),
        torch.cat((done.scores, scores), dim=1),
        torch.cat((done.rows, nexts.rows), dim=1),
    )
    best, indices = merged.pick(merged.scores, config.num_beams)
    return best, torch.cat((complete, newly), dim=1).take_along_dim(indices, dim=1)


def _power(length: int, penalty: float) -> float:
    try:
        return float(length**penalty)
    except OverflowError:  # as torch has it
        return math.inf


def _may_improve(state: State, live: _Beams, done: _Beams, complete: Tensor) -> Tensor:
    """Whether the best live text could still beat the worst finished one: bool of shape (batch, 1)."""
    config = state.config
    longest = config.early_stopping == "never" and config.length_penalty > 0.0
    length = (state.max_length if longest else state.length) - state.prompt_length
    hoped_for = live.scores[:, :1] / _power(length, config.length_penalty)
    worst = torch.where(complete, done.scores.min(dim=1, keepdim=True).values, _OUT)
    better: Tensor = (hoped_for > worst).any(dim=-1, keepdim=True)
    return better
