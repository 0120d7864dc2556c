"""Settings from the JSON files of a model folder, checked: they are data from strangers.

Sizes, counts and types that the files may have are stated here; a fault is a `ValueError` that names the file
and the field.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from llamatok._limited import read_limited
from llamatok.tokenization.added_token import FIELDS, AddedToken
from llamatok.tokenization.special_tokens import NAMED

#: The largest file of a chat template, in bytes.
MAX_TEMPLATE_BYTES = 1 << 20
#: The most files in `additional_chat_templates`.
MAX_TEMPLATES = 256
#: The most added tokens.
MAX_ADDED_TOKENS = 1 << 20
#: The longest added token, in bytes.
MAX_TOKEN_BYTES = 1 << 16
#: The largest id of an added token: decoding has a table of all ids, and the core none beyond this.
MAX_ID = (1 << 25) - 1

#: What a file must not say, since it is the caller's to say: which files are read, and how.
NOT_FOR_FILES = frozenset(
    {
        "vocab_file",
        "tokenizer_file",
        "special_tokens_map_file",
        "added_tokens_file",
        "vocab",
        "merges",
        "tokenizer_object",
        "name_or_path",
        "cache_bytes",
        "seed",
        "verbose",
        "self",
        "cls",
    }
)

_FLAGS = frozenset(
    {
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "clean_up_tokenization_spaces",
        "from_slow",
        "legacy",
        "spaces_between_special_tokens",
        "split_special_tokens",
        "use_default_system_prompt",
    }
)


def read_text(path: Path, limit: int) -> str:
    """The same as text, with line breaks as they are on this system's Python.

    Raises:
        ValueError: It has more than `limit` bytes, or is not UTF-8.
        OSError: It cannot be read.
    """
    try:
        text = read_limited(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def added_token(value: Any, where: str) -> AddedToken:
    """The added token that a value of a JSON file stands for.

    Raises:
        ValueError: It stands for none.
    """
    if isinstance(value, str):
        value = {"content": value}
    if isinstance(value, AddedToken):
        value = {name: getattr(value, name) for name in FIELDS}
    if not isinstance(value, dict):
        raise ValueError(f"{where}: a token is a string or an object, not {_kind(value)}")
    content = value.get("content", "")
    if not isinstance(content, str):
        raise ValueError(f"{where}: the content of a token is a string, not {_kind(content)}")
    try:
        size = len(content.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{where}: the token holds half a surrogate pair, which is no character") from None
    if size > MAX_TOKEN_BYTES:
        raise ValueError(f"{where}: a token of {size} bytes, more than the limit of {MAX_TOKEN_BYTES}")
    return AddedToken.from_json(value)


def added_id(value: Any, where: str) -> int:
    """The id of an added token.

    Raises:
        ValueError: It is no whole number from 0 to `MAX_ID`.
    """
    is_number = isinstance(value, int) and not isinstance(value, bool)
    is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20
    number = int(value) if is_number or is_text else -1
    if not 0 <= number <= MAX_ID:
        shown = repr(value) if len(str(value)) <= 40 else _kind(value)
        raise ValueError(f"{where}: an id is a whole number from 0 to {MAX_ID}, not {shown}")
    return number


def check_settings(settings: dict[str, Any], folder: Path) -> None:
    """Checks what `tokenizer_config.json`, `special_tokens_map.json` and the files of templates say together.

    Raises:
        ValueError: A value is of the wrong type.
    """
    for name, value in settings.items():
        if value is None:
            continue
        where = f"{folder}: `{name}` of the tokenizer's configuration"
        if name in NAMED:
            if not isinstance(value, (str, AddedToken)):
                raise ValueError(f"{where} must be a token, not {_kind(value)}")
            added_token(value, where)
        elif name in _FLAGS and not (isinstance(value, bool) or value in (0, 1)):
            raise ValueError(f"{where} must be true or false, not {_kind(value)}")
        elif name == "model_max_length":
            if not isinstance(value, (int, float)) or isinstance(value, bool) or math.isnan(value):
                raise ValueError(f"{where} must be a number, not {_kind(value)}")
        elif name in ("additional_special_tokens", "extra_special_tokens"):
            _check_tokens(value, where, name == "extra_special_tokens")
        elif name == "model_input_names":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ValueError(f"{where} must be a list of strings")
        elif name in ("sp_model_kwargs", "model_specific_special_tokens") and not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, not {_kind(value)}")
        elif name == "model_specific_special_tokens":
            _check_tokens(value, where, True)
        elif name == "chat_template":
            _check_templates(value, where)
        elif name.endswith("_token") and isinstance(value, (str, AddedToken)):
            added_token(value, where)


def _check_tokens(value: Any, where: str, may_be_named: bool) -> None:
    if isinstance(value, dict) and may_be_named:
        value = list(value.values())
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list of tokens, not {_kind(value)}")
    if len(value) > MAX_ADDED_TOKENS:
        raise ValueError(f"{where} has {len(value)} tokens, more than the limit of {MAX_ADDED_TOKENS}")
    for token in value:
        if not isinstance(token, (str, AddedToken)):
            raise ValueError(f"{where} must hold tokens, not {_kind(token)}")
        added_token(token, where)


def _check_templates(value: Any, where: str) -> None:
    if isinstance(value, list):
        if not all(isinstance(item, dict) and {"name", "template"} <= item.keys() for item in value):
            raise ValueError(f"{where} must be a list of objects with `name` and `template`")
        texts = [text for item in value for text in (item["name"], item["template"])]
    elif isinstance(value, dict):
        texts = [*value, *value.values()]
    else:
        texts = [value]
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{where}: a template is a string, not {_kind(text)}")


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "an array", str: "a string"}
    return names.get(
        type(value), "an object" if isinstance(value, dict) else "null" if value is None else "that"
    )
