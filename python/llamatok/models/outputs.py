"""What the models return: records that are read by attribute, by key or by index.

The fields, their order and the way they are read are those of transformers' `ModelOutput`: fields that are
None are left out of the keys and of the tuple, so `output[0]` is the loss where there is one and the logits
where there is none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

import torch
from torch.utils import _pytree

from .cache import Cache, LegacyCache

Tensors = tuple[torch.Tensor, ...]


class ModelOutput:
    """Base of the records below; subclasses are dataclasses."""

    def __init_subclass__(cls) -> None:
        # FSDP, `torch.compile` and `torch.export` walk through outputs, and stop at types they do not know.
        _pytree.register_pytree_node(
            cls,
            lambda output: (list(vars(output).values()), None),
            lambda values, _: cls(*values),
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        )

    def _fields(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def to_tuple(self) -> tuple[Any, ...]:
        """All fields that are not None, in order."""
        return tuple(self._fields().values())

    def keys(self) -> KeysView[str]:
        """Names of the fields that are not None."""
        return self._fields().keys()

    def values(self) -> ValuesView[Any]:
        """Values of the fields that are not None."""
        return self._fields().values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values of the fields that are not None."""
        return self._fields().items()

    def get(self, key: str, default: Any = None) -> Any:
        """The field `key`, or `default` where it is None or not there."""
        return self._fields().get(key, default)

    def __getitem__(self, key: str | int | slice) -> Any:
        return self._fields()[key] if isinstance(key, str) else self.to_tuple()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in vars(self):
            raise KeyError(key)
        setattr(self, key, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields())

    def __len__(self) -> int:
        return len(self._fields())

    def __contains__(self, key: object) -> bool:
        return key in self._fields()


@dataclasses.dataclass
class BaseModelOutputWithPast(ModelOutput):
    """Of the model without a head: hidden states (batch, length, hidden_size) after the final norm."""

    last_hidden_state: torch.Tensor
    past_key_values: Cache | LegacyCache | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclasses.dataclass
class CausalLMOutputWithPast(ModelOutput):
    """Of the language model: logits (batch, kept positions, vocab_size)."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | LegacyCache | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclasses.dataclass
class SequenceClassifierOutputWithPast(ModelOutput):
    """Of the sequence classifier: logits (batch, num_labels)."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | LegacyCache | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclasses.dataclass
class TokenClassifierOutput(ModelOutput):
    """Of the token classifier: logits (batch, length, num_labels)."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclasses.dataclass
class QuestionAnsweringModelOutput(ModelOutput):
    """Of the question answering model: start and end logits, (batch, length) each."""

    loss: torch.Tensor | None = None
    start_logits: torch.Tensor | None = None
    end_logits: torch.Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
