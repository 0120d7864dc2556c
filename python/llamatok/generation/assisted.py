"""Speculative decoding: a cheap draft of several tokens, which the model checks in one go.

The text is that of plain greedy search; when sampling, its distribution is that of plain sampling (Leviathan
et al. 2022, algorithm 1). Drafts come from the text itself (prompt look-up: what followed the last few tokens
earlier) or from a smaller model with the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from llamatok.generation.processors import LogitsProcessorList
from llamatok.generation.state import State, draw, without_choice

__all__ = ["Drafter", "ModelDrafter", "PromptLookup", "steps"]


class Drafter(Protocol):
    """Proposes how a text goes on."""

    def propose(self, text: Tensor, most: int) -> tuple[Tensor, Tensor | None]:
        """At most `most` tokens after `text` (int64 of shape (1, length)).

        Returns:
            The tokens, int64 of shape (n,), n may be 0; and the probabilities they were drawn by, float32 of
            shape (n, vocabulary), or None where they were not drawn.
        """

    def accepted(self, count: int, proposed: int) -> None:
        """Tells how many of the proposed tokens were right."""


class PromptLookup:
    """What followed the last few tokens where they stood first (transformers' prompt look-up decoding).

    Args:
        tokens: how many tokens are proposed.
        ngram: the greatest number of last tokens to look for.
    """

    def __init__(self, tokens: int, ngram: int) -> None:
        self._tokens = tokens
        self._ngram = ngram

    def propose(self, text: Tensor, most: int) -> tuple[Tensor, None]:
        """The tokens after the earliest place that ends like the text, longer likeness first."""
        row = text[0]
        for size in range(min(self._ngram, len(row) - 1), 0, -1):
            windows = row.unfold(0, size, 1)[:-1]
            places = (windows == row[-size:]).all(dim=1).nonzero()
            if len(places):
                begin = int(places[0]) + size
                return row[begin : begin + min(self._tokens, most)], None
        return row[:0], None

    def accepted(self, count: int, proposed: int) -> None:
        """Learns nothing."""


class ModelDrafter:
    """A smaller model's own continuation, cut where it is not sure enough.

    Args:
        model: shares the vocabulary of the model that it helps.
        cache: an empty cache that can be cropped.
        processors: those of the helped model, so that the draft follows the same rules.
        sampled: whether tokens are drawn; the best ones otherwise.
        tokens: how many tokens are proposed.
        confidence: a token of less probability ends the draft (only where nothing is drawn: a draw that is
            cut by its outcome would change the distribution).
    """

    def __init__(
        self,
        model: Any,
        cache: Any,
        processors: LogitsProcessorList,
        *,
        sampled: bool,
        tokens: int,
        confidence: float,
        generator: torch.Generator | None = None,
    ) -> None:
        self._model = model
        self._cache = cache
        self._processors = processors
        self._sampled = sampled
        self._tokens = tokens
        self._confidence = confidence
        self._generator = generator
        self._cached = 0

    def propose(self, text: Tensor, most: int) -> tuple[Tensor, Tensor | None]:
        """Runs the small model for a few tokens."""
        ids = text
        probabilities = []
        count = min(self._tokens, most)
        while ids.shape[1] - text.shape[1] < count:
            output = self._model(
                input_ids=ids[:, self._cached :],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
                return_dict=True,
            )
            self._cached = ids.shape[1]
            chances = self._processors(ids, output.logits[:, -1].float()).softmax(dim=-1)
            token = draw(chances, self._generator) if self._sampled else chances.argmax(dim=-1)
            ids = torch.cat((ids, token[:, None]), dim=1)
            if self._sampled:
                probabilities.append(chances[0])
            elif float(chances[0, token[0]]) < self._confidence:
                break
        drafted = ids[0, text.shape[1] :]
        return drafted, torch.stack(probabilities) if probabilities else None

    def accepted(self, count: int, proposed: int) -> None:
        """Forgets the tokens that were wrong."""
        # The last one was proposed, but not run.
        if proposed and (wrong := max(0, proposed - 1 - count)):
            self._cached -= wrong
            self._cache.crop(-wrong)


def steps(state: State, drafter: Drafter) -> Iterator[Tensor]:
    """Generates one row; each step gives the tokens that came out of it, int64 of shape (1, n)."""
    ends = torch.tensor(state.config.eos_token_ids, device=state.ids.device)
    while True:
        begin = state.length
        drafted, chances = drafter.propose(state.text, state.max_length - begin - 1)
        state.append(drafted[None])
        logits = state.forward(keep=len(drafted) + 1)[0]
        scores = torch.cat(
            [
                state.processed(logits[i : i + 1], state.ids[:, state.hidden : begin + i])
                for i in range(len(drafted) + 1)
            ]
        )
        # What comes after a wrong draft is not chosen, so it need not have a choice.
        impossible = without_choice(scores)
        tokens, right = _verify(state, drafted, chances, scores)
        state.check_choice(impossible[: len(tokens)].any(dim=0, keepdim=True))
        stops = torch.isin(tokens, ends).nonzero() if len(ends) else tokens[:0]
        if len(stops):
            tokens = tokens[: int(stops[0]) + 1]
        # Other criteria look at a text after each token.
        finished = False
        for count in range(1, len(tokens) + 1):
            state.ids[0, begin + count - 1] = tokens[count - 1]
            if bool(state.stopping(state.ids[:, state.hidden : begin + count], state.records.scores).all()):
                tokens, finished = tokens[:count], True
                break
        state.length = begin + len(tokens)
        _forget(state, begin, len(drafted), len(tokens))
        drafter.accepted(min(right, len(tokens)), len(drafted))
        yield tokens[None]
        if finished or state.length >= state.max_length:
            return


def _forget(state: State, begin: int, drafted: int, kept: int) -> None:
    """Takes back what the model saw beyond the kept tokens; the last of those it has not seen yet."""
    surplus = drafted + 1 - kept
    if not surplus:
        return
    state.cached -= surplus
    state.cache.crop(-surplus)
    for records in (state.records.scores, state.records.logits):
        if records is not None:
            del records[-surplus:]


def _verify(state: State, drafted: Tensor, chances: Tensor | None, scores: Tensor) -> tuple[Tensor, int]:
    """The tokens of a step, and how many of them were drafted; `scores` has a row more than the draft."""
    count = len(drafted)
    if chances is None:
        # Each place by itself: the draft is right as long as the model chooses the same.
        chosen = state.choose(scores)
        right = int((chosen[:count] == drafted).long().cumprod(dim=0).sum())
        return chosen[: right + 1], right
    model = scores.softmax(dim=-1)
    places = torch.arange(count, device=drafted.device)
    ratio = model[places, drafted] / chances[places, drafted]
    noise = torch.rand(ratio.shape, device=ratio.device, generator=state.generator)
    right = int((noise < ratio).long().cumprod(dim=0).sum())
    rest = model[right]
    if right < count:
        rest = (rest - chances[right]).clamp_(min=0)
        if not bool(rest.sum() > 0):  # the two agree up to rounding
            rest = model[right]
    last = draw(rest[None], state.generator)
    return torch.cat((drafted[:right], last)), right
