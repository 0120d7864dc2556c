"""A case: a tokenizer, what is asked of it, and how the answer is got through Hugging Face's interface.

This file runs in the environments of the compared libraries too: it imports the standard library only, and
asks any class that has Hugging Face's interface, whichever library it is from.

A case is a message of JSON:

    {"tokenizer": {"class": ..., "path": ..., "init": {...}, "add_tokens": [...], "pad_token": ...},
     "op": "encode", "input": "Hello", "call": {...}}

`class` names an entry of the table that the asking side has: `{"slow": LlamaTokenizer, ...}`. `path` is a
vocabulary file, or a folder for `from_pretrained`. `init` goes to the constructor. An answer is plain data;
an error is `{"error": name of its type, "message": its beginning}`.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable
from typing import Any

Case = dict[str, Any]
Classes = dict[str, Callable[..., Any]]


class Answerer:
    """Answers cases by the tokenizers of one library."""

    def __init__(self, classes: Classes, added_token: Callable[..., Any], *, keep: int = 12) -> None:
        """`classes` makes tokenizers of `(path, **init)`; `added_token` is the library's AddedToken."""
        self.classes = classes
        self.added_token = added_token
        self._tokenizer = functools.lru_cache(maxsize=keep)(self._load)

    def answer(self, case: Case) -> Any:
        """The answer, or the error, as plain data."""
        try:
            if case["op"] in CHANGING:
                tokenizer = self._load(json.dumps(case["tokenizer"], sort_keys=True))
                if case["op"] == "add_tokens":
                    return plain(_add(tokenizer, case["input"], self.token))
            else:
                tokenizer = self._tokenizer(json.dumps(case["tokenizer"], sort_keys=True))
            return plain(OPERATIONS[case["op"]](tokenizer, case["input"], case.get("call", {})))
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic of a Rust library is no Exception
            return {"error": type(error).__name__, "message": str(error)[:200]}

    def _load(self, message: str) -> Any:
        spec = json.loads(message)
        tokenizer = self.classes[spec["class"]](spec["path"], **spec.get("init", {}))
        for group in spec.get("add_tokens", []):
            tokenizer.add_tokens([self.token(token) for token in group])
        pad = spec.get("pad_token")
        if pad == "=eos":
            tokenizer.pad_token = tokenizer.eos_token
        elif pad is not None:
            tokenizer.add_special_tokens({"pad_token": pad})
        return tokenizer

    def token(self, token: Any) -> Any:
        """An added token: a str as it is, an object by its flags."""
        if isinstance(token, str):
            return token
        flags = dict(token)
        return self.added_token(flags.pop("content"), **flags)


def plain(value: Any) -> Any:
    """Data without the libraries' types: mappings as dict, tuples and arrays as list."""
    if hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        listed = value.tolist()
        return plain(listed) if isinstance(listed, list) else listed
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


# Operations: (tokenizer, input, keyword arguments) -> answer


def _encode(tokenizer: Any, text: Any, call: dict[str, Any]) -> Any:
    return tokenizer(text, **call)["input_ids"]


def _pair(tokenizer: Any, pair: Any, call: dict[str, Any]) -> Any:
    return dict(tokenizer(*pair, **call))


def _batch_pairs(tokenizer: Any, pairs: Any, call: dict[str, Any]) -> Any:
    return dict(tokenizer([a for a, _ in pairs], [b for _, b in pairs], **call))


def _word_ids(tokenizer: Any, text: Any, call: dict[str, Any]) -> Any:
    return tokenizer(text, **call).word_ids()


def _sequence_ids(tokenizer: Any, pair: Any, call: dict[str, Any]) -> Any:
    return tokenizer(*pair, **call).sequence_ids()


def _char_maps(tokenizer: Any, text: Any, call: dict[str, Any]) -> Any:
    """What the mappings of BatchEncoding say of each character and each token."""
    encoding = tokenizer(text, **call)
    return {
        "char_to_token": [encoding.char_to_token(index) for index in range(len(text))],
        "token_to_chars": [
            None if span is None else list(span)
            for span in (encoding.token_to_chars(index) for index in range(len(encoding["input_ids"])))
        ],
        "tokens": encoding.tokens(),
    }


def _two(value: Any) -> tuple[Any, Any]:
    return value if len(value) == 2 and isinstance(value[0], (list, type(None))) else (value, None)


def _special_tokens_mask(tokenizer: Any, ids: Any, call: dict[str, Any]) -> Any:
    return tokenizer.get_special_tokens_mask(
        *([ids] if call.get("already_has_special_tokens") else ids), **call
    )


def _set_add_eos(tokenizer: Any, text: Any, call: dict[str, Any]) -> Any:
    tokenizer.add_bos_token = False
    tokenizer.add_eos_token = True
    return {
        "single": tokenizer(text)["input_ids"],
        "pair": tokenizer(text, "world")["input_ids"],
        "num_special_tokens_to_add": [tokenizer.num_special_tokens_to_add(pair) for pair in (False, True)],
    }


def _chat_ids(tokenizer: Any, messages: Any, call: dict[str, Any]) -> Any:
    ids = tokenizer.apply_chat_template(messages, tokenize=True, **call)
    return ids["input_ids"] if hasattr(ids, "keys") else ids


def _save(tokenizer: Any, _: Any, call: dict[str, Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        returned = tokenizer.save_pretrained(folder, **call)
        return {
            "files": sorted(os.listdir(folder)),
            "returned": [os.path.basename(path) for path in returned],
        }


def _save_to(tokenizer: Any, folder: str, call: dict[str, Any]) -> Any:
    tokenizer.save_pretrained(folder, **call)
    return sorted(os.listdir(folder))


def _meta(tokenizer: Any, _: Any, call: dict[str, Any]) -> Any:
    return {
        "vocab_size": tokenizer.vocab_size,
        "len": len(tokenizer),
        "all_special_tokens": sorted(tokenizer.all_special_tokens),
        "all_special_ids": sorted(tokenizer.all_special_ids),
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "model_max_length": tokenizer.model_max_length,
        "model_input_names": tokenizer.model_input_names,
        "is_fast": tokenizer.is_fast,
        "bos": tokenizer.bos_token,
        "eos": tokenizer.eos_token,
        "unk": tokenizer.unk_token,
        "pad": tokenizer.pad_token,
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_files_names": tokenizer.vocab_files_names,
        "clean_up_tokenization_spaces": tokenizer.clean_up_tokenization_spaces,
        "can_save_slow_tokenizer": getattr(tokenizer, "can_save_slow_tokenizer", None),
    }


def _add(tokenizer: Any, tokens: Any, make: Callable[[Any], Any]) -> Any:
    returned = tokenizer.add_tokens([make(token) for token in tokens])
    contents = [token if isinstance(token, str) else token["content"] for token in tokens]
    return {
        "returned": returned,
        "len": len(tokenizer),
        "ids": {content: tokenizer.convert_tokens_to_ids(content) for content in contents},
    }


OPERATIONS: dict[str, Callable[[Any, Any, dict[str, Any]], Any]] = {
    "encode": _encode,
    "tokenize": lambda tokenizer, text, call: tokenizer.tokenize(text, **call),
    "decode": lambda tokenizer, ids, call: tokenizer.decode(ids, **call),
    "batch_decode": lambda tokenizer, lists, call: tokenizer.batch_decode(lists, **call),
    "offsets": lambda tokenizer, text, call: tokenizer(text, return_offsets_mapping=True, **call)[
        "offset_mapping"
    ],
    "call": lambda tokenizer, text, call: dict(tokenizer(text, **call)),
    "pair": _pair,
    "batch_pairs": _batch_pairs,
    "word_ids": _word_ids,
    "sequence_ids": _sequence_ids,
    "char_maps": _char_maps,
    "convert_ids_to_tokens": lambda tokenizer, ids, call: tokenizer.convert_ids_to_tokens(ids, **call),
    "convert_tokens_to_ids": lambda tokenizer, tokens, call: tokenizer.convert_tokens_to_ids(tokens),
    "convert_tokens_to_string": lambda tokenizer, tokens, call: tokenizer.convert_tokens_to_string(tokens),
    "ids_to_string": lambda tokenizer, ids, call: tokenizer.convert_tokens_to_string(
        tokenizer.convert_ids_to_tokens(ids)
    ),
    "get_special_tokens_mask": _special_tokens_mask,
    "build_inputs_with_special_tokens": lambda tokenizer, ids, call: (
        tokenizer.build_inputs_with_special_tokens(*ids)
    ),
    "create_token_type_ids_from_sequences": lambda tokenizer, ids, call: (
        tokenizer.create_token_type_ids_from_sequences(*ids)
    ),
    "num_special_tokens_to_add": lambda tokenizer, ids, call: [
        tokenizer.num_special_tokens_to_add(pair) for pair in (False, True)
    ],
    "set_add_eos_after_init": _set_add_eos,
    "chat": lambda tokenizer, messages, call: tokenizer.apply_chat_template(messages, tokenize=False, **call),
    "chat_ids": _chat_ids,
    "save_pretrained": _save,
    "save_to": _save_to,
    "meta": _meta,
}
#: Operations that leave the tokenizer changed: it is made for them alone.
CHANGING = frozenset({"set_add_eos_after_init", "add_tokens"})
