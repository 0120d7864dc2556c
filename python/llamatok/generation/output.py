"""What `generate` returns with `return_dict_in_generate=True`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

__all__ = ["GenerateOutput"]


@dataclass
class GenerateOutput:
    """Generated text and what was kept of its making, by attribute, by name (`["scores"]`) or by index.

    Entries that were not asked for are None, and have no name or index.

    Attributes:
        sequences: int64 of shape (rows, length), the prompt included; rows that ended early are padded.
        sequences_scores: beam search only: float32, one a row.
        scores: for each step float32 of shape (rows, vocabulary), after the processors.
        logits: for each step float32 of shape (rows, vocabulary), before them.
        beam_indices: beam search only: int32 of shape (rows, generated length).
        attentions: for each step what the model's output has.
        hidden_states: for each step what the model's output has.
        past_key_values: the cache, with which generation can go on.
    """

    sequences: Tensor
    sequences_scores: Tensor | None = None
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    beam_indices: Tensor | None = None
    attentions: tuple[Any, ...] | None = None
    hidden_states: tuple[Any, ...] | None = None
    past_key_values: Any = None

    def keys(self) -> list[str]:
        """The names of the entries that are there."""
        return [f.name for f in fields(self) if getattr(self, f.name) is not None]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, int):
            return getattr(self, self.keys()[key])
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)
