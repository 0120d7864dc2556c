"""The files of a saved tokenizer: their names, where they lie, and how they are written."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from llamatok._limited import read_object
from llamatok.tokenization.configured import MAX_TEMPLATE_BYTES, MAX_TEMPLATES, read_text

TOKENIZER_MODEL = "tokenizer.model"
TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
CHAT_TEMPLATE = "chat_template.jinja"
CHAT_TEMPLATE_JSON = "chat_template.json"
MORE_CHAT_TEMPLATES = "additional_chat_templates"

_WANTED = (
    TOKENIZER_MODEL,
    TOKENIZER_JSON,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS_MAP,
    ADDED_TOKENS,
    CHAT_TEMPLATE,
    CHAT_TEMPLATE_JSON,
    f"{MORE_CHAT_TEMPLATES}/*.jinja",
)


def folder_of(
    name: str,
    *,
    subfolder: str | None = None,
    gguf_file: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
    revision: str | None = None,
) -> Path:
    """The folder that a tokenizer's files are in: one on this machine, or one of the hub's cache.

    Args:
        name: The path of a folder, or the name of a repository on the Hugging Face hub.
        subfolder: The folder inside it.
        gguf_file: A file to fetch besides those of a tokenizer.
        cache_dir, force_download, local_files_only, token, revision: See `huggingface_hub`, whose cache is
            used, and whose environment variables (such as HF_HUB_OFFLINE) are heeded.

    Raises:
        OSError: There is neither, or the hub cannot be reached and the cache does not have it.
        ImportError: It is no folder, and huggingface_hub is not installed.
    """
    folder = Path(name)
    if not folder.is_dir():
        if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
            raise OSError(f"{name}: no such file or folder")
        folder = _download(
            name,
            [f"{subfolder}/{file}" if subfolder else file for file in (*_WANTED, gguf_file) if file],
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            revision=revision,
        )
    folder = folder / subfolder if subfolder else folder
    if not folder.is_dir():
        raise OSError(f"{name} has no folder {subfolder}")
    return folder


def _download(name: str, patterns: list[str], **options: Any) -> Path:
    try:
        from huggingface_hub import snapshot_download

        # They have a module of their own in newer versions; here they are in all.
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError as error:
        raise ImportError(
            f"{name} is no folder here; to load it from the Hugging Face hub: pip install 'llamatok[hub]'"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, **options))
    except LocalEntryNotFoundError as error:
        raise OSError(
            f"{name} is no folder here, is not in the hub's cache, and the hub is not to be reached "
            "(offline mode, `local_files_only`, or no connection)"
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise OSError(f"{name} is no folder here, and cannot be loaded from the hub: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file; an empty one if there is no file.

    Raises:
        ValueError: As `read_object`.
    """
    return read_object(path) if path.is_file() else {}


def chat_templates(folder: Path) -> dict[str, str]:
    """The templates that lie in files of their own, by name; "default" is that of `chat_template.jinja`."""
    found: dict[str, str] = {}
    default = folder / CHAT_TEMPLATE
    if default.is_file():
        found["default"] = read_text(default, MAX_TEMPLATE_BYTES)
    more = sorted((folder / MORE_CHAT_TEMPLATES).glob("*.jinja"))
    if len(more) > MAX_TEMPLATES:
        raise ValueError(f"{folder / MORE_CHAT_TEMPLATES}: more than the limit of {MAX_TEMPLATES} templates")
    for path in more:
        if path.is_file():
            found[path.stem] = read_text(path, MAX_TEMPLATE_BYTES)
    return found


def json_text(content: dict[str, Any]) -> bytes:
    """An object as transformers writes it: two spaces of indent, sorted."""
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write(path: Path, data: bytes) -> str:
    """Write a file whole or not at all, and return its path."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are the owner's alone; a saved tokenizer is as readable as any file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return str(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
