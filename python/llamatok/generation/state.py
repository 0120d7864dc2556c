"""The state of one call of `generate`: the text so far, the cache, and how the model takes a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llamatok.generation.config import GenerationConfig
from llamatok.generation.processors import LogitsProcessorList
from llamatok.generation.stopping import StoppingCriteriaList

__all__ = ["Records", "State", "draw", "without_choice"]


@dataclass
class Records:
    """What a call was asked to keep of its steps; a list has one entry a step, None was not asked for."""

    scores: list[Tensor] | None = None
    logits: list[Tensor] | None = None
    attentions: list[Any] | None = None
    hidden_states: list[Any] | None = None

    @classmethod
    def wanted(cls, config: GenerationConfig) -> Records:
        """Empty records of what `config` asks for."""
        if not config.return_dict_in_generate:
            return cls()
        return cls(
            [] if config.output_scores else None,
            [] if config.output_logits else None,
            [] if config.output_attentions else None,
            [] if config.output_hidden_states else None,
        )


@dataclass
class State:
    """The text so far and how to go on with it.

    `ids` is int64 of shape (rows, max_length), of which the first `length` columns are filled. `mask` is
    int64 of the same shape (1 from the prompt's end on), or None where nothing is padded.
    """

    model: Any
    config: GenerationConfig
    ids: Tensor
    length: int
    prompt_length: int
    mask: Tensor | None
    embeds: Tensor | None
    cache: Any
    processors: LogitsProcessorList
    stopping: StoppingCriteriaList
    generator: torch.Generator | None = None
    records: Records = field(default_factory=Records)
    #: Takes (ids, position_ids or None, mask or None, cache) to logits, where a step is compiled.
    compiled_step: Callable[[Tensor, Tensor | None, Tensor | None, Any], Tensor] | None = None
    #: The number of tokens that the cache holds.
    cached: int = 0
    #: Columns at the begin of `ids` that stand for embeddings without ids; processors do not see them.
    hidden: int = 0
    _positions: Tensor | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.ids.shape[0]

    @property
    def max_length(self) -> int:
        """The greatest length of the text, prompt included."""
        return self.ids.shape[1]

    @property
    def text(self) -> Tensor:
        """The ids so far: int64 of shape (rows, length - hidden)."""
        return self.ids[:, self.hidden : self.length]

    @property
    def pad_id(self) -> int:
        """What fills a row after its end."""
        if self.config.pad_token_id is not None:
            return self.config.pad_token_id
        ends = self.config.eos_token_ids
        return ends[0] if ends else 0

    def positions(self, begin: int, end: int) -> Tensor | None:
        """Position ids of columns, where padding moves them: int64 of shape (rows, end - begin)."""
        if self.mask is None:
            return None
        if self._positions is None or self._positions.shape != self.mask.shape:
            # Padding counts for nothing; its own positions are never attended to.
            self._positions = (self.mask.cumsum(dim=-1) - 1).clamp_(min=0)
        return self._positions[:, begin:end]

    def forward(self, keep: int) -> Tensor:
        """Runs the model on what its cache has not, and gives the logits of the last `keep` tokens.

        Returns:
            float32 of shape (rows, keep, vocabulary).
        """
        begin = self.cached if self.cache is not None else 0
        end = self.length
        mask = None if self.mask is None else self.mask[:, :end]
        positions = self.positions(begin, end)
        if self.compiled_step is not None and end - begin == 1:
            self.cached = end
            return self.compiled_step(self.ids[:, begin:end], positions, mask, self.cache).float()
        inputs: dict[str, Any] = {"input_ids": self.ids[:, begin:end]}
        if self.embeds is not None and begin < self.embeds.shape[1]:
            inputs = {"inputs_embeds": self._embedded(begin, end)}
        output = self.model(
            **inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=self.cache is not None,
            logits_to_keep=keep,
            output_attentions=self.records.attentions is not None,
            output_hidden_states=self.records.hidden_states is not None,
            return_dict=True,
        )
        if self.records.attentions is not None:
            self.records.attentions.append(output.attentions)
        if self.records.hidden_states is not None:
            self.records.hidden_states.append(output.hidden_states)
        if self.cache is not None:
            self.cached = end
        logits: Tensor = output.logits
        return logits.float()

    def _embedded(self, begin: int, end: int) -> Tensor:
        """Embeddings of columns: the prompt's as given, those of later tokens from the model."""
        assert self.embeds is not None
        known = self.embeds[:, begin:end]
        if end <= self.embeds.shape[1]:
            return known
        rest = self.model.get_input_embeddings()(self.ids[:, self.embeds.shape[1] : end])
        return torch.cat((known, rest.to(known.dtype)), dim=1)

    def processed(self, logits: Tensor, text: Tensor | None = None) -> Tensor:
        """The scores of a step (rows, vocabulary), kept where asked for."""
        if self.records.logits is not None:
            self.records.logits.append(logits.clone())
        scores = self.processors(self.text if text is None else text, logits)
        if self.records.scores is not None:
            self.records.scores.append(scores.clone() if scores is logits else scores)
        return scores

    def choose(self, scores: Tensor) -> Tensor:
        """The next token of each row (int64): the best one, or one by its probability."""
        if not self.config.do_sample:
            return scores.argmax(dim=-1)
        return draw(scores.softmax(dim=-1), self.generator)

    def check_choice(self, impossible: Tensor) -> None:
        """Raises ValueError where a row had no token to choose; `impossible` is bool of shape (rows,)."""
        if not bool(impossible.any()):
            return
        row = int(impossible.nonzero()[0])
        names = ", ".join(dict.fromkeys(map(_name, self.processors)))
        raise ValueError(
            f"row {row}: there is no token to choose, since all scores are -inf or one is NaN; "
            + (f"what changed them: {names}" if names else "they are the model's own")
        )

    def append(self, tokens: Tensor) -> None:
        """Puts a token at the end of each row, or several (rows, n)."""
        tokens = tokens[:, None] if tokens.dim() == 1 else tokens
        self.ids[:, self.length : self.length + tokens.shape[1]] = tokens
        self.length += tokens.shape[1]

    def repeat(self, times: int) -> None:
        """Makes each row `times` rows that stand side by side, after the prompt has run."""
        if times == 1:
            return
        self.ids = self.ids.repeat_interleave(times, dim=0)
        self._positions = None
        if self.mask is not None:
            self.mask = self.mask.repeat_interleave(times, dim=0)
        if self.embeds is not None:
            self.embeds = self.embeds.repeat_interleave(times, dim=0)
        if self.cache is not None:
            self.cache.batch_repeat_interleave(times)


def without_choice(scores: Tensor) -> Tensor:
    """Whether rows of scores (rows, vocabulary) are all -inf or have a NaN: bool of shape (rows,)."""
    return ~(scores.amax(dim=-1) > -torch.inf)


def _name(processor: Any) -> str:
    """The function that made a processor, or the caller's own class or function."""
    name: str = getattr(processor, "__qualname__", type(processor).__name__)
    return name.split(".<locals>")[0]


def draw(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """One index a row (int64), by its probability, without waiting for the device.

    Of exponential waiting times with these rates the first is each one with its probability.
    """
    noise = torch.empty_like(probabilities).exponential_(generator=generator)
    return (probabilities / noise).argmax(dim=-1)
