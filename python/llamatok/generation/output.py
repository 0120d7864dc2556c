"""What `generate` returns with `return_dict_in_generate=True`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from llamatok.models.outputs import ModelOutput

__all__ = ["GenerateOutput"]


@dataclass
class GenerateOutput(ModelOutput):
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
