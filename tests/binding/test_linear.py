"""The product of float32 rows with weights in float16 or float32: results, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from llamatok import _core


def arrays(rows=2, inputs=5, outputs=3):
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, inputs), np.float32)
    weight = random.standard_normal((outputs, inputs), np.float32).astype(np.float16)
    bias = random.standard_normal(outputs, np.float32)
    return x, weight, bias, np.full((rows, outputs), np.nan, np.float32)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 5, 3), (9, 288, 1000), (1, 2048, 700), (0, 4, 4), (3, 0, 2)]
)
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_products(shape, threads):
    x, weight, bias, out = arrays(*shape)
    _core.linear(x, weight, bias, out, threads)
    np.testing.assert_allclose(out, x.astype(float) @ weight.astype(float).T + bias, atol=1e-3)
    _core.linear(x, weight, None, out, threads)
    np.testing.assert_allclose(out, x.astype(float) @ weight.astype(float).T, atol=1e-3)
    full = np.full_like(out, np.nan)
    _core.linear(x, weight.astype(np.float32), None, full, threads)
    np.testing.assert_array_equal(full, out)


def test_arrays_that_do_not_fit():
    x, weight, bias, out = arrays()
    with pytest.raises(ValueError, match="`x` has 4 columns, `weight` has 5"):
        _core.linear(x[:, :4].copy(), weight, bias, out, 1)
    with pytest.raises(ValueError, match=r"`out` must be \(2, 3\), got \[2, 2\]"):
        _core.linear(x, weight, bias, out[:, :2].copy(), 1)
    with pytest.raises(ValueError, match="`bias` must have 3 elements, got 2"):
        _core.linear(x, weight, bias[:2], out, 1)
    for name, given in {
        "x": (np.asfortranarray(x), weight, bias, out),
        "weight": (x, np.asfortranarray(weight), bias, out),
        "bias": (x, weight, np.repeat(bias, 2)[::2], out),
        "out": (x, weight, bias, np.asfortranarray(out)),
    }.items():
        with pytest.raises(ValueError, match=f"`{name}` must be contiguous, row by row"):
            _core.linear(*given, 1)
    with pytest.raises(TypeError):
        _core.linear(x, weight.astype(np.float64), bias, out, 1)
