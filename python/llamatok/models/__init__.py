"""Llama in PyTorch, checkpoint-compatible with transformers. Needs the extra `torch`."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "`llamatok.models` needs PyTorch; install it with `pip install 'llamatok[torch]'`"
    ) from error

from .base import PreTrainedModel, no_init_weights
from .cache import Cache, DynamicCache, SlidingWindowCache, StaticCache
from .config import LlamaConfig, PretrainedConfig
from .grouped_query import convert_to_grouped_query
from .heads import (
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
)
from .llama import LlamaModel, LlamaPreTrainedModel
from .open_llama import (
    OpenLlamaConfig,
    OpenLlamaForCausalLM,
    OpenLlamaForSequenceClassification,
    OpenLlamaModel,
)
from .quantized_cache import QuantizedCache

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
    "OpenLlamaConfig",
    "OpenLlamaForCausalLM",
    "OpenLlamaForSequenceClassification",
    "OpenLlamaModel",
    "PreTrainedModel",
    "PretrainedConfig",
    "QuantizedCache",
    "SlidingWindowCache",
    "StaticCache",
    "convert_to_grouped_query",
    "no_init_weights",
]
