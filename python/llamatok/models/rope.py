"""Rotary position embedding (Su et al., 2021, arXiv:2104.09864), in its six kinds.

Each kind is a pure function from the settings to `(inverse frequencies, attention factor)`: a float32 tensor
of head_dim / 2 angles a position, and the number by which cosines and sines are multiplied. They follow
transformers 5.23.0's `modeling_rope_utils`, in the order of operations too, so that float32 angles are equal
to the last bit. `RotaryEmbedding` turns them into tables of cosines and sines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

Frequencies = tuple[torch.Tensor, float]
Turns = tuple[torch.Tensor, torch.Tensor]  # cosines and sines


def default_frequencies(theta: float, head_dim: int) -> torch.Tensor:
    """theta ** (-2i / head_dim) for i in 0 .. head_dim / 2, float32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64, device="cpu").to(torch.float32) / head_dim
    return 1.0 / (theta**exponents)


def default(settings: Mapping[str, Any], head_dim: int, max_positions: int, length: int) -> Frequencies:
    """The original embedding."""
    return default_frequencies(settings["rope_theta"], head_dim), 1.0


def linear(settings: Mapping[str, Any], head_dim: int, max_positions: int, length: int) -> Frequencies:
    """Positions divided by `factor` (Chen et al., 2023, arXiv:2306.15595)."""
    return default_frequencies(settings["rope_theta"], head_dim) / settings["factor"], 1.0


def dynamic(settings: Mapping[str, Any], head_dim: int, max_positions: int, length: int) -> Frequencies:
    """NTK-aware scaling: the base grows with the current length, once it is past `max_positions`."""
    factor, length = settings["factor"], max(length, max_positions)
    growth = (factor * length / max_positions) - (factor - 1)
    return default_frequencies(settings["rope_theta"] * growth ** (head_dim / (head_dim - 2)), head_dim), 1.0


def yarn(settings: Mapping[str, Any], head_dim: int, max_positions: int, length: int) -> Frequencies:
    """YaRN (Peng et al., 2023, arXiv:2309.00071): slow pairs interpolated, fast ones kept, a ramp between."""
    theta, factor = settings["rope_theta"], settings["factor"]
    original = settings["original_max_position_embeddings"]
    attention_factor = settings.get("attention_factor")
    mscale, mscale_all_dim = settings.get("mscale"), settings.get("mscale_all_dim")
    if attention_factor is None and mscale and mscale_all_dim:
        attention_factor = _yarn_scale(factor, mscale) / _yarn_scale(factor, mscale_all_dim)
    elif attention_factor is None:
        attention_factor = _yarn_scale(factor, 1.0)

    def pair_of(rotations: float) -> float:
        """The pair (as a real number) that turns so often over the original length."""
        return (head_dim * math.log(original / (rotations * 2 * math.pi))) / (2 * math.log(theta))

    low, high = pair_of(settings.get("beta_fast") or 32), pair_of(settings.get("beta_slow") or 1)
    if settings.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001
    ramp = (torch.arange(head_dim // 2, dtype=torch.float32, device="cpu") - low) / (high - low)
    kept = 1 - ramp.clamp(0, 1)
    periods = theta ** (torch.arange(0, head_dim, 2, device="cpu").to(torch.float32) / head_dim)
    return (1.0 / (factor * periods)) * (1 - kept) + (1.0 / periods) * kept, float(attention_factor)


def _yarn_scale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def longrope(settings: Mapping[str, Any], head_dim: int, max_positions: int, length: int) -> Frequencies:
    """LongRoPE (arXiv:2402.13753): a divisor for each pair, another list past the original length."""
    original = settings["original_max_position_embeddings"]
    factor, attention_factor = settings.get("factor"), settings.get("attention_factor")
    if factor is None:
        factor = max_positions / original
    if attention_factor is None:
        attention_factor = 1.0 if factor <= 1.0 else math.sqrt(1 + math.log(factor) / math.log(original))
    divisors = settings["long_factor"] if length > original else settings["short_factor"]
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64, device="cpu").to(torch.float32) / head_dim
    scaled = torch.tensor(divisors, dtype=torch.float32, device="cpu") * settings["rope_theta"] ** exponents
    return 1.0 / scaled, float(attention_factor)


def llama3(settings: Mapping[str, Any], head_dim: int, max_positions: int, length: int) -> Frequencies:
    """Llama 3.1: long waves divided by `factor`, short ones kept, those between mixed smoothly."""
    factor, original = settings["factor"], settings["original_max_position_embeddings"]
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    inverse = default_frequencies(settings["rope_theta"], head_dim)
    wavelength = 2 * math.pi / inverse
    smooth = (original / wavelength - low) / (high - low)
    mixed = (1 - smooth) * inverse / factor + smooth * inverse
    slow, fast = wavelength > original / low, wavelength < original / high
    return torch.where(slow, inverse / factor, torch.where(fast, inverse, mixed)), 1.0


KINDS: dict[str, Callable[[Mapping[str, Any], int, int, int], Frequencies]] = {
    "default": default,
    "linear": linear,
    "dynamic": dynamic,
    "yarn": yarn,
    "longrope": longrope,
    "llama3": llama3,
}


class RotaryEmbedding:
    """Cosines and sines for a model's settings, to be multiplied with (batch, length, heads, head_dim).

    It holds no parameters or buffers: what it keeps is computed where it is used, so a model may be built on
    the meta device, moved and cast without it. Sines of the first half of a head carry the minus sign of the
    rotation, so that turning `x` is `x * cos + swap_halves(x) * sin`.

    `dynamic` and `longrope` depend on the length of the sequence so far, which is the largest position + 1.
    Keys that are already cached are not turned again when it changes. As in transformers 5.23.0, `dynamic`
    remembers the greatest length seen until a sequence shorter than `max_position_embeddings` comes.
    """

    def __init__(self, settings: Mapping[str, Any], head_dim: int, max_position_embeddings: int) -> None:
        self.settings = settings
        self.head_dim = head_dim
        self.max_positions = max_position_embeddings
        self.kind: str = settings["rope_type"]
        self.depends_on_length = self.kind in {"dynamic", "longrope"}
        self._greatest = max_position_embeddings
        self._inverse: dict[torch.device, Frequencies] = {}
        self._tables: dict[tuple[torch.device, torch.dtype], Turns] = {}

    def frequencies(self, length: int = 0) -> Frequencies:
        """Inverse frequencies (float32, on the CPU) and attention factor for `length` tokens."""
        return KINDS[self.kind](self.settings, self.head_dim, self.max_positions, length)

    def run(self, start: int, count: int, device: torch.device, dtype: torch.dtype) -> Turns:
        """Cosines and sines of positions `start` .. `start + count`, each of shape (count, 1, head_dim)."""
        end = start + count
        if self.depends_on_length:
            return self.at(torch.arange(start, end, device=device), dtype, end)
        table = self._tables.get((device, dtype))
        if table is None or len(table[0]) < end:
            # A table that doubles is made a few times in a model's life; a step then costs two views.
            rows = max(end, min(2 * end, self.max_positions), 512)
            table = self._tables[device, dtype] = self.at(torch.arange(rows, device=device), dtype)
        return table[0][start:end], table[1][start:end]

    def at(self, positions: torch.Tensor, dtype: torch.dtype, length: int | None = None) -> Turns:
        """Cosines and sines of `positions`, of shape (..., count): each of shape (..., count, 1, head_dim).

        `length` is the largest position + 1. Without it, the kinds that depend on it look for it, which on an
        accelerator means waiting.
        """
        device = positions.device
        if self.depends_on_length:
            length = int(positions.max()) + 1 if length is None else length
            inverse, factor = self.frequencies(self._effective(length))
            inverse = inverse.to(device)
        else:
            if device not in self._inverse:
                inverse, factor = self.frequencies()
                self._inverse[device] = inverse.to(device), factor
            inverse, factor = self._inverse[device]
        angles = (positions[..., None].to(torch.float32) * inverse).unsqueeze(-2)
        cos, sin = angles.cos() * factor, angles.sin() * factor
        return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)

    def _effective(self, length: int) -> int:
        if self.kind == "dynamic":
            if length > self._greatest:
                self._greatest = length
            elif length < self.max_positions:
                self._greatest = self.max_positions
            return self._greatest
        return length


def rotate(x: torch.Tensor, turns: Turns) -> torch.Tensor:
    """Turn the pairs (i, i + head_dim / 2) of `x` (batch, length, heads, head_dim) by their angles."""
    cos, sin = turns
    # In place on what was just made: fewer buffers, and still the rounding of three operations.
    return (x * cos).add_(x.roll(x.shape[-1] // 2, dims=-1).mul_(sin))
