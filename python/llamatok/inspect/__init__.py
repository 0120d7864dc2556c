"""Views to look at: the tokens of a text, a vocabulary, and which tokens attend to which, and how much."""

from llamatok.inspect.attention import (
    AttentionMaskVisualizer,
    AttentionView,
    attention_mask,
    attention_weights,
)
from llamatok.inspect.tokens import TokenView, legacy_views, side_by_side, token_view
from llamatok.inspect.vocabulary import VocabularyReport, vocabulary_report

__all__ = [
    "AttentionMaskVisualizer",
    "AttentionView",
    "TokenView",
    "VocabularyReport",
    "attention_mask",
    "attention_weights",
    "legacy_views",
    "side_by_side",
    "token_view",
    "vocabulary_report",
]
