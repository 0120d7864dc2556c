"""Hugging Face's interface: `LlamaTokenizer`, its outcome `BatchEncoding`, chats, loading and saving."""

from llamatok.tokenization.added_token import AddedToken
from llamatok.tokenization.batch_encoding import BatchEncoding
from llamatok.tokenization.chat import (
    DEFAULT_SYSTEM_PROMPT,
    LLAMA2_CHAT_TEMPLATE,
    LLAMA2_CHAT_TEMPLATE_WITH_SYSTEM_PROMPT,
    get_json_schema,
)
from llamatok.tokenization.code_llama import CodeLlamaTokenizer, CodeLlamaTokenizerFast
from llamatok.tokenization.encoding import CharSpan, Encoding, TokenSpan
from llamatok.tokenization.llama import LlamaTokenizer, LlamaTokenizerFast
from llamatok.tokenization.strategies import PaddingStrategy, TensorType, TruncationStrategy

__all__ = [
    "DEFAULT_SYSTEM_PROMPT",
    "LLAMA2_CHAT_TEMPLATE",
    "LLAMA2_CHAT_TEMPLATE_WITH_SYSTEM_PROMPT",
    "AddedToken",
    "BatchEncoding",
    "CharSpan",
    "CodeLlamaTokenizer",
    "CodeLlamaTokenizerFast",
    "Encoding",
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "PaddingStrategy",
    "TensorType",
    "TokenSpan",
    "TruncationStrategy",
    "get_json_schema",
]
