"""Pickles and copies."""

import copy
import pickle

import numpy as np
import pytest

from llamatok import Tokenizer, TokenizerError

TEXT = "Hello wörld 🙂"

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tokenizer(default_tokenizer, protocol):
    again = pickle.loads(pickle.dumps(default_tokenizer, protocol))
    assert again.encode(TEXT) == default_tokenizer.encode(TEXT)
    assert again.settings == default_tokenizer.settings
    assert again.pieces() == default_tokenizer.pieces()


def test_cache_bytes_are_kept():
    tokenizer = Tokenizer.default(cache_bytes=0)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.cache_info()["limit_bytes"] == tokenizer.cache_info()["limit_bytes"]
    assert again.encode(TEXT) == tokenizer.encode(TEXT)


def test_a_pickle_is_no_larger_than_the_model(default_tokenizer):
    assert len(pickle.dumps(default_tokenizer)) < 1_000_000


def test_copies_are_the_tokenizer_itself(default_tokenizer):
    assert copy.copy(default_tokenizer) is default_tokenizer
    assert copy.deepcopy(default_tokenizer) is default_tokenizer
    assert copy.deepcopy([default_tokenizer])[0] is default_tokenizer


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_token_batch(default_tokenizer, protocol):
    batch = default_tokenizer.encode_batch([TEXT, "", "more"])
    for part in (batch, batch[1:], batch[:0]):
        again = pickle.loads(pickle.dumps(part, protocol))
        assert again == part
        assert again.pad_id == part.pad_id
        assert again.ids.dtype == np.uint32
    assert copy.deepcopy(batch) == batch


def test_errors():
    error = pickle.loads(pickle.dumps(TokenizerError("a message")))
    assert type(error) is TokenizerError
    assert str(error) == "a message"
