"""From a model to a folder in Hugging Face's layout."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from llamatok.weights.checkpoint import LazyTensor
from llamatok.weights.errors import WeightsError
from llamatok.weights.huggingface import write_folder
from llamatok.weights.progress import ProgressCallback


def save_pretrained(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    max_shard_size: int | str = "5GB",
    state_dict: Mapping[str, torch.Tensor] | None = None,
    progress: bool | ProgressCallback | None = None,
) -> None:
    """Writes a model that `from_pretrained` and transformers read: `config.json`, safetensors, and
    `generation_config.json` where the model has one. See `huggingface.write_folder` for how.

    Tied parameters are stored once, under their first name, as transformers does. `state_dict` stands in for
    the model's own (gathered from several processes, say).

    Raises:
        WeightsError: the weights are packed or quantized; what is saved must be what a model is made of.
    """
    lighter = getattr(model, "weight_format", None)
    if state_dict is None and lighter is not None:
        raise WeightsError(
            f"a model whose weights are {lighter} cannot be saved; save the one it was loaded from"
        )
    if state_dict is None and any(hasattr(tensor, "full_tensor") for tensor in model.parameters()):
        raise WeightsError(
            "a model that is spread over processes is saved by one of them:"
            " pass state_dict=llamatok.models.parallel.gathered_state_dict(model), which all have to call"
        )
    state = model.state_dict() if state_dict is None else state_dict
    tensors: dict[str, LazyTensor] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in state.items():
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        if tensor.numel() and seen.setdefault(identity, name) != name:
            continue
        tensors[name] = _lazy(tensor)
    generation = getattr(model, "generation_config", None)
    write_folder(
        folder,
        _config_of(model, tensors),
        tensors,
        generation_config=generation.to_dict() if generation is not None else None,
        max_shard_size=max_shard_size,
        progress=progress,
    )


def _lazy(tensor: torch.Tensor) -> LazyTensor:
    return LazyTensor(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def _config_of(model: nn.Module, tensors: Mapping[str, LazyTensor]) -> dict[str, Any]:
    config: Any = model.config
    # The text that configurations write holds the older spellings too, for older readers.
    values = json.loads(config.to_json_string()) if hasattr(config, "to_json_string") else config.to_dict()
    values["architectures"] = [type(model).__name__]
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.dtype.is_floating_point), None)
    if dtype is not None:
        values["dtype"] = values["torch_dtype"] = str(dtype).removeprefix("torch.")
    return dict(values)
