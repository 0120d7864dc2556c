"""Files of strangers, read no further than a limit."""

from __future__ import annotations

import json
import os
from typing import Any

#: The largest JSON file of a folder, in bytes; an index of shards has some 100 a tensor. (A `tokenizer.json`
#: may have 256 MiB, which the core checks.)
MAX_JSON_BYTES = 64 << 20


def read_limited(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a file that has at most `limit` bytes; of a longer one no more than that is read.

    Raises:
        ValueError: It has more.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{os.fspath(path)}: more than the limit of {limit} bytes for such a file")
    return data


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object of a JSON file. Of a key that comes twice the last counts.

    Raises:
        ValueError: It is not JSON, or no object, or nested too deeply, or has more than `MAX_JSON_BYTES`.
        OSError: It cannot be read.
    """
    data = read_limited(path, MAX_JSON_BYTES)
    try:
        content = json.loads(data)
    except RecursionError:
        raise ValueError(f"{os.fspath(path)}: the JSON is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{os.fspath(path)}: must hold a JSON object, not {type(content).__name__}")
    return content
