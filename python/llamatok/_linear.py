"""What the core's products and layers have to know of torch."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch.autograd import forward_ad

#: Up to this many rows the core's products are faster than torch's.
MOST_ROWS = 24


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


def is_followed() -> bool:
    """Whether somebody wants to see all operations: a tracer, a mode, a transform, forward derivatives.

    What the core does is not seen by them.
    """
    return bool(
        torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )
