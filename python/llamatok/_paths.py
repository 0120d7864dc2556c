"""Names of files that files give: they stay within the folder of the file that gives them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_within"]


def is_within(folder: str | os.PathLike[str], name: object) -> bool:
    """Whether `name` is a relative path to something within `folder`, `..` and symlinks included.

    The one exception is the cache of huggingface_hub, where `snapshots/REVISION/FILE` links to `blobs/HASH`.
    """
    if not isinstance(name, str) or not name or os.path.isabs(name) or "\0" in name or "\\" in name:
        return False
    root = Path(folder).resolve()
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    try:
        path = (root / name).resolve()
    except (OSError, RuntimeError, ValueError):  # links that lead to themselves; no name of the system's
        return False
    return ".." not in Path(name).parts and any(path.is_relative_to(place) for place in allowed)
