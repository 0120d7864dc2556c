"""Folders in Hugging Face's layout: `config.json` beside safetensors or `.bin` files, in one piece or
in shards."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llamatok.weights.checkpoint import Checkpoint, LazyTensor
from llamatok.weights.errors import WeightsError
from llamatok.weights.files import atomic_file, file_within, read_json, write_json
from llamatok.weights.pickled_file import read_bin
from llamatok.weights.progress import Progress, ProgressCallback
from llamatok.weights.safetensors_file import SafetensorsWriter, read_safetensors

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
BIN = "pytorch_model.bin"
BIN_INDEX = "pytorch_model.bin.index.json"
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)

#: What `save` may leave of an earlier save under another number of shards.
_OWN_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder in Hugging Face's layout."""
    return (path / CONFIG).is_file()


def read_folder(folder: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a folder. Weights are looked for as transformers does: `model.safetensors`, its
    shards, `pytorch_model.bin`, its shards.

    Raises:
        WeightsError: there are no weights, the index leads elsewhere, or the weights are quantized.
    """
    root = Path(folder)
    config = read_json(root / CONFIG)
    method = config.get("quantization_config")
    if method:
        name = method.get("quant_method", "unknown") if isinstance(method, dict) else method
        raise WeightsError(
            f"`{root / CONFIG}` says that the weights are quantized ({name}), which is not supported;"
            " take the checkpoint it was made from and pass weight_format="
        )
    generation = root / GENERATION_CONFIG
    return Checkpoint(
        path=os.fspath(folder),
        config=config,
        generation_config=read_json(generation) if generation.is_file() else None,
        tensors=_read_weights(root),
        tokenizer_files={name: os.fspath(root / name) for name in TOKENIZER_FILES if (root / name).is_file()},
    )


def _read_weights(root: Path) -> dict[str, LazyTensor]:
    if (root / SAFETENSORS).is_file():
        return read_safetensors(root / SAFETENSORS)
    if (root / SAFETENSORS_INDEX).is_file():
        return _read_shards(root / SAFETENSORS_INDEX, read_safetensors)
    if (root / BIN).is_file():
        return read_bin(root / BIN)
    if (root / BIN_INDEX).is_file():
        return _read_shards(root / BIN_INDEX, read_bin)
    raise WeightsError(
        f"`{root}` has a {CONFIG} but no weights: expected {SAFETENSORS}, {SAFETENSORS_INDEX}, {BIN}"
        f" or {BIN_INDEX}"
    )


def _read_shards(index: Path, read: Any) -> dict[str, LazyTensor]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict):
        raise WeightsError(f"`{index}` has no object `weight_map`")
    by_file: dict[str, list[str]] = {}
    for name, file in places.items():
        if not isinstance(file, str):
            raise WeightsError(f"`{index}` names a file that is no relative path: {file!r}")
        # Spelled in one way, so that no file is read more than once: not "./a" beside "a".
        by_file.setdefault(str(Path(file)) if file else file, []).append(name)
    tensors: dict[str, LazyTensor] = {}
    absent: list[str] = []
    for file, names in by_file.items():
        found = read(file_within(index.parent, file, index))
        absent += [f"{name} (in {file})" for name in names if name not in found]
        tensors |= {name: found[name] for name in names if name in found}
    if absent:
        raise WeightsError(
            f"`{index}` promises tensors that its files do not hold: {', '.join(sorted(absent))}"
        )
    return tensors


# ---------------------------------------------------------------------------------------------- saving


def parse_size(size: int | str) -> int:
    """A size in bytes: a number, or text as `5GB`, `500MB`, `2GiB` (powers of 10, and of 2 with an i).

    Raises:
        ValueError: the text is no size, or the size is not above 0.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B\s*", size, re.IGNORECASE)
        if match is None:
            raise ValueError(f"expected a size such as `5GB` or `500MiB`, got `{size}`")
        number, unit, binary = match.groups()
        bytes_ = float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " ")
        size = int(min(bytes_, 1 << 63))
    if size <= 0:
        raise ValueError(f"a shard needs room for more than {size} bytes")
    return size


def write_folder(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    tensors: Mapping[str, LazyTensor],
    *,
    generation_config: Mapping[str, Any] | None = None,
    max_shard_size: int | str = "5GB",
    progress: bool | ProgressCallback | None = None,
) -> None:
    """Writes a folder in Hugging Face's layout, reading one tensor at a time.

    Every file is written under a temporary name, synced, and renamed once all shards are complete, so that a
    save that breaks off leaves what was there. Weights of an earlier save in other shards go at the end.
    `max_shard_size` limits each file (a tensor larger than it gets a file of its own). The metadata
    `{"format": "pt"}` is what transformers asks for.

    Raises:
        WeightsError: `folder` is a file, or a tensor's dtype cannot be stored.
    """
    root = Path(folder)
    if root.is_file():
        raise WeightsError(f"`{root}` is a file; a folder is needed")
    root.mkdir(parents=True, exist_ok=True)
    shards = _plan(tensors, parse_size(max_shard_size))
    total = sum(tensor.nbytes for tensor in tensors.values())
    written: set[str] = set()
    with Progress(f"saving {root.name}", total, progress) as bar, contextlib.ExitStack() as renames:
        weight_map: dict[str, str] = {}
        for number, names in enumerate(shards, 1):
            file_name = (
                SAFETENSORS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            )
            # The names appear together when all shards are complete.
            file = renames.enter_context(atomic_file(root / file_name))
            # Wide dtypes first, as the library does: every tensor is then aligned to its elements.
            names.sort(key=lambda name: -tensors[name].dtype.itemsize)
            entries = [(name, tensors[name].shape, tensors[name].dtype) for name in names]
            writer = SafetensorsWriter(file, entries, {"format": "pt"})
            for name in names:
                writer.write(name, tensors[name].read())
                bar.add(tensors[name].nbytes)
            file.flush()
            weight_map |= dict.fromkeys(names, file_name)
            written.add(file_name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(root / SAFETENSORS_INDEX, index)
        written.add(SAFETENSORS_INDEX)
    write_json(root / CONFIG, dict(config))
    if generation_config is not None:
        write_json(root / GENERATION_CONFIG, dict(generation_config))
    for name in _own_files(root):
        if name not in written:
            (root / name).unlink()


def _plan(tensors: Mapping[str, LazyTensor], limit: int) -> list[list[str]]:
    """The names of each shard, in the order of the tensors."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def _own_files(root: Path) -> Iterator[str]:
    return iter([name for name in os.listdir(root) if _OWN_WEIGHTS.fullmatch(name)])
