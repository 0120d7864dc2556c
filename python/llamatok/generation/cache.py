"""Which cache a call runs with."""

from __future__ import annotations

from typing import Any

from llamatok.generation.config import GenerationConfig

__all__ = ["cache_for", "cached_length"]


def cached_length(past: Any) -> int:
    """How many tokens a given cache holds."""
    if past is None:
        return 0
    if isinstance(past, (tuple, list)):  # pairs of (rows, kv_heads, length, head_dim), one a layer
        return int(past[0][0].shape[-2]) if past else 0
    return int(past.get_seq_length())


def cache_for(model: Any, config: GenerationConfig, past: Any, rows: int, length: int) -> Any:
    """The given cache, or a new one for `rows` texts of `length` tokens; None with `use_cache=False`."""
    from llamatok.models import DynamicCache, StaticCache

    if isinstance(past, (tuple, list)):
        return DynamicCache.from_legacy_cache(past)
    if past is not None:
        return past
    if not config.use_cache:
        return None
    if config.cache_implementation == "static":
        return StaticCache(
            model.config, max_batch_size=rows, max_cache_len=length, device=model.device, dtype=model.dtype
        )
    return DynamicCache(model.config)
