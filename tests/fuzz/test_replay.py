"""The first inputs of each target, and all that were findings once."""

from __future__ import annotations

import itertools

import pytest

from fuzz.mutate import inputs, regressions
from fuzz.targets import TARGETS, seeds, tokenize_in_a_run

COUNTS = {"corpus": 60}


# pyarrow cannot hand over a bad row of CSV that is not UTF-8: it says so on standard error, and refuses it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("target", list(TARGETS))
def test_replay(target: str) -> None:
    """No panic, no error of an unknown type, no difference between ways that must be the same."""
    if target == "chat_template":
        pytest.importorskip("jinja2")
    if target == "corpus":
        pytest.importorskip("pyarrow")
    count = len(seeds(target)) + len(regressions(target)) + COUNTS.get(target, 150)
    for data in itertools.islice(inputs(target, 0), count):
        TARGETS[target](data)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_finds_what_its_parts_find() -> None:
    """A run over each kind of input, and over what was a finding, is refused or comes to the same numbers."""
    pytest.importorskip("pyarrow")
    for data in [*seeds("corpus"), *regressions("corpus")]:
        tokenize_in_a_run(data)


@pytest.mark.parametrize("target", ["model", "tokenizer_json"])
def test_seeds_are_sound(target: str) -> None:
    """Mutations begin with files that load; else they would try the first check alone."""
    from llamatok import Tokenizer

    for data in seeds(target):
        assert list(Tokenizer.from_bytes(data).encode("ab"))
