"""From any format that is read to a folder in Hugging Face's layout, one tensor at a time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from llamatok.weights import meta
from llamatok.weights.checkpoint import Checkpoint, LazyTensor
from llamatok.weights.errors import WeightsError
from llamatok.weights.files import atomic_file
from llamatok.weights.huggingface import write_folder
from llamatok.weights.open import open_checkpoint
from llamatok.weights.progress import ProgressCallback


def convert_meta(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    dtype: torch.dtype | str = "auto",
    max_shard_size: int | str = "5GB",
    max_position_embeddings: int | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    config_overrides: dict[str, Any] | None = None,
    progress: bool | ProgressCallback | None = None,
) -> None:
    """Converts a folder of Meta's (`params.json`, `consolidated.NN.pth`, any number of shards).

    Memory holds one tensor and mapped parts of the shards (half a shard's size together, at most 128 MiB of
    each), where transformers' script (4.37.2) holds all shards. See `convert` for the arguments,
    `meta.read_folder` for `max_position_embeddings`.

    Raises:
        WeightsError: the source is damaged or not what `params.json` says.
    """
    if not meta.is_folder(Path(source)):
        raise WeightsError(f"`{source}` holds no {meta.PARAMS}, so it is no folder of Meta's")
    checkpoint = meta.read_folder(source, max_position_embeddings=max_position_embeddings)
    _write(checkpoint, folder, dtype, max_shard_size, tokenizer, config_overrides or {}, progress)


def convert(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    dtype: torch.dtype | str = "auto",
    max_shard_size: int | str = "5GB",
    tokenizer: str | os.PathLike[str] | None = None,
    config_overrides: dict[str, Any] | None = None,
    progress: bool | ProgressCallback | None = None,
) -> None:
    """Converts a checkpoint of any format that `open_checkpoint` knows to a folder in Hugging Face's layout.

    Args:
        dtype: of the floating-point tensors written; "auto" keeps that of most of them.
        max_shard_size: bytes in a file, or text as "5GB".
        tokenizer: a `tokenizer.model` to copy along; without it the one beside the source, where there is
            one.
        config_overrides: replace single values of the configuration written.

    Raises:
        WeightsError: the source is damaged or of no known format.
    """
    checkpoint = open_checkpoint(source)
    _write(checkpoint, folder, dtype, max_shard_size, tokenizer, config_overrides or {}, progress)


def _write(
    checkpoint: Checkpoint,
    folder: str | os.PathLike[str],
    dtype: torch.dtype | str,
    max_shard_size: int | str,
    tokenizer: str | os.PathLike[str] | None,
    overrides: dict[str, Any],
    progress: bool | ProgressCallback | None,
) -> None:
    if os.path.realpath(folder) == os.path.realpath(checkpoint.path):
        raise WeightsError(f"`{folder}` is the source itself; name another folder to write to")
    if dtype == "auto":
        wanted = checkpoint.dtype()
    else:
        found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype, None)
        if not isinstance(found, torch.dtype) or not found.is_floating_point:
            raise ValueError(f'dtype is "auto" or a floating-point dtype of torch, got {dtype!r}')
        wanted = found
    name = str(wanted).removeprefix("torch.")
    config = {**checkpoint.config, "torch_dtype": name, **overrides}
    config.pop("dtype", None)
    write_folder(
        folder,
        config,
        {name: _cast(lazy, wanted) for name, lazy in checkpoint.tensors.items()},
        generation_config=checkpoint.generation_config or _generation_config(config),
        max_shard_size=max_shard_size,
        progress=progress,
    )
    files = dict(checkpoint.tokenizer_files)
    if tokenizer is not None:
        files = {"tokenizer.model": os.fspath(tokenizer)}
    for file_name, path in files.items():
        with open(path, "rb") as stored, atomic_file(Path(folder, file_name)) as copy:
            shutil.copyfileobj(stored, copy)
    if set(files) == {"tokenizer.model"}:
        _write_tokenizer_files(Path(folder))


def _cast(lazy: LazyTensor, dtype: torch.dtype) -> LazyTensor:
    if lazy.dtype == dtype or not lazy.dtype.is_floating_point:
        return lazy
    return LazyTensor(lazy.shape, dtype, lambda: lazy.read().to(dtype))


def _generation_config(config: dict[str, Any]) -> dict[str, Any]:
    """What transformers' script writes beside the weights."""
    named = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {key: config[key] for key in named if config.get(key) is not None} | {"_from_model_config": True}


def _write_tokenizer_files(folder: Path) -> None:
    """Writes what the drop-in tokenizer writes beside its `tokenizer.model`, for a SentencePiece model."""
    import llamatok

    tokenizer_class: Any = getattr(llamatok, "LlamaTokenizer", None)
    if tokenizer_class is None:
        return
    try:
        tokenizer = tokenizer_class(vocab_file=os.fspath(folder / "tokenizer.model"))
    except llamatok.TokenizerError:
        return  # Llama 3's `tokenizer.model` is no SentencePiece model: it is copied and nothing more.
    tokenizer.save_pretrained(folder)
