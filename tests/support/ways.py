"""The ways by which ids are found, all of which must find the same: engines, SIMD levels, sizes of cache."""

from __future__ import annotations

from typing import Any

import pytest

from llamatok import Tokenizer

#: For each way, environment variables and arguments that make a tokenizer take it. A SIMD level that the
#: processor does not have is the best one below it; a model that needs the general engine has it always.
WAYS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "general": ({"LLAMATOK_ENGINE": "general"}, {}),
    "scalar": ({"LLAMATOK_SIMD": "scalar"}, {}),
    "sse42": ({"LLAMATOK_SIMD": "sse42"}, {}),
    "avx2": ({"LLAMATOK_SIMD": "avx2"}, {}),
    "avx512": ({"LLAMATOK_SIMD": "avx512"}, {}),
    "no cache": ({}, {"cache_bytes": 0}),
    "tiny cache": ({}, {"cache_bytes": 20_000}),
}


def load(data: bytes, way: str) -> Tokenizer:
    """A tokenizer that goes this way; what the environment says is read when it is made."""
    environment, arguments = WAYS[way]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LLAMATOK_ENGINE", "LLAMATOK_SIMD"):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        return Tokenizer.from_bytes(data, **arguments)
