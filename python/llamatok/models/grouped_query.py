"""From multi-head to grouped-query attention: each group's key and value heads become their mean.

Ainslie et al., 2023 (arXiv:2305.13245), section 2.1. The result is a start for further training, not the same
model.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from .base import no_init_weights
from .layers import linear
from .llama import LlamaAttention, LlamaPreTrainedModel

Llama = TypeVar("Llama", bound=LlamaPreTrainedModel)


@torch.no_grad()
def convert_to_grouped_query(model: Llama, num_key_value_heads: int) -> Llama:
    """A copy of `model` with `num_key_value_heads` key and value heads, each the mean of those it stands for.

    Neighbouring heads make a group, and means are taken in float32; nothing else changes. ValueError where
    the number does not divide that of the model's heads.
    """
    before = model.config.num_key_value_heads
    if num_key_value_heads < 1 or before % num_key_value_heads:
        raise ValueError(f"`num_key_value_heads` must divide the model's {before}, got {num_key_value_heads}")
    fused = any(isinstance(module, LlamaAttention) and module.is_fused for module in model.modules())
    converted = copy.deepcopy(model).unfuse()
    converted.config.num_key_value_heads = num_key_value_heads
    for module in converted.modules():
        if isinstance(module, LlamaAttention):
            module.k_proj = _pooled(module.k_proj, before, num_key_value_heads)
            module.v_proj = _pooled(module.v_proj, before, num_key_value_heads)
            module.num_key_value_heads = num_key_value_heads
    return converted.fuse() if fused else converted


def _pooled(layer: nn.Module, before: int, after: int) -> nn.Linear:
    assert isinstance(layer, nn.Linear)

    def pool(rows: torch.Tensor) -> torch.Tensor:
        """(before * D, ...) -> (after * D, ...)"""
        grouped = rows.to(torch.float32).reshape(after, before // after, len(rows) // before, *rows.shape[1:])
        return grouped.mean(dim=1).flatten(0, 1).to(rows.dtype)

    weight = pool(layer.weight)
    with no_init_weights(), torch.device("meta"):
        pooled = linear(layer.in_features, len(weight), bias=layer.bias is not None)
    pooled.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
    if layer.bias is not None:
        pooled.bias = nn.Parameter(pool(layer.bias), requires_grad=layer.bias.requires_grad)
    return pooled
