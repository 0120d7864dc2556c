"""A decoder layer for one new token of each row, by the Rust core: inference on the CPU in float32.

Single operations on so few numbers take longer to begin than to compute. The core does those of a layer in
one call, on torch's own threads; its sums are in another order than torch's, and otherwise it is the layer of
`llama.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as torch_module

from llamatok import _core
from llamatok._openmp import gomp_parallel

from .cache import CacheLayer, DynamicCache

if TYPE_CHECKING:
    from .cache import Cache
    from .llama import LlamaDecoderLayer, LlamaModel, Mask
    from .rope import Turns

#: Up to this many rows the core is faster than torch.
MOST_ROWS = 24


class CoreStep:
    """Calls the core for each layer. Made anew for every step of a model."""

    def __init__(self, turns: Turns, bias: torch.Tensor | None, cache: DynamicCache) -> None:
        width = turns[0].shape[-1]
        self._cos, self._sin = (turn.reshape(-1, width).contiguous().numpy() for turn in turns)
        self._bias = None if bias is None else bias.reshape(len(bias), -1).contiguous().numpy()
        self._cache = cache
        self._threads = torch.get_num_threads()
        self._gomp_parallel = gomp_parallel()

    def __call__(self, module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """x (B, 1, hidden_size) -> the same shape, and no attention weights."""
        layer = cast("LlamaDecoderLayer", module)
        attention, mlp = layer.self_attn, layer.mlp
        held = self._cache.layers[attention.layer_idx]
        keys, values = held.with_room(1)
        rows = x.view(len(x), -1)
        out = torch.empty_like(rows)
        _core.decoder_step(
            rows.numpy(),
            out.numpy(),
            (attention.num_heads, attention.num_key_value_heads, attention.head_dim),
            layer.input_layernorm.variance_epsilon,
            attention.scaling,
            (_array(layer.input_layernorm.weight), _array(layer.post_attention_layernorm.weight)),
            _linear(attention.qkv_proj),
            _linear(attention.o_proj),
            _linear(mlp.gate_up_proj),
            _linear(mlp.down_proj),
            self._cos,
            self._sin,
            self._bias,
            keys.numpy(),
            values.numpy(),
            held.length,
            self._threads,
            self._gomp_parallel,
        )
        held.length += 1
        return out.view_as(x), None


def core_step(
    model: LlamaModel, x: torch.Tensor, turns: Turns, mask: Mask, cache: Cache | None, name: str
) -> CoreStep | None:
    """What takes the place of all layers in this step, or None where they are not what the core computes.

    That is: no gradient, a growing cache that holds tokens, joined layers, weights in float32 or rounded to
    float16, and nobody who listens to modules (hooks) or has put others in their place.
    """
    if (
        x.shape[1] != 1
        or len(x) > MOST_ROWS
        or type(x) is not torch.Tensor
        or x.dtype != torch.float32
        or x.device.type != "cpu"
        or name != "sdpa"
        or type(cache) is not DynamicCache
        or model.training
        or torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch_module._has_any_global_hook()  # type: ignore[no-untyped-call]
        or len(cache.layers) < len(model.layers)
        or (mask.bias is not None and mask.bias.shape[1] != 1)
        or not all(map(_fits_cache, cache.layers))
        or not all(map(_fits, model.layers))
    ):
        return None
    return CoreStep(turns, mask.bias, cache)


def _fits_cache(layer: CacheLayer) -> bool:
    held = layer._keys
    return type(layer) is CacheLayer and held is not None and held.dtype == torch.float32


def _fits(layer: nn.Module) -> bool:
    from .llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP, LlamaRMSNorm

    if type(layer) is not LlamaDecoderLayer or not _is_plain(layer):
        return False
    attention, mlp = layer.self_attn, layer.mlp
    return (
        type(attention) is LlamaAttention
        and type(mlp) is LlamaMLP
        and attention.is_fused
        and mlp.is_fused
        and mlp.act_fn is F.silu
        and all(map(_is_plain, (attention, mlp)))
        and all(
            type(norm) is LlamaRMSNorm and norm.weight.dtype == torch.float32 and _is_plain(norm)
            for norm in (layer.input_layernorm, layer.post_attention_layernorm)
        )
        and all(map(_is_linear, (attention.qkv_proj, attention.o_proj, mlp.gate_up_proj, mlp.down_proj)))
    )


def _is_plain(module: nn.Module) -> bool:
    """Whether its `forward` alone tells what it does."""
    return not module._forward_hooks and not module._forward_pre_hooks and "forward" not in module.__dict__


def _is_linear(module: nn.Module) -> bool:
    if not _is_plain(module):
        return False
    if type(module) is not nn.Linear and not getattr(type(module), "is_half_linear", False):
        return False
    weight = cast(torch.Tensor, module.weight)
    return (
        type(weight) in (nn.Parameter, torch.Tensor)
        and weight.dtype in (torch.float32, torch.float16)
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and (module.bias is None or module.bias.dtype == torch.float32)
    )


def _array(parameter: torch.Tensor) -> Any:
    return parameter.detach().numpy()


def _linear(module: nn.Module) -> tuple[Any, Any]:
    weight, bias = cast(torch.Tensor, module.weight), cast("torch.Tensor | None", module.bias)
    return _array(weight), None if bias is None else _array(bias)
