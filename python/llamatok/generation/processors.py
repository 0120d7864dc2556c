"""What changes the logits of a step: functions from (ids so far, scores) to scores.

`ids` is int64 of shape (rows, length), the prompt included; `scores` is float32 of shape (rows, vocabulary).
Each equals the processor of that purpose in transformers 5.x, which the tests compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llamatok.generation.config import GenerationConfig, GenerationConfigError

__all__ = [
    "LogitsProcessor",
    "LogitsProcessorList",
    "begin_suppress_tokens",
    "build_processors",
    "epsilon_cutoff",
    "eta_cutoff",
    "forced_bos",
    "forced_eos",
    "min_length",
    "min_p",
    "no_bad_words",
    "no_repeat_ngram",
    "remove_invalid_values",
    "renormalize",
    "repetition_penalty",
    "sequence_bias",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
]

LogitsProcessor = Callable[[Tensor, Tensor], Tensor]

NEVER = -math.inf


class LogitsProcessorList(list[LogitsProcessor]):
    """Processors that run one after the other."""

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        for process in self:
            scores = process(ids, scores)
        return scores


def temperature(value: float) -> LogitsProcessor:
    """Divides the scores: above 1 flatter, below 1 sharper."""
    return lambda ids, scores: scores / value


def top_k(k: int, keep: int = 1) -> LogitsProcessor:
    """Keeps the `k` highest scores of each row, and what equals the last of them; at least `keep`."""
    k = max(k, keep)

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        least = torch.topk(scores, min(k, scores.shape[-1])).values[..., -1, None]
        return scores.masked_fill(scores < least, NEVER)

    return process


def top_p(p: float, keep: int = 1) -> LogitsProcessor:
    """Keeps the fewest tokens whose probabilities sum up to `p` (Holtzman et al. 2019); at least `keep`."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        ascending, order = torch.sort(scores, descending=False)
        drop = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
        drop[..., -keep:] = False
        return scores.masked_fill(drop.scatter(1, order, drop), NEVER)

    return process


def min_p(p: float, keep: int = 1) -> LogitsProcessor:
    """Drops tokens less probable than `p` times the most probable one; keeps at least `keep`."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        probabilities = scores.softmax(dim=-1)
        drop = probabilities < p * probabilities.amax(dim=-1, keepdim=True)
        best = probabilities.topk(min(keep, scores.shape[-1]), dim=-1).indices
        return scores.masked_fill(drop.scatter(-1, best, False), NEVER)

    return process


def typical_p(mass: float, keep: int = 1) -> LogitsProcessor:
    """Keeps the tokens whose information is nearest to the entropy (Meister et al. 2022)."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        logs = scores.log_softmax(dim=-1)
        entropy = -(logs * logs.exp()).nansum(-1, keepdim=True)
        distance, order = torch.sort((-logs - entropy).abs(), descending=False)
        reached = scores.gather(-1, order).softmax(dim=-1).cumsum(dim=-1)
        last = (reached < mass).sum(dim=1).clamp_(max=scores.shape[-1] - 1)
        drop = distance > distance.gather(1, last[:, None])
        drop[..., :keep] = False
        return scores.masked_fill(drop.scatter(1, order, drop), NEVER)

    return process


def epsilon_cutoff(epsilon: float, keep: int = 1) -> LogitsProcessor:
    """Drops tokens less probable than `epsilon` (Hewitt et al. 2022); keeps at least `keep`."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        return _drop_improbable(scores, scores.softmax(dim=-1) < epsilon, keep)

    return process


def eta_cutoff(epsilon: float, keep: int = 1) -> LogitsProcessor:
    """As `epsilon_cutoff`, the bound falling with the entropy (Hewitt et al. 2022)."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        probabilities = scores.softmax(dim=-1)
        logs = scores.log_softmax(dim=-1)
        entropy = -(logs * probabilities).nansum(-1)
        eta = (math.sqrt(epsilon) * torch.exp(-entropy)).clamp(max=epsilon)[..., None]
        return _drop_improbable(scores, probabilities < eta, keep)

    return process


def _drop_improbable(scores: Tensor, drop: Tensor, keep: int) -> Tensor:
    least = scores.topk(min(keep, scores.shape[-1])).values[..., -1, None]
    return scores.masked_fill(drop & (scores < least), NEVER)


def repetition_penalty(penalty: float, padding: Tensor | None = None) -> LogitsProcessor:
    """Makes tokens of the text so far less likely (Keskar et al. 2019).

    `padding` (int64, one number a row) is how many tokens on the left of each row are padding.
    """

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        seen = ids
        if padding is not None:
            # The padding counts as a token beyond the vocabulary, which is cut off below.
            places = torch.arange(ids.shape[1], device=ids.device)
            seen = ids.masked_fill(places < padding[:, None], scores.shape[-1])
        wider = torch.zeros((scores.shape[0], scores.shape[-1] + 1), dtype=torch.bool, device=scores.device)
        there = wider.scatter_(1, seen, True)[:, :-1]
        changed = torch.where(scores < 0, scores * penalty, scores / penalty)
        return torch.where(there, changed, scores)

    return process


def no_repeat_ngram(size: int) -> LogitsProcessor:
    """Forbids tokens that would end an n-gram of `size` tokens that the row already has."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        length = ids.shape[1]
        if length + 1 < size:
            return scores
        windows = ids.unfold(1, size, 1)  # (rows, windows, size)
        start = length + 1 - size
        matches = (windows[..., :-1] == ids[:, None, start:]).all(dim=-1)
        rows, places = matches.nonzero(as_tuple=True)
        if not len(rows):
            return scores
        scores = scores.clone()
        scores[rows, windows[rows, places, -1]] = NEVER
        return scores

    return process


def sequence_bias(biases: Mapping[tuple[int, ...], float]) -> LogitsProcessor:
    """Adds a number to the score of the token that would complete a sequence."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        bias = torch.zeros_like(scores)
        for sequence, value in biases.items():
            *prefix, last = sequence
            if last >= scores.shape[-1]:
                raise GenerationConfigError(
                    f"a biased or forbidden sequence holds id {last}:"
                    f" the vocabulary has {scores.shape[-1]} tokens"
                )
            if len(prefix) > ids.shape[1]:
                continue
            if prefix:
                end = torch.tensor(prefix, device=ids.device)
                matches = (ids[:, ids.shape[1] - len(prefix) :] == end).all(dim=-1)
                bias[matches, last] += value
            else:
                bias[:, last] += value
        return scores + bias

    return process


def no_bad_words(bad_words_ids: Sequence[Sequence[int]], eos: Iterable[int] = ()) -> LogitsProcessor:
    """Forbids sequences of tokens; the end of sequence is never forbidden."""
    ends = {(id,) for id in eos}
    return sequence_bias({tuple(ids): NEVER for ids in bad_words_ids if tuple(ids) not in ends})


def suppress_tokens(forbidden: Iterable[int]) -> LogitsProcessor:
    """Forbids tokens."""
    columns = list(forbidden)

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        kept = [id for id in columns if id < scores.shape[-1]]
        return scores.index_fill(1, torch.tensor(kept, dtype=torch.int64, device=scores.device), NEVER)

    return process


def begin_suppress_tokens(forbidden: Iterable[int], begin: int) -> LogitsProcessor:
    """Forbids tokens at the first step, where the text has `begin` tokens."""
    suppress = suppress_tokens(forbidden)
    return lambda ids, scores: suppress(ids, scores) if ids.shape[1] == begin else scores


def min_length(length: int, eos: Iterable[int]) -> LogitsProcessor:
    """Forbids the end of sequence while the text, prompt included, has fewer than `length` tokens."""
    suppress = suppress_tokens(eos)
    return lambda ids, scores: suppress(ids, scores) if ids.shape[1] < length else scores


def forced_bos(id: int) -> LogitsProcessor:
    """Makes the second token of the text `id`."""
    return lambda ids, scores: _forced(scores, [id]) if ids.shape[1] == 1 else scores


def forced_eos(max_length: int, eos: Iterable[int]) -> LogitsProcessor:
    """Makes the last token of a text of `max_length` tokens one of `eos`."""
    forced = list(eos)
    return lambda ids, scores: _forced(scores, forced) if ids.shape[1] == max_length - 1 else scores


def _forced(scores: Tensor, ids: list[int]) -> Tensor:
    out = torch.full_like(scores, NEVER)
    out[:, ids] = 0
    return out


def remove_invalid_values() -> LogitsProcessor:
    """NaN becomes 0, and infinities the greatest and least finite numbers."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        limits = torch.finfo(scores.dtype)
        return torch.nan_to_num(scores, nan=0.0, posinf=limits.max, neginf=limits.min)

    return process


def renormalize() -> LogitsProcessor:
    """Turns the scores back into logarithms of probabilities."""
    return lambda ids, scores: scores.log_softmax(dim=-1)


def build_processors(
    config: GenerationConfig,
    prompt_length: int,
    max_length: int,
    mask: Tensor | None = None,
    custom: Iterable[LogitsProcessor] = (),
) -> LogitsProcessorList:
    """The processors that a configuration asks for, in the order of transformers 5.x.

    Args:
        prompt_length: tokens of the prompt, padding included.
        max_length: the greatest length of the text, prompt included.
        mask: the attention mask of the prompt (rows, prompt_length), where something is padded.
        custom: processors of the caller; they come before those of sampling.
    """
    eos = config.eos_token_ids
    found = LogitsProcessorList()
    if config.sequence_bias is not None:
        found.append(sequence_bias(bias_mapping(config.sequence_bias)))
    if config.repetition_penalty != 1.0:
        padding = None if mask is None else (mask != 0).int().argmax(dim=1)
        found.append(repetition_penalty(config.repetition_penalty, padding))
    if config.no_repeat_ngram_size:
        found.append(no_repeat_ngram(config.no_repeat_ngram_size))
    if config.bad_words_ids is not None:
        found.append(no_bad_words(config.bad_words_ids, eos))
    least = max(config.min_length, prompt_length + (config.min_new_tokens or 0))
    if eos and least > prompt_length:
        found.append(min_length(least, eos))
    if config.forced_bos_token_id is not None:
        found.append(forced_bos(config.forced_bos_token_id))
    if config.forced_eos_token_id is not None:
        ends = config.forced_eos_token_id
        found.append(forced_eos(max_length, [ends] if isinstance(ends, int) else ends))
    if config.remove_invalid_values:
        found.append(remove_invalid_values())
    if config.suppress_tokens is not None:
        found.append(suppress_tokens(config.suppress_tokens))
    if config.begin_suppress_tokens is not None:
        found.append(begin_suppress_tokens(config.begin_suppress_tokens, prompt_length))
    found.extend(custom)
    if config.do_sample:
        found.extend(_sampling(config, keep=1 + max(1, len(eos)) if config.num_beams > 1 else 1))
    if config.renormalize_logits:
        found.append(renormalize())
    return found


def _sampling(config: GenerationConfig, keep: int) -> Iterable[LogitsProcessor]:
    if config.temperature != 1.0:
        yield temperature(config.temperature)
    if config.top_k:
        yield top_k(config.top_k, keep)
    if config.top_p < 1.0:
        yield top_p(config.top_p, keep)
    if config.min_p is not None:
        yield min_p(config.min_p, keep)
    if config.typical_p < 1.0:
        yield typical_p(config.typical_p, keep)
    if 0.0 < config.epsilon_cutoff < 1.0:
        yield epsilon_cutoff(config.epsilon_cutoff, keep)
    if 0.0 < config.eta_cutoff < 1.0:
        yield eta_cutoff(config.eta_cutoff, keep)


def bias_mapping(
    biases: Mapping[tuple[int, ...], float] | list[list[Any]],
) -> Mapping[tuple[int, ...], float]:
    """`sequence_bias` of a configuration as a mapping."""
    if isinstance(biases, Mapping):
        return biases
    return {tuple(sequence): float(value) for sequence, value in biases}
