"""What all tests share: the `slow` marker, hypothesis profiles, and where `tests/support` is found."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

_CALM = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile(
    "ci", max_examples=150, deadline=None, derandomize=True, suppress_health_check=_CALM
)
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=_CALM)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; runs only when asked for by -m slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.getoption("-m"):
        return
    skip = pytest.mark.skip(reason="slow; run it by -m slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)
