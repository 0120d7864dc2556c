"""The models' tests need PyTorch, and transformers to compare with; where one is missing they are skipped."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
MISSING = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]


class _Skipped(pytest.Module):
    def collect(self):
        pytest.skip(f"{' and '.join(MISSING)} not installed")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return _Skipped.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture(autouse=True)
def _two_threads():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
