"""Linear layers over weights of fewer bits: how they store, how they multiply, and whether they may be used.

Each kind names a kernel, of torch or our own, and says what its weights are rounded to. A kind is chosen for
a shape only after it has been compared with a product of its own rounded weights and timed against a plain
layer: some of torch's quantized kernels are slow, or wrong, on one processor and good on the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from llamatok import _core
from llamatok._linear import MOST_ROWS, gomp_parallel, is_followed

#: Rows of a weight that a check of speed looks at; more tell nothing new and cost memory.
CHECKED_ROWS = 4096
#: Rows of a result that are compared with the reference.
COMPARED_ROWS = 256
#: A kernel is too slow if it takes more than this share of a plain layer's time, for 1 row or for 8.
SLOWER = 1.25
#: Numbers of float16 weights that are made float32 at a time for more rows.
BLOCK = 2 << 20
#: Bytes of float32 weights in one timed run: more than the caches nearest to a core hold.
CYCLED_BYTES = 16 << 20


class LighterLinear(nn.Module):
    """Takes the place of an `nn.Linear` for inference: (..., in_features) -> (..., out_features), in the
    dtype of its input. `limit` is the largest error, as a share of the largest result, against a product
    with the rounded weights; `rounding` is how far these may be from the weights themselves, as a share of
    their norm."""

    limit: float = 0.0
    rounding: float = 0.0

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.has_bias = bias is not None

    @classmethod
    def refuses(cls, weight: torch.Tensor) -> str | None:
        """Why the kernel cannot take a weight of this shape; None where it can."""
        return None

    def rounded(self, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Those rows of the weight as this layer has them, float32."""
        raise AssertionError("each kind has its own")

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.has_bias}"


class HalfLinear(LighterLinear):
    """Weights rounded to float16, row by row in a plain buffer; products and sums in float32.

    A few rows of input are multiplied by llamatok's own kernel, whose time is that of reading the weights.
    """

    limit = 1e-4
    rounding = 1e-3
    #: `weight` and `bias` are all there is to it, so that whole layers of the core can take them.
    is_half_linear = True

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(weight, bias)
        self.weight: torch.Tensor
        self.bias: torch.Tensor | None
        self.register_buffer("weight", weight.detach().to(torch.float16).contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    @classmethod
    def refuses(cls, weight: torch.Tensor) -> str | None:
        return _too_large_for_float16(weight)

    def rounded(self, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return weight[rows].to(torch.float16).float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, plus the bias."""
        weight, bias = self.weight, self.bias
        if (
            weight.dtype != torch.float16
            or x.device.type != "cpu"
            or (x.requires_grad and torch.is_grad_enabled())
            or (is_followed() and not torch.compiler.is_compiling())
        ):
            # Moved or converted; or a gradient is asked for, or the operations themselves.
            return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
        product = torch.ops.llamatok.half_linear if torch.compiler.is_compiling() else half_linear
        out: torch.Tensor = product(x.reshape(-1, self.in_features).float().contiguous(), weight, bias)
        return out.to(x.dtype).reshape(*x.shape[:-1], self.out_features)


def half_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`x` (rows, inputs) float32 times `weight` (outputs, inputs) float16, plus `bias` (outputs,): float32.

    All on the CPU and contiguous. More than `MOST_ROWS` rows are multiplied by torch, with blocks of the
    weight made float32 just before.
    """
    out = x.new_empty(len(x), len(weight))
    if len(x) <= MOST_ROWS:
        _core.linear(
            x.detach().numpy(),
            weight.numpy(),
            None if bias is None else bias.numpy(),
            out.numpy(),
            torch.get_num_threads(),
            gomp_parallel(),
        )
        return out
    step = max(1, BLOCK // weight.shape[1])
    wide = _scratch(step * weight.shape[1])
    for start in range(0, len(weight), step):
        part = weight[start : start + step]
        block = wide[: part.numel()].view_as(part).copy_(part)
        torch.mm(x, block.T, out=out[:, start : start + step])
    return out if bias is None else out.add_(bias)


@torch.library.custom_op("llamatok::half_linear", mutates_args=())
def _half_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The same for compiled models, which cannot look inside."""
    return half_linear(x, weight, bias)


@_half_linear.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


_scratches = threading.local()


def _scratch(count: int) -> torch.Tensor:
    """Room for `count` float32 numbers, kept for the next call: fresh memory is slow to write to."""
    found: torch.Tensor | None = getattr(_scratches, "room", None)
    if found is None or len(found) < count:
        with torch.inference_mode(False):
            found = _scratches.room = torch.empty(count)
    return found


def _too_large_for_float16(weight: torch.Tensor) -> str | None:
    largest = float(weight.detach().abs().max())
    if not largest <= torch.finfo(torch.float16).max:
        return f"a weight of {largest:.3g} is too large for float16"
    return None


class Fp16PackedLinear(LighterLinear):
    """Weights rounded to float16 and laid out by FBGEMM, products and sums in float32."""

    limit = 1e-4
    rounding = 1e-3

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(weight, bias)
        full = weight.detach().to(torch.float32).contiguous()
        self._packed = torch.ops.quantized.linear_prepack_fp16(
            full, None if bias is None else bias.detach().to(torch.float32).contiguous()
        )

    @classmethod
    def refuses(cls, weight: torch.Tensor) -> str | None:
        if not hasattr(torch.ops.quantized, "linear_prepack_fp16"):
            return "this build of torch has no FBGEMM"
        return _too_large_for_float16(weight)

    def rounded(self, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return weight[rows].to(torch.float16).float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, plus the bias."""
        if x.dim() < 2:
            return self.forward(x[None])[0]
        if x.dtype != torch.float32:
            return self.forward(x.float()).to(x.dtype)
        out: torch.Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return out


class Int8Linear(LighterLinear):
    """Weights in int8 with a scale for each output, symmetric; activations rounded to bfloat16, sums in
    float32."""

    limit = 1e-2
    rounding = 0.1

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(weight, bias)
        full = weight.detach().float()
        # The kernel takes the scales in bfloat16; numbers are counted in the rounded scale.
        scale = (full.abs().amax(dim=1).clamp_(min=1e-12) / 127).to(torch.bfloat16)
        numbers = full / scale.float()[:, None]
        self.numbers: torch.Tensor
        self.scale: torch.Tensor
        self.bias: torch.Tensor | None
        self.register_buffer("numbers", numbers.round_().clamp_(-127, 127).to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    @classmethod
    def refuses(cls, weight: torch.Tensor) -> str | None:
        if not hasattr(torch.ops.aten, "_weight_int8pack_mm"):
            return "this torch has no kernel for int8 weights"
        # With other numbers of inputs the kernel reads past the end of the rows, and crashes (torch 2.15).
        return f"{weight.shape[1]} inputs are no multiple of 32" if weight.shape[1] % 32 else None

    def rounded(self, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return self.numbers[rows].float() * self.scale[rows].float()[:, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, plus the bias."""
        flat = x.reshape(-1, self.in_features).to(torch.bfloat16)
        out: torch.Tensor = torch.ops.aten._weight_int8pack_mm(flat, self.numbers, self.scale)
        out = out.to(x.dtype).reshape(*x.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class Int4Linear(LighterLinear):
    """Weights in 4 bits with a scale and a zero point for each group of inputs, asymmetric; activations
    rounded to bfloat16 (torch's kernel for float32 is some 30 times slower), sums in float32."""

    limit = 1e-2
    rounding = 0.3
    group_sizes = (64, 32)

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(weight, bias)
        self.group = next(size for size in self.group_sizes if self.in_features % size == 0)
        groups = weight.detach().float().reshape(self.out_features, -1, self.group)
        low, high = groups.amin(dim=2, keepdim=True), groups.amax(dim=2, keepdim=True)
        # The kernel takes both in bfloat16, and its zero point is a value: that of number 8.
        scale = ((high - low) / 15).clamp_(min=1e-12).to(torch.bfloat16).float()
        zero = (low + 8 * scale).to(torch.bfloat16).float()
        numbers = ((groups - zero) / scale + 8).round_().clamp_(0, 15)
        self.packed: torch.Tensor
        self.scales: torch.Tensor
        self.bias: torch.Tensor | None
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
            numbers.reshape(self.out_features, -1).to(torch.int32), 1
        )
        self.register_buffer("packed", packed)
        self.register_buffer(
            "scales", torch.cat([scale, zero], dim=2).transpose(0, 1).contiguous().to(torch.bfloat16)
        )
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    @classmethod
    def refuses(cls, weight: torch.Tensor) -> str | None:
        if not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
            return "this torch has no kernel for int4 weights on the CPU"
        rows, columns = weight.shape
        if rows % 16 or all(columns % size for size in cls.group_sizes):
            return f"{columns} inputs and {rows} outputs are no multiples of 32 and 16"
        return None

    def rounded(self, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        # Rounded anew from the weight: what the kernel's layout holds is its own affair.
        groups = weight[rows].float().reshape(len(rows), -1, self.group)
        scale, zero = self.scales[:, rows].transpose(0, 1).float().unsqueeze(-2).unbind(-1)
        numbers = ((groups - zero) / scale + 8).round().clamp(0, 15)
        return ((numbers - 8) * scale + zero).reshape(len(rows), -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, plus the bias."""
        flat = x.reshape(-1, self.in_features).to(torch.bfloat16)
        out: torch.Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            flat, self.packed, self.group, self.scales
        )
        out = out.to(x.dtype).reshape(*x.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias.to(out.dtype)


@dataclass(frozen=True)
class Verdict:
    """Whether a kernel may be used, and if not, why."""

    accepted: bool
    reason: str = ""


def is_accurate(layer: LighterLinear, weight: torch.Tensor, bias: torch.Tensor | None) -> Verdict:
    """Compares a layer with a product of its own rounded weights, for 1, 8 and 33 rows of random input.

    Some rows of the weight stand for all, chosen evenly.
    """
    generator = torch.Generator().manual_seed(0)
    rows = torch.linspace(0, layer.out_features - 1, min(COMPARED_ROWS, layer.out_features)).long()
    expected_weight = layer.rounded(weight, rows)
    original = weight[rows].float()
    lost = float((expected_weight - original).norm() / original.norm().clamp(min=1e-30))
    if not lost <= layer.rounding:
        return Verdict(False, f"rounding changes the weights by {lost:.1e} of their norm")
    for count in (1, 8, 33):
        x = torch.randn(count, layer.in_features, generator=generator)
        expected = F.linear(x, expected_weight, None if bias is None else bias[rows].float())
        found = layer(x)[:, rows]
        error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
        if not error <= layer.limit:
            return Verdict(False, f"its error is {error:.1e} of the largest result")
    return Verdict(True)


def is_fast(kind: type[LighterLinear], weight: torch.Tensor) -> Verdict:
    """Times a kind against a plain float32 layer of the same weight, for 1 and 8 rows of input.

    Each timed run goes over as many copies as it takes to leave the caches behind, for in a model a weight is
    not read again before all others were.
    """
    part = weight[:CHECKED_ROWS].detach().float().contiguous()
    copies = max(1, CYCLED_BYTES // part.nbytes)
    plain = [part.clone() for _ in range(copies)]
    layers = [kind(part, None) for _ in range(copies)]
    for count in (1, 8):
        x = torch.randn(count, part.shape[1])
        usual, mine = _best_times(
            lambda x=x: [F.linear(x, part) for part in plain],  # type: ignore[misc]
            lambda x=x: [layer(x) for layer in layers],  # type: ignore[misc]
        )
        if mine > SLOWER * usual:
            return Verdict(False, f"for {count} rows it takes {mine / usual:.1f} times a plain layer's time")
    return Verdict(True)


def _best_times(*runs: Callable[[], object]) -> list[float]:
    """The shortest of some interleaved runs of each, in seconds."""
    best = [float("inf")] * len(runs)
    for _ in range(8):
        for number, run in enumerate(runs):
            started = time.perf_counter()
            run()
            best[number] = min(best[number], time.perf_counter() - started)
    return best
