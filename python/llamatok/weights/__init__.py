"""Weights of Llama models: Hugging Face folders, Meta's files, GGUF, llama2.c; loading, saving, converting.

Every format is read as a `Checkpoint`: a configuration, and tensors under Hugging Face's names that are
read when asked for. Loading builds the model without memory and gives it one tensor after another;
converting and saving write one tensor after another. Needs the extra `torch`.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise ImportError(f"llamatok.weights needs torch ({_error}): pip install 'llamatok[torch]'") from _error

from llamatok.demo import demo_checkpoint
from llamatok.weights.checkpoint import Checkpoint, LazyTensor
from llamatok.weights.convert import convert, convert_meta
from llamatok.weights.errors import WeightsError
from llamatok.weights.huggingface import parse_size
from llamatok.weights.load import from_pretrained
from llamatok.weights.open import format_of, open_checkpoint
from llamatok.weights.save import save_pretrained

__all__ = [
    "Checkpoint",
    "LazyTensor",
    "WeightsError",
    "convert",
    "convert_meta",
    "demo_checkpoint",
    "format_of",
    "from_pretrained",
    "open_checkpoint",
    "parse_size",
    "save_pretrained",
]
