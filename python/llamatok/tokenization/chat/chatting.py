"""The methods of a tokenizer that turn chats into text and ids."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llamatok.tokenization.batch_encoding import BatchEncoding
from llamatok.tokenization.calling import Calling
from llamatok.tokenization.chat import llama2
from llamatok.tokenization.chat.template import Span, plain, render
from llamatok.tokenization.chat.tools import get_json_schema
from llamatok.tokenization.chat.untrusted import Chunk, Untrusted
from llamatok.tokenization.log import logger
from llamatok.tokenization.strategies import PaddingStrategy, TensorType

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_FINAL_TAG = "CONTINUE_FINAL_MESSAGE_TAG "


class Chatting(Calling):
    """The methods for chats."""

    chat_template: str | dict[str, str] | None
    use_default_system_prompt: bool

    @property
    def default_chat_template(self) -> str:
        """Llama 2's chat format, with its system prompt if `use_default_system_prompt` is set.

        It is used when it is asked for only: a model that brings no template may want another format, which
        is why transformers has given up using it by itself (since 4.44).
        """
        if self.use_default_system_prompt:
            return llama2.LLAMA2_CHAT_TEMPLATE_WITH_SYSTEM_PROMPT
        return llama2.LLAMA2_CHAT_TEMPLATE

    def get_chat_template(self, chat_template: str | None = None, tools: list[Any] | None = None) -> str:
        """The template that a chat is rendered with.

        Args:
            chat_template: A template, or the name of one of several.
            tools: Tools; with them, the template "tool_use" goes before "default".

        Raises:
            ValueError: There is none, or there are several and none of them is the default.
        """
        own = self.chat_template
        if isinstance(own, dict):
            if chat_template is not None:
                return own.get(chat_template, chat_template)
            if tools is not None and "tool_use" in own:
                return own["tool_use"]
            if "default" in own:
                return own["default"]
            raise ValueError(
                "This model has multiple chat templates with no default specified! Please either pass a chat "
                "template or the name of the template you wish to use to the `chat_template` argument. "
                f"Available template names are {sorted(own)}."
            )
        if chat_template is not None:
            return chat_template
        if own is not None:
            return own
        raise ValueError(
            "Cannot use chat template functions because tokenizer.chat_template is not set and no template "
            "argument was passed! For information about writing templates and setting the "
            "tokenizer.chat_template attribute, please see the documentation at "
            "https://huggingface.co/docs/transformers/main/en/chat_templating. Llama 2's own format is "
            "`tokenizer.default_chat_template`"
        )

    def apply_chat_template(
        self,
        conversation: Any,
        tools: list[dict[str, Any] | Callable[..., Any]] | None = None,
        documents: list[dict[str, str]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        tokenize: bool = True,
        sanitize_control_tokens: bool = False,
        padding: bool | str | PaddingStrategy = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | TensorType | None = None,
        return_dict: bool = False,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """A chat, or several, in a model's format, as ids or as text.

        >>> from llamatok import LlamaTokenizer
        >>> tokenizer = LlamaTokenizer.default()
        >>> tokenizer.chat_template = tokenizer.default_chat_template
        >>> chat = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "1+1?"}]
        >>> tokenizer.apply_chat_template(chat, tokenize=False)
        '<s>[INST] <<SYS>>\\nBe short.\\n<</SYS>>\\n\\n1+1? [/INST]'

        Args:
            conversation: Messages, each a dictionary with "role" and "content"; or a list of such lists.
            tools: Functions (see `get_json_schema`) or JSON schemas that the template may show.
            documents: Dictionaries with "title" and "text" that the template may show.
            chat_template: A template or the name of one, instead of the tokenizer's.
            add_generation_prompt: Whether the text ends with what begins an answer.
            continue_final_message: Whether the text ends in the last message, which the model is to go on
                with; a str names the field to go on with, instead of "content".
            tokenize: Whether to encode the text. Special tokens in it are read as such, and none are added.
            sanitize_control_tokens: Whether control tokens in messages, tools, documents and variables are
                read as ordinary text, so that only the template can write them. They are all special tokens,
                and added tokens that the template has in it.
            padding, truncation, max_length, return_tensors: See `__call__`.
            return_dict: Whether to return a `BatchEncoding` instead of ids.
            return_assistant_tokens_mask: Whether the `BatchEncoding` has `assistant_masks`: 1 for tokens that
                `{% generation %}` blocks of the template gave.
            tokenizer_kwargs: More arguments of `__call__`.
            **kwargs: More variables for the template.

        Returns:
            With `tokenize`, ids (a list of lists for several chats) or a `BatchEncoding`; else str, or a list
            of them.

        Raises:
            ValueError: There is no template, or arguments contradict each other.
            TypeError: A message or a document is no dictionary.
            jinja2.TemplateError: The template raises an exception.
            ImportError: Jinja is not installed.
        """
        if return_dict and not tokenize:
            raise ValueError(
                "`return_dict=True` is incompatible with `tokenize=False`, because there is no dict of "
                "tokenizer outputs to return."
            )
        if return_assistant_tokens_mask and not return_dict:
            raise ValueError("`return_assistant_tokens_mask=True` is incompatible with `return_dict=False`")
        if continue_final_message and add_generation_prompt:
            raise ValueError(
                "continue_final_message and add_generation_prompt are not compatible. Use "
                "continue_final_message when you want the model to continue the final message, and "
                "add_generation_prompt when you want to add a header that will prompt it to start a new "
                "assistant message instead."
            )
        if continue_final_message and return_assistant_tokens_mask:
            raise ValueError("continue_final_message is not compatible with return_assistant_tokens_mask.")
        if sanitize_control_tokens and (not tokenize or return_assistant_tokens_mask):
            raise ValueError(
                "`sanitize_control_tokens=True` requires `tokenize=True` and is not compatible with "
                "`return_assistant_tokens_mask=True`."
            )
        template = self.get_chat_template(chat_template, tools)
        untrusted = Untrusted(self._control_tokens(template) if sanitize_control_tokens else [])
        if return_assistant_tokens_mask and not _GENERATION.search(template):
            logger.warning_once(
                "`return_assistant_tokens_mask` is set, but the chat template has no `{% generation %}` block"
            )
        batched = _is_batch(conversation)
        given = plain({**kwargs, "tools": _tool_schemas(tools), "documents": _checked_documents(documents)})
        variables = {
            **self.special_tokens_map,
            **untrusted.marked(given),
            "add_generation_prompt": add_generation_prompt,
        }
        texts: list[str] = []
        spans: list[list[Span]] = []
        for chat in conversation if batched else [conversation]:
            messages = untrusted.marked(_messages(chat))
            text, found = _rendered(
                template, messages, variables, continue_final_message, return_assistant_tokens_mask
            )
            texts.append(text)
            spans.append(found)
        if not tokenize:
            return texts if batched else texts[0]
        options: dict[str, Any] = {
            "padding": padding,
            "truncation": truncation,
            "max_length": max_length,
            "add_special_tokens": False,
            "return_tensors": return_tensors,
            **(tokenizer_kwargs or {}),
        }
        if sanitize_control_tokens:
            rows = [(self._ids_of_chunks(untrusted.chunks(text)), None) for text in texts]
            encoded = (
                self._prepare_many(list(rows), options)
                if batched
                else self.prepare_for_model(
                    rows[0][0], prepend_batch_axis=return_tensors is not None, **options
                )
            )
        else:
            encoded = self(texts if batched else texts[0], **options)
        if not return_dict:
            return encoded["input_ids"]
        if return_assistant_tokens_mask:
            masks = [_mask(encoded, row, found) for row, found in enumerate(spans)]
            encoded["assistant_masks"] = masks if batched or return_tensors is not None else masks[0]
            encoded.convert_to_tensors(return_tensors)
        return encoded

    def _control_tokens(self, template: str) -> list[str]:
        return [
            token.content
            for token in self.added_tokens_decoder.values()
            if token.special or (token.content in template and not token.content.isspace())
        ]

    def _ids_of_chunks(self, chunks: list[Chunk]) -> list[int]:
        """The ids of a chat's parts, as when it is encoded whole, but for control tokens in ordinary text."""
        control = {chunk.text for chunk in chunks if chunk.is_control}
        control |= {token.content for token in self.added_tokens_decoder.values() if token.special}
        others = [
            token.as_tuple(id)
            for id, token in self.added_tokens_decoder.items()
            if token.content not in control
        ]
        first = self._core.with_added_tokens(others)
        # Only with the legacy behaviour does text after a token get a prefix space.
        later = first if self.legacy else self._without_prefix_space().with_added_tokens(others)
        ids: list[int] = []
        for at, chunk in enumerate(chunks):
            if chunk.is_control:
                ids.append(self._added_tokens_encoder[chunk.text])
                continue
            text = chunk.text
            if at > 0 and self._added_tokens_decoder[ids[-1]].rstrip:
                text = text.lstrip()
            if at + 1 < len(chunks):
                following = self._added_tokens_encoder[chunks[at + 1].text]
                if self._added_tokens_decoder[following].lstrip:
                    text = text.rstrip()
            ids += (later if at > 0 else first).encode(text, add_special_tokens=False)
        return ids

    def encode_message_with_chat_template(
        self,
        message: dict[str, str],
        conversation_history: list[dict[str, str]] | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """The ids that a message adds to a chat.

        Args:
            message: The message.
            conversation_history: The messages before it.
            **kwargs: See `apply_chat_template`.

        Raises:
            ValueError: `add_generation_prompt` is given.
        """
        if "add_generation_prompt" in kwargs:
            raise ValueError(
                "`encode_message_with_chat_template` does not support `add_generation_prompt`. Please add "
                "the generation prompt separately."
            )
        history = conversation_history or []
        ids: list[int] = self.apply_chat_template([*history, message], **kwargs)
        if not history:
            return ids
        before: list[int] = self.apply_chat_template(history, **kwargs)
        common = next(
            (at for at, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b),
            min(len(before), len(ids)),
        )
        return ids[common:]


def _is_batch(conversation: Any) -> bool:
    if isinstance(conversation, Mapping) or not isinstance(conversation, Sequence):
        return False
    if len(conversation) == 0:
        raise ValueError("the conversation is empty: a chat template needs a message at least")
    return isinstance(conversation[0], (list, tuple)) or hasattr(conversation[0], "messages")


def _tool_schemas(tools: list[Any] | None) -> list[dict[str, Any]] | None:
    if tools is None:
        return None
    schemas: list[dict[str, Any]] = []
    for tool in tools:
        if isinstance(tool, dict):
            schemas.append(tool)
        elif inspect.isfunction(tool) or inspect.ismethod(tool):
            schemas.append(get_json_schema(tool))
        else:
            raise ValueError(
                "Tools should either be a JSON schema, or a callable function with type hints and a "
                "docstring suitable for auto-conversion to a schema."
            )
    return schemas


def _checked_documents(documents: list[Any] | None) -> list[Any] | None:
    for document in documents or []:
        if not isinstance(document, dict):
            raise TypeError("Documents should be a list of dicts with 'title' and 'text' keys!")
    return documents


def _messages(chat: Any) -> list[dict[str, Any]]:
    messages = plain(getattr(chat, "messages", chat))
    for message in messages:
        if not isinstance(message, dict):
            raise TypeError(f"a message of a chat must be a dictionary, not {message!r}")
    # A field that is None is one that is not given.
    return [{key: value for key, value in message.items() if value is not None} for message in messages]


def _rendered(
    template: str,
    messages: list[dict[str, Any]],
    variables: dict[str, Any],
    continue_final: bool | str,
    track: bool,
) -> tuple[str, list[Span]]:
    final = _open_final(messages, continue_final, template) if continue_final else ""
    text, spans = render(template, {**variables, "messages": messages}, track_generation=track)
    return (_cut_after(text, final), []) if continue_final else (text, spans)


def _open_final(messages: list[dict[str, Any]], continue_final: bool | str, template: str) -> str:
    """Put the tag after the last message's text, and return the text."""
    field = continue_final if isinstance(continue_final, str) else "content"
    if not messages or messages[-1].get(field) is None:
        raise ValueError(f'continue_final_message is set but the final message has no "{field}" to continue!')
    if field not in template:
        raise ValueError(
            f'continue_final_message is set to "{field}" but this is not an accepted field in the '
            "chat_template"
        )
    content = messages[-1][field]
    if isinstance(content, str):
        messages[-1][field] = content + _FINAL_TAG
        return content
    for block in reversed(content):
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            text: str = block["text"]
            block["text"] = text + _FINAL_TAG
            return text
    raise ValueError(
        "continue_final_message is set but we could not find any text to continue in the final message!"
    )


def _cut_after(text: str, final: str) -> str:
    tag = _FINAL_TAG.strip()
    if final.strip() not in text or tag not in text:
        raise ValueError(
            "continue_final_message is set but the final message does not appear in the chat after applying "
            "the chat template! This can happen if the chat template deletes portions of the final message. "
            f"Final message to continue: {final.strip()!r}, rendered chat: {text!r}"
        )
    at = text.rindex(tag)
    # A template that strips its messages has stripped the tag's space, and would have the message's.
    return text[:at] if text.startswith(_FINAL_TAG, at) else text[:at].rstrip()


def _mask(encoded: BatchEncoding, row: int, spans: list[Span]) -> list[int]:
    assert encoded.encodings is not None
    encoding = encoded.encodings[row]
    mask = [0] * len(encoding)
    for start, end in spans:
        first = encoding.char_to_token(start)
        if first is None:
            # Truncation has cut off the rest.
            break
        last = encoding.char_to_token(end - 1)
        for token in range(first, len(mask) if last is None else last + 1):
            mask[token] = 1
    return mask
