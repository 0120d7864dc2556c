"""Chats to text and ids."""

from llamatok.tokenization.chat.chatting import Chatting
from llamatok.tokenization.chat.llama2 import (
    DEFAULT_SYSTEM_PROMPT,
    LLAMA2_CHAT_TEMPLATE,
    LLAMA2_CHAT_TEMPLATE_WITH_SYSTEM_PROMPT,
)
from llamatok.tokenization.chat.tools import (
    DocstringParsingException,
    TypeHintParsingException,
    get_json_schema,
)

__all__ = [
    "DEFAULT_SYSTEM_PROMPT",
    "LLAMA2_CHAT_TEMPLATE",
    "LLAMA2_CHAT_TEMPLATE_WITH_SYSTEM_PROMPT",
    "Chatting",
    "DocstringParsingException",
    "TypeHintParsingException",
    "get_json_schema",
]
