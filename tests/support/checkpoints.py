"""Shapes of tiny models that every format of weights has to carry."""

from __future__ import annotations

from typing import Any

#: Multi-head, grouped-query and multi-query attention.
SHAPES: dict[str, dict[str, Any]] = {
    "mha": {"num_attention_heads": 8, "num_key_value_heads": 8},
    "gqa": {"num_attention_heads": 8, "num_key_value_heads": 2},
    "mqa": {"num_attention_heads": 8, "num_key_value_heads": 1},
}
