"""Steps of one token by the Rust core: inference on the CPU in float32.

Single operations on so few numbers take longer to begin than to compute. The core does those of a layer in
one call, on torch's own threads; its sums are in another order than torch's, and otherwise it is the layer of
`llama.py`. For a few rows its products are the faster ones, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as torch_module

from llamatok import _core
from llamatok._linear import MOST_ROWS, gomp_parallel, is_followed

from .cache import CacheLayer, DynamicCache

if TYPE_CHECKING:
    from .cache import Cache
    from .llama import Attend, LlamaModel, Mask
    from .rope import Turns

#: What the classes' `forward` was when a module of theirs was first seen here.
_FORWARDS: dict[type[nn.Module], Any] = {nn.Linear: nn.Linear.forward}


class CoreStep:
    """Calls the core for each layer. Made anew for every step of a model."""

    def __init__(
        self,
        layers: dict[nn.Module, tuple[Any, ...]],
        turns: Turns,
        bias: torch.Tensor | None,
        cache: DynamicCache,
    ) -> None:
        width = turns[0].shape[-1]
        cos, sin = (turn.reshape(-1, width).contiguous().numpy() for turn in turns)
        self._layers = layers
        self._turns = cos, sin, None if bias is None else bias.reshape(len(bias), -1).contiguous().numpy()
        self._cache = cache
        self._threads = torch.get_num_threads(), gomp_parallel()

    def __call__(self, layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """x (B, 1, hidden_size) -> the same shape, and no attention weights."""
        index, sizes, eps, scale, norms, qkv, output, gate_up, down = self._layers[layer]
        cos, sin, bias = self._turns
        held = self._cache.layers[index]
        keys, values = held.with_room(1)
        rows = x.reshape(len(x), -1).contiguous()
        out = rows.new_empty(rows.shape)
        _core.decoder_step(
            rows.numpy(),
            out.numpy(),
            sizes,
            eps,
            scale,
            norms,
            qkv,
            output,
            gate_up,
            down,
            cos,
            sin,
            bias,
            keys.numpy(),
            values.numpy(),
            held.length,
            *self._threads,
        )
        held.length += 1
        return out.view_as(x), None


def core_step(
    model: LlamaModel, x: torch.Tensor, turns: Turns, mask: Mask, cache: Cache | None, attend: Attend
) -> CoreStep | None:
    """What takes the place of all layers in this step, or None where they are not what the core computes.

    That is: no gradient, a growing cache that holds tokens, joined layers, weights in float32 or rounded to
    float16, and nobody who listens to modules (hooks) or operations (torch's modes), or has put others in
    their place, be it a module, its `forward` or its class's.
    """
    from .llama import sdpa_attention

    if (
        not _is_plain_run(x)
        or x.shape[1] != 1
        or len(x) > MOST_ROWS
        or attend is not sdpa_attention
        or type(cache) is not DynamicCache
        or "update" in cache.__dict__
        or (mask.bias is not None and mask.bias.shape[1] != 1)
        or not all(map(_fits_cache, cache.layers))
    ):
        return None
    layers = {}
    for layer in model.layers:
        parts = _parts(layer)
        if parts is None or parts[0] >= len(cache.layers):
            return None
        layers[layer] = parts
    return CoreStep(layers, turns, mask.bias, cache)


def core_linear(module: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    """A linear layer's product with a few rows, (..., in_features), or None where it is not for the core.

    For a single row, torch is as fast.
    """
    if not _is_plain_run(x) or not 1 < x.numel() // max(1, x.shape[-1]) <= MOST_ROWS:
        return None
    # A layer of another class has ways of its own.
    found = _linear(module) if type(module) is nn.Linear and module.weight.dtype == x.dtype else None
    if found is None:
        return None
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    out = rows.new_empty(len(rows), len(found[0]))
    _core.linear(rows.numpy(), *found, out.numpy(), torch.get_num_threads(), gomp_parallel())
    return out.view(*x.shape[:-1], -1)


def _is_plain_run(x: torch.Tensor) -> bool:
    """Whether `x` is plain numbers on the CPU, and nobody follows what becomes of them."""
    return (
        type(x) is torch.Tensor
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not is_followed()
        and not torch_module._has_any_global_hook()  # type: ignore[no-untyped-call]
    )


def _fits_cache(layer: CacheLayer) -> bool:
    return (
        type(layer) is CacheLayer
        and "update" not in layer.__dict__
        and all(held is not None and held.dtype == torch.float32 for held in (layer._keys, layer._values))
    )


def _parts(module: nn.Module) -> tuple[Any, ...] | None:
    """A layer's number, and what the core asks about it; None where it is not what the core computes."""
    from .llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP

    if type(module) is not LlamaDecoderLayer or not _is_plain(module):
        return None
    layer, attention, mlp = module, module.self_attn, module.mlp
    if (
        type(attention) is not LlamaAttention
        or type(mlp) is not LlamaMLP
        or mlp.act_fn is not F.silu
        or not (attention.is_fused and mlp.is_fused and _is_plain(attention) and _is_plain(mlp))
        or (attention.training and attention.attention_dropout > 0)
        or layer.input_layernorm.variance_epsilon != layer.post_attention_layernorm.variance_epsilon
    ):
        return None
    norms = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
    linears = (
        _linear(attention.qkv_proj),
        _linear(attention.o_proj),
        _linear(mlp.gate_up_proj),
        _linear(mlp.down_proj),
    )
    if any(part is None for part in (*norms, *linears)):
        return None
    return (
        attention.layer_idx,
        (attention.num_heads, attention.num_key_value_heads, attention.head_dim),
        layer.input_layernorm.variance_epsilon,
        attention.scaling,
        norms,
        *linears,
    )


def _is_plain(module: nn.Module) -> bool:
    """Whether it does what its class was written to do."""
    cls = type(module)
    return (
        not module._forward_hooks
        and not module._forward_pre_hooks
        and "forward" not in module.__dict__
        and _FORWARDS.setdefault(cls, cls.forward) is cls.forward
    )


def _norm(module: nn.Module) -> Any:
    """The weight as an array, or None."""
    from .llama import LlamaRMSNorm

    if type(module) is not LlamaRMSNorm or not _is_plain(module):
        return None
    return _array(module.weight, (torch.float32,))


def _linear(module: nn.Module) -> tuple[Any, Any] | None:
    """Weight and bias as arrays, or None for anything but a plain linear layer."""
    if type(module) is not nn.Linear and "is_half_linear" not in vars(type(module)):
        return None
    weight = _array(cast(torch.Tensor, module.weight), (torch.float32, torch.float16))
    bias = cast("torch.Tensor | None", module.bias)
    added = None if bias is None else _array(bias, (torch.float32,))
    if weight is None or (bias is not None and added is None) or not _is_plain(module):
        return None
    return weight, added


def _array(tensor: torch.Tensor, dtypes: tuple[torch.dtype, ...]) -> Any:
    if (
        type(tensor) in (nn.Parameter, torch.Tensor)
        and tensor.dtype in dtypes
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
        and not tensor.is_neg()
        # A file that is mapped into memory may have its numbers anywhere.
        and tensor.data_ptr() % tensor.element_size() == 0
    ):
        return tensor.detach().numpy()
    return None
