"""What all tests share: the `slow` marker, hypothesis profiles, and how many run at a time."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores, and for models as small as these, threads of torch wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_CALM = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile(
    "ci", max_examples=150, deadline=None, derandomize=True, suppress_health_check=_CALM
)
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=_CALM)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; runs only when asked for by -m slow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: a worker for each core, as far as memory for a torch each may be expected."""
    return min(os.cpu_count() or 1, 8)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.getoption("-m"):
        return
    skip = pytest.mark.skip(reason="slow; run it by -m slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)
