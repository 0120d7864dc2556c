"""Finds out what a source is, and opens it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from llamatok.weights.checkpoint import Checkpoint
from llamatok.weights.errors import WeightsError

#: What a model needs of a repository on the Hub; `original/` holds Meta's files a second time.
HUB_PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")
HUB_BIN_PATTERNS = ("*.json", "*.bin", "tokenizer.model", "*.jinja")

_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


def open_checkpoint(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Checkpoint:
    """Opens a checkpoint of any format that is known, told apart by content.

    A folder with `config.json` is Hugging Face's, one with `params.json` Meta's; a file that starts with
    `GGUF` is llama.cpp's, another file llama2.c's. What is not there is looked up on the Hub.

    Raises:
        WeightsError: the format is not known, or the files are not what the format asks for.
        FileNotFoundError: there is no such file, and the name cannot be a repository on the Hub.
    """
    path = Path(source)
    if path.exists():
        return _open_path(path)
    name = os.fspath(source)
    if not _REPOSITORY.fullmatch(name) or name.startswith((".", "/")):
        raise FileNotFoundError(2, "there is no such file or folder, and it is no name on the Hub", name)
    return _open_path(
        Path(
            _from_hub(
                name,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                token=token,
            )
        )
    )


def format_of(path: str | os.PathLike[str]) -> str:
    """The format of what is at `path`: "hf", "meta", "gguf" or "llama2c" (the last is all that is left).

    Raises:
        WeightsError: a folder holds no model, or a file is a part of one.
    """
    from llamatok.weights import huggingface, meta

    place = Path(path)
    if place.is_dir():
        if huggingface.is_folder(place):
            return "hf"
        if meta.is_folder(place):
            return "meta"
        raise WeightsError(
            f"`{path}` holds no model: expected config.json (Hugging Face) or params.json (Meta)"
        )
    with place.open("rb") as file:
        if file.read(4) == b"GGUF":
            return "gguf"
    if place.suffix in (".safetensors", ".pth", ".pt", ".json", ".index"):
        raise WeightsError(f"`{path}` is one file of a checkpoint; give the folder that holds it")
    return "llama2c"


def _open_path(path: Path) -> Checkpoint:
    kind = format_of(path)
    if kind == "hf":
        from llamatok.weights.huggingface import read_folder as read_huggingface

        return read_huggingface(path)
    if kind == "meta":
        from llamatok.weights.meta import read_folder as read_meta

        return read_meta(path)
    if kind == "gguf":
        from llamatok.weights.gguf import read_gguf

        return read_gguf(path)
    from llamatok.weights.llama2c import read_llama2c

    return read_llama2c(path)


def _from_hub(
    name: str,
    *,
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
    token: str | bool | None,
) -> str:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise FileNotFoundError(
            2, "there is no such folder; to look on the Hub: pip install 'llamatok[hub]'", name
        ) from None
    options: dict[str, Any] = {
        "revision": revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
        "token": token,
    }
    try:
        folder = snapshot_download(name, allow_patterns=list(HUB_PATTERNS), **options)
        if not any(Path(folder).glob("*.safetensors")):
            folder = snapshot_download(name, allow_patterns=list(HUB_BIN_PATTERNS), **options)
    except LocalEntryNotFoundError:
        raise WeightsError(
            f"`{name}` is no folder here, is not in the cache of the Hub, and the Hub cannot be reached"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise WeightsError(f"`{name}` cannot be taken from the Hub: {error}") from None
    return str(folder)
