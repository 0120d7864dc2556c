"""The threads that the core shares with torch."""

from __future__ import annotations

import ctypes
import functools

import torch


@functools.cache
def gomp_parallel() -> int | None:
    """The address of `GOMP_parallel` in the OpenMP that torch runs on; None where it has no such thing.

    On threads of our own, products would have to share the cores with those of torch, which stay busy for
    some milliseconds after each of its operations.
    """
    try:
        # A library's handle finds what it was linked with.
        function = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
