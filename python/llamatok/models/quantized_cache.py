"""The cache that keeps the past as int8, for memory at the price of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .cache import CacheLayer, DynamicCache

if TYPE_CHECKING:
    from .config import LlamaConfig


class QuantizedLayer(CacheLayer):
    """Keys and values as int8 with one scale for each token and head; the last `recent` stay as they are.

    A value is off by at most 1/254 of its row's greatest magnitude. Memory is a half of bfloat16's and a
    quarter of float32's; every step turns the whole back, so this saves memory and costs time.
    """

    def __init__(self, recent: int) -> None:
        super().__init__()
        self.recent = recent
        self._packed: tuple[_Rows, _Rows] | None = None

    def update(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the new tokens; return all, those of the past as they were quantized."""
        count = keys.shape[2]
        if self._keys is not None and self._values is not None:
            keys, values = torch.cat((self._keys, keys), dim=2), torch.cat((self._values, values), dim=2)
        self.length += count
        whole = keys, values
        if self._packed is not None:
            past = [rows.restore(keys.dtype) for rows in self._packed]
            whole = torch.cat((past[0], keys), dim=2), torch.cat((past[1], values), dim=2)
        if keys.shape[2] > self.recent:
            packed = _Rows.of(keys), _Rows.of(values)
            self._packed = (
                packed
                if self._packed is None
                else (
                    self._packed[0].join(packed[0]),
                    self._packed[1].join(packed[1]),
                )
            )
            keys, values = keys[:, :, :0], values[:, :, :0]
        self._keys, self._values = keys, values
        return whole

    @property
    def keys(self) -> torch.Tensor | None:
        """All keys, turned back."""
        return self._whole(0, self._keys)

    @property
    def values(self) -> torch.Tensor | None:
        """All values, turned back."""
        return self._whole(1, self._values)

    def _whole(self, index: int, recent: torch.Tensor | None) -> torch.Tensor | None:
        if recent is None or self._packed is None:
            return recent
        return torch.cat((self._packed[index].restore(recent.dtype), recent), dim=2)

    def crop(self, length: int) -> None:
        """Forget what is past the first `length` tokens; a length below 0 forgets that many."""
        wanted = max(0, min(self.length, length if length >= 0 else self.length + length))
        if self._keys is None or self._values is None:
            return
        packed = 0 if self._packed is None else self._packed[0].numbers.shape[2]
        self._keys, self._values = (
            self._keys[:, :, : max(0, wanted - packed)],
            self._values[:, :, : max(0, wanted - packed)],
        )
        if self._packed is not None and wanted < packed:
            self._packed = self._packed[0].head(wanted), self._packed[1].head(wanted)
        self.length = wanted

    def select(self, indices: torch.Tensor) -> None:
        """Make row i of the batch what row `indices[i]` was."""
        super().select(indices)
        if self._packed is not None:
            self._packed = self._packed[0].select(indices), self._packed[1].select(indices)

    def repeat(self, repeats: int) -> None:
        """Repeat each row of the batch."""
        if self._keys is not None:
            self.select(torch.arange(self._keys.shape[0]).repeat_interleave(repeats))

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._packed = None


class _Rows:
    """Rows of int8 numbers with a float32 scale each."""

    def __init__(self, numbers: torch.Tensor, scales: torch.Tensor) -> None:
        self.numbers, self.scales = numbers, scales

    @classmethod
    def of(cls, rows: torch.Tensor) -> _Rows:
        exact = rows.to(torch.float32)
        scales = exact.abs().amax(dim=-1, keepdim=True).clamp_min(1e-12) / 127
        return cls((exact / scales).round_().to(torch.int8), scales)

    def restore(self, dtype: torch.dtype) -> torch.Tensor:
        return (self.numbers.to(torch.float32) * self.scales).to(dtype)

    def join(self, other: _Rows) -> _Rows:
        return _Rows(
            torch.cat((self.numbers, other.numbers), dim=2), torch.cat((self.scales, other.scales), dim=2)
        )

    def head(self, length: int) -> _Rows:
        return _Rows(self.numbers[:, :, :length], self.scales[:, :, :length])

    def select(self, indices: torch.Tensor) -> _Rows:
        indices = indices.to(self.numbers.device)
        return _Rows(self.numbers.index_select(0, indices), self.scales.index_select(0, indices))


class QuantizedCache(DynamicCache):
    """A growing cache that keeps all but the last `residual_length` tokens or fewer as int8."""

    def __init__(self, config: LlamaConfig, residual_length: int = 128) -> None:
        self.residual_length = residual_length
        super().__init__(config)

    def _new_layer(self) -> CacheLayer:
        return QuantizedLayer(self.residual_length)
