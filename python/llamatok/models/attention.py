"""The optional attention functions: FlashAttention 2 (package `flash_attn`) and torch's flex attention.

`eager` and `sdpa` stand in `llama.py`. Shapes: query (B, H, T, D), key and value (B, K, L, D), result (B, T,
H * D).
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch

from .llama import Attend, Mask

NAMES = ("sdpa", "eager", "flash_attention_2", "flex_attention")


def by_name(name: str) -> Attend:
    """The attention of that name. ValueError for an unknown one, ImportError where its package is missing."""
    if name == "flash_attention_2":
        try:
            importlib.import_module("flash_attn")
        except ImportError as error:
            raise ImportError(
                "`flash_attention_2` needs the package `flash_attn` and a GPU that it knows; install it with "
                "`pip install flash-attn`, or choose `attn_implementation='sdpa'`, which torch brings along"
            ) from error
        return flash_attention_2
    if name == "flex_attention":
        _flex()
        return flex_attention
    raise ValueError(
        f"`attn_implementation` `{name}` is unknown; there are {', '.join(f'`{known}`' for known in NAMES)}"
    )


def flash_attention_2(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Mask, scale: float, dropout: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention by the package `flash_attn` (2.1 or newer), in float16 or bfloat16, autocast's type included.

    Padding is taken out before and put back after, as zeros.
    """
    if mask.bias is not None:
        raise ValueError(
            "`flash_attention_2` takes no 4-D `attention_mask`; choose `attn_implementation='sdpa'`"
        )
    device = query.device.type
    if query.dtype not in (torch.float16, torch.bfloat16):
        if not torch.is_autocast_enabled(device):
            name = str(query.dtype).removeprefix("torch.")
            raise ValueError(
                f"`flash_attention_2` works in float16 and bfloat16, not in {name}; "
                "load the model with `dtype=torch.bfloat16`"
            )
        half = torch.get_autocast_dtype(device)
        query, key, value = query.to(half), key.to(half), value.to(half)
    flash: Any = importlib.import_module("flash_attn")
    options = {
        "dropout_p": dropout,
        "softmax_scale": scale,
        "causal": True,
        "window_size": (-1, -1) if mask.window is None else (mask.window - 1, 0),
    }
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if mask.padding is None:
        out: torch.Tensor = flash.flash_attn_func(query, key, value, **options)
        return out.flatten(2), None
    batch, length = query.shape[:2]
    kept_keys = mask.padding
    kept_queries = kept_keys[:, -length:] if mask.new is None else kept_keys[:, mask.new]
    out = query.new_zeros(query.shape)
    out[kept_queries] = flash.flash_attn_varlen_func(
        query[kept_queries],
        key[kept_keys],
        value[kept_keys],
        cu_seqlens_q=_starts(kept_queries),
        cu_seqlens_k=_starts(kept_keys),
        max_seqlen_q=int(kept_queries.sum(dim=1).max()),
        max_seqlen_k=int(kept_keys.sum(dim=1).max()),
        **options,
    )
    return out.view(batch, length, -1), None


def _starts(kept: torch.Tensor) -> torch.Tensor:
    """Where each row's kept tokens start when rows stand one after the other, and the end: int32 (B + 1,)."""
    ends = kept.sum(dim=1, dtype=torch.int32).cumsum(dim=0, dtype=torch.int32)
    return torch.nn.functional.pad(ends, (1, 0))


def flex_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Mask, scale: float, dropout: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """torch's flex attention: compiled on a GPU; on the CPU as it is, and without gradient. No dropout."""
    if dropout > 0:
        raise ValueError(
            "`flex_attention` has no dropout; set `attention_dropout` to 0 or choose another attention"
        )
    attend, bias = _flex(), mask.bias
    modify: Callable[..., torch.Tensor] | None = None
    if bias is not None:
        rows, per_head = bias.shape[0], bias.shape[1]

        def modify(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
            return score + bias[b if rows > 1 else 0, h if per_head > 1 else 0, q, k]
    elif mask.causal:

        def modify(score: Any, b: Any, h: Any, q: Any, k: Any) -> Any:
            return torch.where(q >= k, score, -float("inf"))

    grouped = query.shape[1] != key.shape[1]
    if query.device.type == "cpu":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
            out = attend(query, key, value, score_mod=modify, scale=scale, enable_gqa=grouped)
    else:
        out = _compiled_flex()(query, key, value, score_mod=modify, scale=scale, enable_gqa=grouped)
    return out.transpose(1, 2).flatten(2), None


def _flex() -> Callable[..., Any]:
    try:
        from torch.nn.attention.flex_attention import flex_attention as attend
    except ImportError as error:
        raise ImportError(
            f"this torch ({torch.__version__}) has no flex attention; install torch 2.5 or newer, or choose "
            "`attn_implementation='sdpa'`"
        ) from error
    return attend


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    return torch.compile(_flex(), dynamic=False)
