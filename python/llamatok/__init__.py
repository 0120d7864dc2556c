"""Exact, fast tokenization for models of the Llama family."""

from llamatok._core import (
    ModelFormatError,
    StreamDecoder,
    TextBatch,
    TokenBatch,
    Tokenizer,
    TokenizerError,
    UnsupportedModelError,
    __version__,
)
from llamatok.demo import demo_checkpoint

__all__ = [
    "ModelFormatError",
    "StreamDecoder",
    "TextBatch",
    "TokenBatch",
    "Tokenizer",
    "TokenizerError",
    "UnsupportedModelError",
    "__version__",
    "demo_checkpoint",
]
