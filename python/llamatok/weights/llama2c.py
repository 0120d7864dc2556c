"""Checkpoints of llama2.c (`.bin`): version 0, which has no magic number, and versions 1 and 2 (`ak42`).

Source: `export.py` and `run.c` of karpathy/llama2.c. Everything is little-endian; tensors follow one another
without names; query and key rows are in Meta's order.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
import torch

from llamatok.weights.checkpoint import Checkpoint, LazyTensor
from llamatok.weights.errors import WeightsError
from llamatok.weights.layout import LAYER_NAMES, halves_from_pairs

MAGIC = 0x616B3432  # "ak42"
HEADER_BYTES = 256

_MATRICES = (
    "attention.wq",
    "attention.wk",
    "attention.wv",
    "attention.wo",
    "feed_forward.w1",
    "feed_forward.w2",
    "feed_forward.w3",
)


class _Shape:
    """The numbers of the header."""

    def __init__(self, path: str, numbers: tuple[int, ...], tied: bool) -> None:
        self.dim, self.hidden, self.layers, self.heads, self.kv_heads, self.vocabulary, self.length = numbers
        self.tied = tied
        limits = min(numbers) < 1 or max(numbers) > 1 << 27 or self.layers > 1 << 12
        if limits or self.dim % self.heads or self.heads % self.kv_heads or self.dim // self.heads % 2:
            raise WeightsError(f"`{path}` is no file of llama2.c: its header makes no model")
        self.kv_dim = self.dim // self.heads * self.kv_heads

    def of(self, name: str) -> tuple[int, ...]:
        shapes = {
            "attention.wq": (self.dim, self.dim),
            "attention.wk": (self.kv_dim, self.dim),
            "attention.wv": (self.kv_dim, self.dim),
            "attention.wo": (self.dim, self.dim),
            "feed_forward.w1": (self.hidden, self.dim),
            "feed_forward.w2": (self.dim, self.hidden),
            "feed_forward.w3": (self.hidden, self.dim),
            "tok_embeddings": (self.vocabulary, self.dim),
            "output": (self.vocabulary, self.dim),
            "freqs": (self.length, self.dim // self.heads // 2),
        }
        return shapes.get(name, (self.dim,))


def read_llama2c(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a file of llama2.c.

    Raises:
        WeightsError: the file's size is not what its header asks for, so it is damaged or something else.
    """
    file_name = os.fspath(path)
    with open(file_name, "rb") as file:
        header = file.read(HEADER_BYTES)
    if len(header) < 28:
        raise WeightsError(f"`{path}` is no file of llama2.c: it is too short for a header")
    magic, version = struct.unpack("<Ii", header[:8])
    if magic != MAGIC:
        numbers = struct.unpack("<7i", header[:28])
        # A negative number of pieces says that the classifier has weights of its own.
        shape = _Shape(file_name, (*numbers[:5], abs(numbers[5]), numbers[6]), tied=numbers[5] > 0)
        start, group, order = 28, 0, _order_0(shape)
    elif version in (1, 2) and len(header) == HEADER_BYTES:
        shape = _Shape(file_name, struct.unpack("<7i", header[8:36]), tied=bool(header[36]))
        group = struct.unpack("<i", header[37:41])[0] if version == 2 else 0
        if version == 2 and not 0 < group <= 1 << 20:
            raise WeightsError(f"`{path}`: the size of quantization groups is {group}")
        start, order = HEADER_BYTES, _order_1(shape)
    else:
        raise WeightsError(f"`{path}` is a file of llama2.c of version {version}; 0, 1 and 2 are read")

    tensors: dict[str, LazyTensor] = {}
    for name, layer in order:
        size = shape.of(name)
        quantized = bool(group) and "norm" not in name
        if quantized and prod(size) % group:
            raise WeightsError(f"`{path}`: `{name}` does not fall into groups of {group}")
        nbytes = prod(size) + prod(size) // group * 4 if quantized else prod(size) * 4
        if not name.startswith("freqs"):
            read = _reader(file_name, start, nbytes, size, group if quantized else 0)
            tensors[_renamed(name, layer)] = LazyTensor(size, torch.float32, _in_halves(read, name, shape))
        start += nbytes
    found = os.path.getsize(path)
    if start != found:
        raise WeightsError(
            f"`{path}` is no file of llama2.c, or is cut short: its header asks for {start:,} bytes,"
            f" it has {found:,}"
        )
    return Checkpoint(path=file_name, config=_config(shape), tensors=tensors)


def _order_0(shape: _Shape) -> Iterator[tuple[str, int]]:
    yield "tok_embeddings", 0
    for name in ("attention_norm", *_MATRICES[:4], "ffn_norm", *_MATRICES[4:]):
        yield from ((name, layer) for layer in range(shape.layers))
    yield "norm", 0
    yield "freqs", 0
    yield "freqs", 1
    if not shape.tied:
        yield "output", 0


def _order_1(shape: _Shape) -> Iterator[tuple[str, int]]:
    for name in ("attention_norm", "ffn_norm"):
        yield from ((name, layer) for layer in range(shape.layers))
    yield "norm", 0
    yield "tok_embeddings", 0
    for name in _MATRICES:
        yield from ((name, layer) for layer in range(shape.layers))
    if not shape.tied:
        yield "output", 0


def _renamed(name: str, layer: int) -> str:
    own = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}.get(name)
    return f"{own}.weight" if own else f"model.layers.{layer}.{LAYER_NAMES[name]}.weight"


def _reader(
    path: str, start: int, nbytes: int, size: tuple[int, ...], group: int
) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        stored = np.memmap(path, dtype=np.uint8, mode="c", offset=start, shape=(nbytes,))
        if not group:
            return torch.from_numpy(stored.view("<f4")).reshape(size)
        # Symmetric int8 in groups: all numbers, then a float32 scale for each group.
        numbers = torch.from_numpy(stored[: prod(size)].view(np.int8)).reshape(-1, group)
        scales = torch.from_numpy(stored[prod(size) :].view("<f4"))
        return (numbers * scales[:, None]).reshape(size)

    return read


def _in_halves(read: Callable[[], torch.Tensor], name: str, shape: _Shape) -> Callable[[], torch.Tensor]:
    heads = {"attention.wq": shape.heads, "attention.wk": shape.kv_heads}.get(name)
    return read if heads is None else lambda: halves_from_pairs(read(), heads)


def _config(shape: _Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.dim,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": shape.length,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": shape.tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
