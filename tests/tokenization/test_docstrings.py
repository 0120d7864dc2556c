"""The examples in the docstrings of Hugging Face's interface."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import llamatok.tokenization

NAMES = sorted(
    module.name
    for module in pkgutil.walk_packages(llamatok.tokenization.__path__, f"{llamatok.tokenization.__name__}.")
)


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    if name.endswith("chatting"):
        pytest.importorskip("jinja2")
    assert doctest.testmod(module).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        example
        for name in NAMES
        for test in finder.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(examples) > 20
