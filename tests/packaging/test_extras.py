"""Modules whose packages are missing name the extra that installs them."""

from __future__ import annotations

import pytest

from support.processes import run

IMPORT = """
import importlib, sys
module, package = sys.argv[1:]
sys.modules[package] = None
try:
    importlib.import_module(module)
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("llamatok.corpus", "pyarrow", "corpus"),
        ("llamatok.data", "torch", "torch"),
        ("llamatok.generation", "torch", "torch"),
        ("llamatok.generation.pipeline", "torch", "torch"),
        ("llamatok.models", "torch", "torch"),
        ("llamatok.weights", "torch", "torch"),
    ],
)
def test_missing_packages_are_named(module: str, package: str, extra: str) -> None:
    assert f"pip install 'llamatok[{extra}]'" in run(IMPORT, module, package)
