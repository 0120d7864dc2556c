"""Where models and test data lie, and why one of them is not there."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_MODEL = ROOT / "python" / "llamatok" / "data" / "default.model"


def shared() -> Path:
    """The folder of material that is not part of the repository (LLAMATOK_SHARED, or `shared` beside it)."""
    return Path(os.environ.get("LLAMATOK_SHARED", ROOT.parent / "shared"))


def shared_file(*parts: str) -> Path:
    """A file of the shared folder; the test is skipped where it is missing."""
    path = shared().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is missing (set LLAMATOK_SHARED to the folder that has {'/'.join(parts)})")
    return path


def mistral_common_models() -> dict[str, Path]:
    """The SentencePiece models inside the installed package mistral_common, by name; empty without it."""
    spec = importlib.util.find_spec("mistral_common")
    if spec is None or not spec.submodule_search_locations:
        return {}
    folder = Path(next(iter(spec.submodule_search_locations)), "data")
    return {
        f"mistral_common/{path.name}": path
        for path in sorted(folder.rglob("*"))
        if ".model" in path.name and path.suffix != ".json"
    }
