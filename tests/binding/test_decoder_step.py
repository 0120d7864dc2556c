"""The core's step through a decoder layer: what it refuses. Its results are the models' tests' subject."""

from __future__ import annotations

import numpy as np
import pytest

from llamatok import _core

ROWS, HIDDEN, INNER, HEADS, KV_HEADS, DIM, ROOM = 2, 6, 5, 4, 2, 4, 3


def arguments(**changes):
    def zeros(*shape, dtype=np.float32):
        return np.zeros(shape, dtype)

    given = {
        "x": zeros(ROWS, HIDDEN),
        "out": np.full((ROWS, HIDDEN), np.nan, np.float32),
        "sizes": (HEADS, KV_HEADS, DIM),
        "eps": 1e-5,
        "scale": 0.5,
        "norms": (zeros(HIDDEN), zeros(HIDDEN)),
        "qkv": (zeros((HEADS + 2 * KV_HEADS) * DIM, HIDDEN), None),
        "output": (zeros(HIDDEN, HEADS * DIM, dtype=np.float16), np.arange(HIDDEN, dtype=np.float32)),
        "gate_up": (zeros(2 * INNER, HIDDEN, dtype=np.float16), None),
        "down": (zeros(HIDDEN, INNER), np.ones(HIDDEN, np.float32)),
        "cos": zeros(1, DIM),
        "sin": zeros(1, DIM),
        "bias": None,
        "keys": zeros(ROWS, KV_HEADS, ROOM, DIM),
        "values": zeros(ROWS, KV_HEADS, ROOM, DIM),
        "length": 2,
        "num_threads": 2,
    }
    assert changes.keys() <= given.keys()
    return given | changes


def test_biases_are_all_that_is_left_of_zeros():
    given = arguments()
    _core.decoder_step(**given)
    np.testing.assert_array_equal(given["out"], [np.arange(HIDDEN) + 1] * ROWS)


WRONG = {
    "keys": (np.zeros((ROWS, KV_HEADS, ROOM, 5), np.float32), r"`keys` must be \(2, 2, 3, 4\), got"),
    "values": (np.zeros((1, KV_HEADS, ROOM, DIM), np.float32), r"`values` must be \(2, 2, 3, 4\), got"),
    "length": (3, "the cache has 3 tokens and room for 3"),
    "sizes": ((3, KV_HEADS, DIM), "`output` must have 12 columns, got 16"),
    "qkv": ((np.zeros((HIDDEN, 32), np.float32), None), "`qkv` must have 6 columns, got 32"),
    "down": ((np.zeros((INNER, HIDDEN), np.float32), None), "`down` must have 5 columns, got 6"),
    "cos": (np.zeros((3, DIM), np.float32), "`cos` must have 8 elements, got 12"),
    "bias": (np.zeros((1, 2), np.float32), "`bias` must have 6 elements, got 2"),
    "x": (np.zeros((HIDDEN, ROWS), np.float32).T, "`x` must be contiguous, row by row"),
    "norms": ((np.zeros(HIDDEN, np.float32), np.zeros(4, np.float32)), "`post_norm` must have 6 elements"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name):
    value, message = WRONG[name]
    given = arguments(**{name: value})
    with pytest.raises(ValueError, match=message):
        _core.decoder_step(**given)
    assert np.isnan(given["out"]).all()


def test_other_types_are_refused():
    with pytest.raises(TypeError):
        _core.decoder_step(**arguments(x=np.zeros((ROWS, HIDDEN))))
    with pytest.raises(TypeError):
        _core.decoder_step(**arguments(down=(np.zeros((HIDDEN, INNER)), None)))


def test_one_array_in_two_places_is_refused():
    x = np.zeros((ROWS, HIDDEN), np.float32)
    with pytest.raises(ValueError, match="`out` cannot be lent to the core now: "):
        _core.decoder_step(**arguments(x=x, out=x))
    frozen = np.zeros((ROWS, HIDDEN), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="`out` cannot be lent to the core now: "):
        _core.decoder_step(**arguments(out=frozen))


def test_no_hidden_states_and_no_rows():
    with pytest.raises(ValueError, match="hidden states without elements"):
        _core.decoder_step(
            **arguments(
                x=np.zeros((ROWS, 0), np.float32),
                out=np.zeros((ROWS, 0), np.float32),
                norms=(np.zeros(0, np.float32),) * 2,
                qkv=(np.zeros((32, 0), np.float32), None),
                output=(np.zeros((0, 16), np.float32), None),
                gate_up=(np.zeros((10, 0), np.float32), None),
                down=(np.zeros((0, 5), np.float32), None),
            )
        )
    empty = np.zeros((0, HIDDEN), np.float32)
    held = np.zeros((0, KV_HEADS, ROOM, DIM), np.float32)
    _core.decoder_step(**arguments(x=empty, out=empty.copy(), keys=held, values=held.copy()))
    given = arguments(num_threads=2**62)
    _core.decoder_step(**given)
    assert not np.isnan(given["out"]).any()
