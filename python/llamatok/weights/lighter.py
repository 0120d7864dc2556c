"""Lighter weights on load: float16 in a packed layout, int8, or int4, chosen by `weight_format`.

    "fp16-packed"   half the bytes of float32, float32 arithmetic; nearly lossless
    "int8"          a quarter; bfloat16 activations
    "int4"          about a sixth, with int8 for the head over the vocabulary; float32 activations

Every kernel is checked when it is chosen (`llamatok.weights.kernels`): where it is wrong or slow, the layer
stays plain, and one warning at the end tells which and why.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from llamatok.weights.checkpoint import Checkpoint
from llamatok.weights.errors import WeightsError
from llamatok.weights.kernels import (
    Fp16PackedLinear,
    HalfLinear,
    Int4Linear,
    Int8Linear,
    LighterLinear,
    Verdict,
    is_accurate,
    is_fast,
)
from llamatok.weights.load import Plan, Unfilled, converted, fill, finish, plan, put
from llamatok.weights.progress import Progress, ProgressCallback

#: The kinds of each format, the one to try first before the others.
FORMATS: dict[str, tuple[type[LighterLinear], ...]] = {
    "fp16-packed": (HalfLinear, Fp16PackedLinear),
    "int8": (Int8Linear,),
    "int4": (Int4Linear,),
}

_speeds: dict[tuple[Any, ...], Verdict] = {}


class StoredEmbedding(nn.Embedding):
    """An embedding whose table stays in the stored dtype; the rows that are looked up become `dtype`.

    The table is a buffer: it is not for training, and a model's dtype is that of its parameters.
    """

    def __init__(self, table: torch.Tensor, padding_idx: int | None, dtype: torch.dtype) -> None:
        rows, width = table.shape
        with Unfilled():
            super().__init__(rows, width, padding_idx=padding_idx, device="meta")
        del self._parameters["weight"]
        self.register_buffer("weight", table)
        self.result_dtype = dtype

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Ids (...) -> rows (..., embedding_dim)."""
        return F.embedding(input, self.weight).to(self.result_dtype)


def fill_lighter(
    model: nn.Module,
    checkpoint: Checkpoint,
    weight_format: str,
    dtype: torch.dtype,
    device: torch.device | str | None = None,
    *,
    strict: bool = True,
    progress: bool | ProgressCallback | None = None,
) -> None:
    """Gives a model on the meta device the weights of a checkpoint, its linear layers in a lighter format.

    Layers that read the same input are joined first (`fuse`). One group of layers is in memory in full at a
    time, for each of torch's threads: packing for FBGEMM is slow and runs on all of them. `dtype` is that of
    the other parameters and of the activations. The model is for inference and cannot be saved.

    Raises:
        WeightsError: the format is not known, or not for this device.
    """
    if weight_format not in FORMATS:
        raise WeightsError(f"weight_format is one of {', '.join(FORMATS)}, got `{weight_format}`")
    target = torch.device("cpu" if device is None else device)
    if target.type != "cpu":
        _fill_with_torchao(model, checkpoint, weight_format, dtype, target, strict=strict, progress=progress)
        return
    made = plan(model, checkpoint, strict=strict)
    with Progress(f"loading {os.path.basename(checkpoint.path)}", made.nbytes(), progress) as bar:
        _Lightening(model, made, weight_format, dtype, bar).run()
    finish(model, made, dtype, target)
    model.requires_grad_(False)
    model.weight_format = weight_format  # type: ignore[assignment]


class _Lightening:
    """One load: reads groups of layers, packs them on threads, puts them into the model."""

    def __init__(
        self, model: nn.Module, made: Plan, weight_format: str, dtype: torch.dtype, bar: Progress
    ) -> None:
        self.model = model
        self.plan = made
        self.weight_format = weight_format
        self.dtype = dtype
        self.bar = bar
        self.first = {name: first for first, names in made.aliases.items() for name in names}
        self.given: set[str] = set()
        #: Why layers do not have the kernel that comes first, by their path.
        self.declined: dict[str, list[str]] = {}
        self.jobs: list[Future[None]] = []

    def run(self) -> None:
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            for path, parent, names in self._groups():
                self._read(f"{path}." if path else "", names)
                for name in self._joined(parent, names):
                    layer = getattr(parent, name)
                    if layer.weight.is_meta:
                        continue  # a head that the checkpoint lacks
                    full = f"{path}.{name}" if path else name
                    while len(self.jobs) >= threads:
                        self.jobs.pop(0).result()
                    kinds = list(self._kinds(full))
                    while kinds and not self._accepts(kinds[0], layer, full):
                        del kinds[0]
                    self.jobs.append(pool.submit(self._replace, parent, name, kinds, full))
            self._wait()
        for path, module in list(self.model.named_modules()):
            if isinstance(module, nn.Embedding):
                self._read(f"{path}.", [""])
                parent = self.model.get_submodule(path.rpartition(".")[0])
                table = module.weight.detach()
                lighter = StoredEmbedding(table, module.padding_idx, self.dtype)
                setattr(parent, path.rpartition(".")[2], lighter)
        for first, lazy in self.plan.sources.items():
            if first not in self.given:
                put(
                    self.model,
                    self.plan.aliases[first],
                    converted(lazy.read(), self.dtype, torch.device("cpu")),
                )
                self.bar.add(lazy.nbytes)
        if self.declined:
            self._warn()

    def _warn(self) -> None:
        """One warning for all layers that have not the kernel that comes first."""
        grouped: dict[tuple[str, str], list[str]] = {}
        for path, reasons in self.declined.items():
            plain = isinstance(self.model.get_submodule(path), nn.Linear)
            outcome = f"stay plain instead of {self.weight_format}" if plain else "have another kernel"
            grouped.setdefault((outcome, ", ".join(reasons)), []).append(path)
        told = "; ".join(
            f"layers that {outcome}: {reasons} ({len(paths)}, such as {paths[0]})"
            for (outcome, reasons), paths in grouped.items()
        )
        warnings.warn(told, stacklevel=6)

    def _groups(self) -> Iterator[tuple[str, nn.Module, list[str]]]:
        """Modules with the names of their linear layers; the largest layers, which are the heads, first."""
        groups = []
        for path, module in self.model.named_modules():
            names = [name for name, child in module.named_children() if isinstance(child, nn.Linear)]
            if names:
                groups.append((path, module, names))
        return iter(sorted(groups, key=lambda group: group[0].count(".")))

    def _read(self, prefix: str, names: list[str]) -> None:
        """Puts the tensors of some layers into the model in the stored dtype."""
        for name, first in self.first.items():
            wanted = any(name.startswith(f"{prefix}{layer}." if layer else prefix) for layer in names)
            if wanted and first in self.plan.sources and first not in self.given:
                lazy = self.plan.sources[first]
                self.given.add(first)
                put(self.model, self.plan.aliases[first], lazy.read())
                self.bar.add(lazy.nbytes)

    def _joined(self, parent: nn.Module, names: list[str]) -> list[str]:
        if not hasattr(parent, "joins"):
            return names
        fuse: Callable[[], None] = parent.fuse  # type: ignore[assignment]
        fuse()
        return [name for name, child in parent.named_children() if isinstance(child, nn.Linear)]

    def _kinds(self, path: str) -> tuple[type[LighterLinear], ...]:
        # The head decides between neighbouring pieces: 4 bits cost it the most.
        if self.weight_format == "int4" and path == "lm_head":
            return (Int8Linear,)
        return FORMATS[self.weight_format]

    def _accepts(self, kind: type[LighterLinear], layer: nn.Linear, path: str) -> bool:
        """Asks whether the kernel takes the shape and is fast on it, once for each shape."""
        weight = layer.weight.detach()
        reason = kind.refuses(weight)
        if reason is None:
            key = (kind, weight.shape, torch.get_num_threads())
            if key not in _speeds:
                self._wait()  # nothing else may run beside a measurement
                _speeds[key] = is_fast(kind, weight)
            reason = _speeds[key].reason
        if reason:
            self._decline(reason, path)
        return not reason

    def _replace(self, parent: nn.Module, name: str, kinds: list[type[LighterLinear]], path: str) -> None:
        """Puts the first kind that computes what it should in the place of a plain layer."""
        plain: nn.Linear = getattr(parent, name)
        weight = plain.weight.detach()
        bias = None if plain.bias is None else plain.bias.detach()
        for kind in kinds:
            if kind.refuses(weight):
                continue
            layer = kind(weight, bias)
            with torch.inference_mode():
                verdict = is_accurate(layer, weight, bias)
            if verdict.accepted:
                setattr(parent, name, layer)
                return
            self._decline(verdict.reason, path)
        # A plain layer after all, in the dtype of the activations.
        plain.to(self.dtype)

    def _decline(self, reason: str, path: str) -> None:
        reasons = self.declined.setdefault(path, [])
        if reason not in reasons:
            reasons.append(reason)

    def _wait(self) -> None:
        while self.jobs:
            self.jobs.pop(0).result()


def _fill_with_torchao(
    model: nn.Module,
    checkpoint: Checkpoint,
    weight_format: str,
    dtype: torch.dtype,
    device: torch.device,
    *,
    strict: bool,
    progress: bool | ProgressCallback | None,
) -> None:
    """On accelerators, torchao has the kernels."""
    if weight_format == "fp16-packed":
        raise WeightsError("weight_format `fp16-packed` is for the CPU; elsewhere pass dtype=torch.float16")
    try:
        quantization = importlib.import_module("torchao.quantization")
    except ImportError:
        raise WeightsError(
            f"weight_format `{weight_format}` on {device.type} needs torchao: pip install torchao"
        ) from None
    fill(model, checkpoint, dtype, device, strict=strict, progress=progress)
    config = (
        quantization.Int8WeightOnlyConfig()
        if weight_format == "int8"
        else quantization.Int4WeightOnlyConfig(group_size=64)
    )
    quantization.quantize_(model, config)
    model.weight_format = weight_format  # type: ignore[assignment]
