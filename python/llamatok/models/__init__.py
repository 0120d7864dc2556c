"""Llama in PyTorch: the models of the Llama family, checkpoint-compatible with transformers. Needs the extra `torch`."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "`llamatok.models` needs PyTorch; install it with `pip install 'llamatok[torch]'`"
    ) from error

from .cache import Cache, DynamicCache, QuantizedCache, SlidingWindowCache, StaticCache
from .config import LlamaConfig, PretrainedConfig
from .heads import (
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
)
from .llama import LlamaModel, LlamaPreTrainedModel

__all__ = [
    "Cache",
    "DynamicCache",
    "LlamaConfig",
    "LlamaForCausalLM",
    "LlamaForQuestionAnswering",
    "LlamaForSequenceClassification",
    "LlamaForTokenClassification",
    "LlamaModel",
    "LlamaPreTrainedModel",
    "PretrainedConfig",
    "QuantizedCache",
    "SlidingWindowCache",
    "StaticCache",
]
