"""Shapes of tiny models that every format of weights has to carry."""

from __future__ import annotations

from typing import Any

#: Multi-head, grouped-query and multi-query attention.
SHAPES: dict[str, dict[str, Any]] = {
    "mha": {"num_attention_heads": 8, "num_key_value_heads": 8},
    "gqa": {"num_attention_heads": 8, "num_key_value_heads": 2},
    "mqa": {"num_attention_heads": 8, "num_key_value_heads": 1},
}


def pairs_of(weight: Any, heads: int) -> Any:
    """Hugging Face's order of query and key rows to Meta's, pair by pair: written out, as an oracle should
    be."""
    width = weight.shape[0] // heads
    rows = []
    for head in range(heads):
        for pair in range(width // 2):
            rows += [head * width + pair, head * width + pair + width // 2]
    return weight[rows]
