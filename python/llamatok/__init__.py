"""Exact, fast tokenization for models of the Llama family."""

from typing import TYPE_CHECKING, Any

from llamatok._core import (
    ModelFormatError,
    StreamDecoder,
    TextBatch,
    TokenBatch,
    Tokenizer,
    TokenizerError,
    UnsupportedModelError,
    __version__,
)

if TYPE_CHECKING:
    from llamatok.tokenization import (
        AddedToken,
        BatchEncoding,
        CodeLlamaTokenizer,
        LlamaTokenizer,
        LlamaTokenizerFast,
    )

__all__ = [
    "AddedToken",
    "BatchEncoding",
    "CodeLlamaTokenizer",
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "ModelFormatError",
    "StreamDecoder",
    "TextBatch",
    "TokenBatch",
    "Tokenizer",
    "TokenizerError",
    "UnsupportedModelError",
    "__version__",
]

_OF_TOKENIZATION = frozenset(
    {"AddedToken", "BatchEncoding", "CodeLlamaTokenizer", "LlamaTokenizer", "LlamaTokenizerFast"}
)


def __getattr__(name: str) -> Any:
    """Import Hugging Face's interface when it is first asked for: the core alone is quicker to import."""
    if name in _OF_TOKENIZATION:
        from llamatok import tokenization

        return getattr(tokenization, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
