import pytest

from llamatok import Tokenizer


@pytest.fixture(scope="session")
def default_tokenizer() -> Tokenizer:
    return Tokenizer.default()
