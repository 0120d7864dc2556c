"""Single steps through `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["compiled_step"]

_KEY = "_llamatok_compiled_step"


def compiled_step(model: Any) -> Callable[[Tensor, Tensor | None, Tensor | None, Any], Tensor]:
    """A model's step, compiled once: from (ids, positions, mask, cache) to logits (rows, 1, vocabulary)."""
    known = model.__dict__.get(_KEY)
    if known is not None:
        step: Callable[..., Tensor] = known
        return step

    def forward(ids: Tensor, positions: Tensor | None, mask: Tensor | None, cache: Any) -> Tensor:
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            return_dict=True,
        )
        logits: Tensor = output.logits
        return logits

    mode = "reduce-overhead" if model.device.type == "cuda" else "default"
    step = torch.compile(forward, mode=mode, dynamic=False)
    model.__dict__[_KEY] = step
    return step
