"""What every format of weights is read as: a configuration, and tensors that are read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of a checkpoint.

    `read()` gives it on the CPU in `dtype` and `shape`, possibly as a view of the mapped file: whoever keeps
    it, keeps the mapping, and whoever drops it, frees the pages.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]

    @property
    def nbytes(self) -> int:
        """The size of the tensor in `dtype`, in bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk in any format, under Hugging Face's names and in Hugging Face's layout.

    `config` is what its `config.json` holds (or would hold), `generation_config` likewise, None without one.
    `path` names the source in messages.
    """

    path: str
    config: dict[str, Any]
    tensors: Mapping[str, LazyTensor]
    generation_config: dict[str, Any] | None = None
    #: Files of the tokenizer that belong to the model: name in a Hugging Face folder -> path.
    tokenizer_files: Mapping[str, str] = field(default_factory=dict)

    def dtype(self) -> torch.dtype:
        """The dtype of the weights: that of most of their bytes."""
        sizes: dict[torch.dtype, int] = {}
        for tensor in self.tensors.values():
            if tensor.dtype.is_floating_point:
                sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.nbytes
        return max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)


#: Tensors of old checkpoints that hold what the configuration says.
COMPUTED = (".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached")


def is_computed(name: str) -> bool:
    """Whether a tensor of an old checkpoint is computed from the configuration nowadays."""
    return name.endswith(COMPUTED) or name == "rope.freqs"
