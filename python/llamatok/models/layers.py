"""Linear layers: how the models make them, join them for inference, and let others take their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_fast": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "mish": F.mish,
    "linear": lambda x: x,
}


def activation(name: str | Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function of that name, or the one given. ValueError for a name that is not known."""
    if callable(name):
        return name
    if name not in ACTIVATIONS:
        known = ", ".join(f"`{known}`" for known in ACTIVATIONS)
        raise ValueError(f"`hidden_act` `{name}` is unknown; there are {known}, and any function will do")
    return ACTIVATIONS[name]


class SlicedLinear(nn.Linear):
    """A linear layer that adds up `slices` products over parts of its input, as its ranks did in pretraining.

    `pretraining_tp` of the configuration: slower, and nearer to what the checkpoint was trained with
    (transformers 4.37.2). There the sum leaves out the bias, which is a mistake not repeated here.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool, slices: int) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.slices = slices

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = self.in_features // self.slices
        parts = zip(torch.split(x, width, dim=-1), torch.split(self.weight, width, dim=1), strict=True)
        total: torch.Tensor | None = None
        for piece, weight in parts:
            product = F.linear(piece, weight)
            total = product if total is None else total + product
        assert total is not None
        return total if self.bias is None else total + self.bias


def linear(in_features: int, out_features: int, *, bias: bool = False, slices: int = 1) -> nn.Linear:
    """The one place where the models make a linear layer.

    Whatever is called with (..., in_features) and gives (..., out_features) may take its place in a finished
    model; see `replace_linears`.
    """
    if slices > 1:
        return SlicedLinear(in_features, out_features, bias, slices)
    return nn.Linear(in_features, out_features, bias=bias)


def replace_linears(model: nn.Module, make: Callable[[str, nn.Linear], nn.Module | None]) -> int:
    """Put `make(name, layer)` where it gives a module in place of each linear layer; return how many changed.

    Join first (`model.fuse()`), for joined layers are the larger ones. `name` is the path in the model, as
    `model.layers.0.mlp.down_proj`.
    """
    changed = 0
    for path, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                replacement = make(f"{path}.{name}" if path else name, child)
                if replacement is not None and replacement is not child:
                    setattr(parent, name, replacement)
                    changed += 1
    return changed


class Fusable(nn.Module):
    """A module some of whose linear layers read the same input and can be joined into one.

    One large product is quicker than several small ones. State dictionaries keep the names of the parts
    either way, so a joined model is saved and loaded like any other. The parameters themselves are new
    objects: join after training, or before an optimizer is made.
    """

    joins: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, dict[str, int]] = {}
        self.register_state_dict_post_hook(_split_entries)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_join_entries)  # type: ignore[no-untyped-call]

    @property
    def is_fused(self) -> bool:
        """Whether `fuse` has joined the layers."""
        return bool(self._rows)

    @torch.no_grad()
    def fuse(self) -> None:
        """Join, one layer in memory twice at a time; ValueError where a part is no linear layer."""
        for joined, names in {} if self.is_fused else self.joins.items():
            parts = [getattr(self, name) for name in names]
            for name, part in zip(names, parts, strict=True):
                if not isinstance(part, nn.Linear):
                    raise ValueError(
                        f"`{name}` is a {type(part).__name__} and cannot be joined; call `fuse` before"
                    )
            whole = nn.Linear(
                parts[0].in_features, sum(part.out_features for part in parts), bias=False, device="meta"
            )
            whole.weight = nn.Parameter(
                torch.cat([part.weight for part in parts]), requires_grad=parts[0].weight.requires_grad
            )
            if parts[0].bias is not None:
                whole.bias = nn.Parameter(torch.cat([part.bias for part in parts]))
            for name in names:
                delattr(self, name)
            setattr(self, joined, whole)
            self._rows[joined] = {name: part.out_features for name, part in zip(names, parts, strict=True)}

    @torch.no_grad()
    def unfuse(self) -> None:
        """Take apart what `fuse` joined."""
        for joined, rows in self._rows.items():
            whole = getattr(self, joined)
            if not isinstance(whole, nn.Linear):
                raise ValueError(f"`{joined}` is a {type(whole).__name__} and cannot be taken apart")
            start = 0
            for name, count in rows.items():
                part = nn.Linear(whole.in_features, count, bias=False, device="meta")
                part.weight = nn.Parameter(whole.weight[start : start + count].clone())
                if whole.bias is not None:
                    part.bias = nn.Parameter(whole.bias[start : start + count].clone())
                setattr(self, name, part)
                start += count
            delattr(self, joined)
        self._rows = {}


def _split_entries(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: object) -> None:
    assert isinstance(module, Fusable)
    for joined, rows in module._rows.items():
        for kind in ("weight", "bias"):
            whole = state.pop(f"{prefix}{joined}.{kind}", None)
            if isinstance(whole, torch.Tensor):
                for name, part in zip(rows, torch.split(whole, list(rows.values())), strict=True):
                    state[f"{prefix}{name}.{kind}"] = part


def _join_entries(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    assert isinstance(module, Fusable)
    for joined, rows in module._rows.items():
        for kind in ("weight", "bias"):
            names = [f"{prefix}{name}.{kind}" for name in rows]
            if all(name in state for name in names):
                state[f"{prefix}{joined}.{kind}"] = torch.cat([state.pop(name) for name in names])
