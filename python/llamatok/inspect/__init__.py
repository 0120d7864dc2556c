"""Views to look at: which tokens attend to which, and how much."""

from llamatok.inspect.attention import (
    AttentionMaskVisualizer,
    AttentionView,
    attention_mask,
    attention_weights,
)

__all__ = ["AttentionMaskVisualizer", "AttentionView", "attention_mask", "attention_weights"]
