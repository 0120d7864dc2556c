"""Caches of keys and values: growing, static, sliding window; `quantized_cache` has one more.

A cache has a layer for each of the model's. Keys and values are (batch, kv_heads, length, head_dim), the
shape of the older API's tuples too. All kinds but the sliding window keep what they hold in buffers with room
to spare and write new tokens in place, so a step copies one token and not the whole past.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .config import LlamaConfig

LegacyCache = tuple[tuple[torch.Tensor, torch.Tensor], ...]
_FIRST_ROOM = 64  # tokens; a buffer that doubles from here is copied a handful of times in a model's context


class CacheLayer:
    """Keys and values of one layer, in buffers that double when they are full."""

    def __init__(self) -> None:
        self.length = 0
        self._keys: torch.Tensor | None = None
        self._values: torch.Tensor | None = None

    @property
    def keys(self) -> torch.Tensor | None:
        """The keys held, or None before the first update."""
        return None if self._keys is None else self._keys[:, :, : self.length]

    @property
    def values(self) -> torch.Tensor | None:
        """The values held, or None before the first update."""
        return None if self._values is None else self._values[:, :, : self.length]

    def update(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the new tokens and return all there are, as views."""
        start, end = self.length, self.length + keys.shape[2]
        if self._keys is None or self._values is None or keys.requires_grad:
            return self._append(keys, values)
        all_keys, all_values = self.with_room(keys.shape[2])
        all_keys[:, :, start:end] = keys
        all_values[:, :, start:end] = values
        self.length = end
        return all_keys[:, :, :end], all_values[:, :, :end]

    def with_room(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The buffers, (batch, kv_heads, room, head_dim), with room for `count` tokens more.

        Not before the first update.
        """
        assert self._keys is not None
        assert self._values is not None
        end, room = self.length + count, self._keys.shape[2]
        # A buffer made under `torch.inference_mode` may not be written to outside of it, and what a gradient
        # passes through not at all: a new one then.
        frozen = self._keys.is_inference() and not torch.is_inference_mode_enabled()
        frozen = frozen or self._keys.requires_grad or self._values.requires_grad
        if end > room or frozen:
            room = max(end, 2 * room)
            self._keys = _grown(self._keys, self.length, room)
            self._values = _grown(self._values, self.length, room)
        return self._keys, self._values

    def _append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The first update, and every one that a gradient must pass through: buffers without room."""
        if self._keys is not None and self._values is not None:
            keys = torch.cat((self._keys[:, :, : self.length], keys), dim=2)
            values = torch.cat((self._values[:, :, : self.length], values), dim=2)
        self.length = keys.shape[2]
        self._keys, self._values = keys, values
        if not keys.requires_grad:
            room = max(_FIRST_ROOM, self.length + self.length // 4)
            self._keys, self._values = _grown(keys, self.length, room), _grown(values, self.length, room)
        return keys, values

    def mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys the next `query_length` tokens will meet, and the position of the first."""
        return self.length + query_length, 0

    def crop(self, length: int) -> None:
        """Forget what is past the first `length` tokens; a length below 0 forgets that many."""
        wanted = length if length >= 0 else self.length + length
        self.length = max(0, min(self.length, wanted))

    def select(self, indices: torch.Tensor) -> None:
        """Make row i of the batch what row `indices[i]` was."""
        if self._keys is not None and self._values is not None:
            self._keys = self._keys.index_select(0, indices.to(self._keys.device))
            self._values = self._values.index_select(0, indices.to(self._values.device))

    def repeat(self, repeats: int) -> None:
        """Repeat each row of the batch."""
        if self._keys is not None and self._values is not None:
            self._keys = self._keys.repeat_interleave(repeats, dim=0)
            self._values = self._values.repeat_interleave(repeats, dim=0)

    def reset(self) -> None:
        """Forget everything, and let the buffers go."""
        self.length, self._keys, self._values = 0, None, None


def _grown(held: torch.Tensor, length: int, room: int) -> torch.Tensor:
    # Not zeros: what is past the length is never read.
    buffer = held.new_empty(*held.shape[:2], room, held.shape[3])
    buffer[:, :, :length] = held[:, :, :length]
    return buffer


class Cache:
    """Base of the caches; `past_key_values` of the forward passes."""

    def __init__(self, layers: Sequence[CacheLayer] = ()) -> None:
        self.layers = list(layers)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append a layer's new keys and values, (batch, kv_heads, new, head_dim); return all to attend to."""
        return self.layers[layer_idx].update(keys, values)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of tokens seen so far."""
        return self.layers[layer_idx].length if layer_idx < len(self.layers) else 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """How many keys the next `query_length` tokens will meet, and the position of the first."""
        return self.layers[layer_idx].mask_sizes(query_length) if self.layers else (query_length, 0)

    def get_max_cache_shape(self) -> int | None:
        """Greatest number of tokens it can hold; None for no bound."""
        return None

    def crop(self, max_length: int) -> None:
        """Forget all but the first `max_length` tokens; a number below 0 forgets that many."""
        for layer in self.layers:
            layer.crop(max_length)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Let row i of the batch continue what row `beam_idx[i]` was: beam search."""
        for layer in self.layers:
            layer.select(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only these rows of the batch."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row of the batch `repeats` times."""
        for layer in self.layers:
            layer.repeat(repeats)

    def reset(self) -> None:
        """Forget everything."""
        for layer in self.layers:
            layer.reset()

    def to_legacy_cache(self) -> LegacyCache:
        """The older API's tuple: (keys, values) for each layer."""
        return tuple(self)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer_idx: int) -> tuple[torch.Tensor, torch.Tensor]:
        layer = self.layers[layer_idx]
        if layer.keys is None or layer.values is None:
            raise IndexError(f"layer {layer_idx} of the cache is still empty")
        return layer.keys, layer.values

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return (self[index] for index, layer in enumerate(self.layers) if layer.keys is not None)


class DynamicCache(Cache):
    """A cache that grows with the sequence, up to the configuration's `sliding_window` where it has one."""

    def __init__(self, config: LlamaConfig | None = None) -> None:
        self.sliding_window = None if config is None else config.sliding_window
        super().__init__(
            [self._new_layer() for _ in range(0 if config is None else config.num_hidden_layers)]
        )

    def _new_layer(self) -> CacheLayer:
        return CacheLayer() if self.sliding_window is None else SlidingWindowLayer(self.sliding_window)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Cache.update`; without a configuration, layers come to be as they are asked for."""
        while len(self.layers) <= layer_idx:
            self.layers.append(self._new_layer())
        return self.layers[layer_idx].update(keys, values)

    @classmethod
    def from_legacy_cache(
        cls, past_key_values: Sequence[Sequence[torch.Tensor]] | None = None
    ) -> DynamicCache:
        """From the older API's tuple of (keys, values) for each layer."""
        cache = cls()
        for index, (keys, values) in enumerate(past_key_values or ()):
            cache.update(keys, values, index)
        return cache


class SlidingWindowLayer(CacheLayer):
    """Keeps the last `window` - 1 tokens: with itself, a new token sees `window`.

    Tokens are appended until the buffer is full; then the few that still matter move to its start, so that a
    token is moved about once on average and the keys are always one run in memory.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window
        self._held = 0  # tokens in the buffer, the last of them at `_end`
        self._end = 0

    @property
    def keys(self) -> torch.Tensor | None:
        """The keys held, at most `window` - 1 of them."""
        return None if self._keys is None else self._keys[:, :, self._end - self._held : self._end]

    @property
    def values(self) -> torch.Tensor | None:
        """The values held, at most `window` - 1 of them."""
        return None if self._values is None else self._values[:, :, self._end - self._held : self._end]

    def update(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the new tokens; return them with those held before, of which only the last are kept."""
        count = keys.shape[2]
        full = self._keys is None or self._end + count > self._keys.shape[2]
        frozen = (
            self._keys is not None and self._keys.is_inference() and not torch.is_inference_mode_enabled()
        )
        if self._keys is None or self._values is None or full or frozen or keys.requires_grad:
            if self.keys is not None and self.values is not None:
                keys, values = torch.cat((self.keys, keys), dim=2), torch.cat((self.values, values), dim=2)
            kept = min(keys.shape[2], self.window - 1)
            # As much again, not the window: that may be wider than any text.
            room = kept + max(kept, _FIRST_ROOM)
            first = keys.shape[2] - kept
            self._keys, self._values = (
                _grown(keys[:, :, first:], kept, room),
                _grown(values[:, :, first:], kept, room),
            )
            self._end = self._held = kept
        else:
            start = self._end - self._held
            self._end += count
            self._keys[:, :, self._end - count : self._end] = keys
            self._values[:, :, self._end - count : self._end] = values
            keys, values = self._keys[:, :, start : self._end], self._values[:, :, start : self._end]
            self._held = min(self._held + count, self.window - 1)
        self.length += count
        return keys, values

    def mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys the next `query_length` tokens will meet, and the position of the first."""
        return self._held + query_length, self.length - self._held

    def crop(self, length: int) -> None:
        """As for other layers, while nothing has left the window; a ValueError after that."""
        wanted = max(0, min(self.length, length if length >= 0 else self.length + length))
        removed = self.length - wanted
        if removed and self.length > self._held:
            raise ValueError(
                f"a sliding-window cache cannot go back {removed} tokens: all before its {self._held} is gone"
            )
        self.length, self._held, self._end = wanted, self._held - removed, self._end - removed

    def reset(self) -> None:
        """Forget everything, and let the buffers go."""
        super().reset()
        self._held = self._end = 0


class SlidingWindowCache(DynamicCache):
    """A growing cache that keeps the last `sliding_window` tokens, whatever the configuration says."""

    def __init__(self, config: LlamaConfig, sliding_window: int | None = None) -> None:
        window = sliding_window or config.sliding_window
        if window is None:
            raise ValueError(
                "a sliding-window cache needs `sliding_window`, of its own or in the configuration"
            )
        super().__init__(config)
        self.sliding_window = window
        self.layers = [self._new_layer() for _ in range(config.num_hidden_layers)]


class StaticCache(Cache):
    """Buffers of a fixed size, made at once or at the first update, whose addresses never change.

    Where the model runs compiled or on an accelerator, attention gets the whole buffers and a mask, and the
    position is a tensor: neither shapes nor numbers change from step to step, so nothing is compiled anew.
    Elsewhere it gets the part that is filled.
    """

    def __init__(
        self,
        config: LlamaConfig,
        max_cache_len: int | None = None,
        *,
        max_batch_size: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_layers = config.num_hidden_layers
        self.max_cache_len = max_cache_len or config.max_position_embeddings
        self.key_cache: list[torch.Tensor] = []
        self.value_cache: list[torch.Tensor] = []
        self._shape = (config.num_key_value_heads, self.max_cache_len, config.head_dim)
        self.position = torch.zeros((), dtype=torch.int64, device=device)
        self.writes = self.position.reshape(1)
        self._filled: int | None = 0
        if max_batch_size is not None:
            self.allocate(max_batch_size, torch.device(device or "cpu"), dtype or torch.get_default_dtype())

    def allocate(self, batch_size: int, device: torch.device, dtype: torch.dtype) -> None:
        """Make the buffers, two for each layer: (batch, kv_heads, max_cache_len, head_dim)."""
        size = (batch_size, *self._shape)
        # Zeros: positions that are not yet written are masked, and 0 times what was there must not be nan.
        self.key_cache = [torch.zeros(size, device=device, dtype=dtype) for _ in range(self.num_layers)]
        self.value_cache = [torch.zeros(size, device=device, dtype=dtype) for _ in range(self.num_layers)]
        self.position = self.position.to(device)

    def begin(self, count: int, cache_position: torch.Tensor | None = None) -> torch.Tensor:
        """Say that `count` tokens come, at `cache_position` or after the last; return their positions."""
        if cache_position is None:
            cache_position = self.position + torch.arange(count, device=self.position.device)
        end = cache_position[-1] + 1
        whole = torch.compiler.is_compiling() or self.position.device.type != "cpu"
        filled = None if whole else int(end)
        if filled is not None and filled > self.max_cache_len:
            raise ValueError(
                f"the static cache has room for {self.max_cache_len} tokens; {filled - count} are in it, and "
                f"{count} more came; make it with a larger `max_cache_len`"
            )
        self.writes, self._filled = cache_position, filled
        self.position.copy_(end)
        return cache_position

    @property
    def is_whole(self) -> bool:
        """Whether attention gets the whole buffers, and so needs a mask for what is not yet written."""
        return self._filled is None

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values where `begin` said; return all that it attends to."""
        if not self.key_cache:
            self.allocate(keys.shape[0], keys.device, keys.dtype)
        held_keys, held_values = self.key_cache[layer_idx], self.value_cache[layer_idx]
        held_keys.index_copy_(2, self.writes, keys.to(held_keys.dtype))
        held_values.index_copy_(2, self.writes, values.to(held_values.dtype))
        # Buffers of another dtype than the model's hold what is rounded to it; attention wants one for all.
        all_keys, all_values = held_keys[:, :, : self._filled], held_values[:, :, : self._filled]
        return all_keys.to(keys.dtype), all_values.to(values.dtype)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of tokens seen so far; on an accelerator this waits for it."""
        return int(self.position)

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """How many keys the tokens of the last `begin` meet, and the position of the first."""
        return self.max_cache_len if self._filled is None else self._filled, 0

    def get_max_cache_shape(self) -> int:
        """`max_cache_len`."""
        return self.max_cache_len

    def crop(self, max_length: int) -> None:
        """Forget all but the first `max_length` tokens; a number below 0 forgets that many."""
        held = self.get_seq_length()
        self.position.fill_(max(0, min(held, max_length if max_length >= 0 else held + max_length)))

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Let row i of the batch continue what row `beam_idx[i]` was; addresses stay."""
        if self.key_cache and len(beam_idx) != len(self.key_cache[0]):
            raise ValueError(
                f"the static cache has {len(self.key_cache[0])} rows, and `beam_idx` {len(beam_idx)}"
            )
        for buffer in (*self.key_cache, *self.value_cache):
            buffer.copy_(buffer.index_select(0, beam_idx.to(buffer.device)))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only these rows of the batch, in new buffers."""
        self._rebuild(lambda buffer: buffer.index_select(0, indices.to(buffer.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row of the batch `repeats` times, in new buffers."""
        self._rebuild(lambda buffer: buffer.repeat_interleave(repeats, dim=0))

    def _rebuild(self, make: Any) -> None:
        self.key_cache = [make(buffer) for buffer in self.key_cache]
        self.value_cache = [make(buffer) for buffer in self.value_cache]

    def reset(self) -> None:
        """Forget everything; the buffers stay."""
        self.position.zero_()
        for buffer in (*self.key_cache, *self.value_cache):
            buffer.zero_()

    def __len__(self) -> int:
        return self.num_layers

    def __getitem__(self, layer_idx: int) -> tuple[torch.Tensor, torch.Tensor]:
        length = self.get_seq_length()
        return self.key_cache[layer_idx][:, :, :length], self.value_cache[layer_idx][:, :, :length]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return (self[index] for index in range(len(self.key_cache)))
