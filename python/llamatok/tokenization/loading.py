"""`from_pretrained`: a tokenizer from a folder, a file or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, TypeVar

from llamatok._limited import read_limited
from llamatok.tokenization import files
from llamatok.tokenization.configured import (
    MAX_ADDED_TOKENS,
    NOT_FOR_FILES,
    added_id,
    added_token,
    check_settings,
)
from llamatok.tokenization.log import logger
from llamatok.tokenization.sources import MAX_MODEL_BYTES
from llamatok.tokenization.special_tokens import NAMED

_L = TypeVar("_L", bound="Loading")

#: The key of `tokenizer_config.json` that tells which of the files a tokenizer was made from, if not from the
#: `tokenizer.json` that lies beside it for others.
SOURCE = "llamatok_source"


def source_mark(tokenizer_json: bytes) -> dict[str, str]:
    """The value of `SOURCE` for a tokenizer made of the `tokenizer.model`, beside this `tokenizer.json`.

    transformers keeps the key when it saves a tokenizer anew. If its fast class does, the `tokenizer.json` is
    another one, and decides: its ids are those that the fast class gives.
    """
    digest = hashlib.sha256(tokenizer_json).hexdigest()
    return {"file": files.TOKENIZER_MODEL, "tokenizer_json_sha256": digest}


def _is_for_others(folder: Path, config: dict[str, Any]) -> bool:
    """Whether the `tokenizer.json` in a folder was written for others, beside the model that decides."""
    path = folder / files.TOKENIZER_JSON
    if SOURCE not in config or not path.is_file():
        return False
    return bool(config[SOURCE] == source_mark(read_limited(path, MAX_MODEL_BYTES)))


#: What a `tokenizer_config.json` may say that is no business of a tokenizer of this class.
_IGNORED = NOT_FOR_FILES | frozenset(
    {
        SOURCE,
        "tokenizer_class",
        "auto_map",
        "processor_class",
        "device_map",
        "backend",
        "is_local",
        "local_files_only",
        "files_loaded",
        "fast_tokenizer_files",
        "init_inputs",
        "slow_tokenizer_class",
        "from_slow",
        "max_len",
    }
)


class Loading:
    """Making a tokenizer from what was saved."""

    @classmethod
    def from_pretrained(
        cls: type[_L],
        pretrained_model_name_or_path: str | os.PathLike[str],
        *init_inputs: Any,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str = "main",
        trust_remote_code: bool = False,
        subfolder: str | None = None,
        gguf_file: str | None = None,
        use_fast: bool | None = None,
        from_slow: bool = False,
        **kwargs: Any,
    ) -> _L:
        """A tokenizer from a folder, from the Hugging Face hub, or from a single file.

        Of a folder's files, `tokenizer.json` goes before `tokenizer.model`, as for `AutoTokenizer` and for
        `LlamaTokenizer` of transformers 5: it states its pipeline in full. `from_slow=True` or
        `use_fast=False` turn this round, for the rules of `LlamaTokenizer` of transformers 4. What llamatok
        has saved is loaded from the kind of file that it was made from.

        A `chat_template.jinja` goes before the template of `tokenizer_config.json`, and that before the one
        of `chat_template.json`; `additional_chat_templates/*.jinja` add templates by name. Added tokens are
        those of `tokenizer_config.json`, or, if it has none, those of `special_tokens_map.json` and
        `added_tokens.json`, besides those of `tokenizer.json`.

        Args:
            pretrained_model_name_or_path: The path of a folder, the name of a repository on the hub, or the
                path of a `tokenizer.model`, a `tokenizer.json` or a GGUF file.
            cache_dir: The hub's cache.
            force_download: Whether to download what the cache has.
            local_files_only: Whether to look into the cache only, as HF_HUB_OFFLINE does.
            token: The hub's token.
            revision: The branch, tag or commit on the hub.
            trust_remote_code: Means nothing: no code is ever loaded.
            subfolder: The folder inside the folder or repository.
            gguf_file: The name of a GGUF file in it.
            use_fast, from_slow: See above.
            **kwargs: Arguments of the constructor, which go before those of the files.

        Raises:
            OSError: There is no such folder or repository, or it has no tokenizer.
            ValueError: A file is damaged, or asks for what is not supported; the message says for what.
        """
        for name in ("resume_download", "proxies", "_from_auto", "_commit_hash", "_from_pipeline"):
            kwargs.pop(name, None)
        if (old_token := kwargs.pop("use_auth_token", None)) is not None:
            token = old_token
        name = os.fspath(pretrained_model_name_or_path)
        if os.path.isfile(name):
            given = _single_file(name)
            return cls(**{"name_or_path": name, **given, **kwargs})
        folder = files.folder_of(
            name,
            subfolder=subfolder,
            gguf_file=gguf_file,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            revision=revision,
        )
        config = files.read_json(folder / files.TOKENIZER_CONFIG)
        prefer_model = from_slow or use_fast is False or _is_for_others(folder, config)
        found = _found(folder, gguf_file, prefer_model, name)
        _warn_of_class(cls.__name__, config.get("tokenizer_class"))
        settings = _settings(folder, config, kwargs)
        if found.get("tokenizer_file") and found.get("vocab_file") and prefer_model:
            settings["from_slow"] = True
        return cls(**{**settings, **found, "name_or_path": name, **kwargs})


def _single_file(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        start = file.read(64)
    return {"tokenizer_file" if start.lstrip()[:1] == b"{" else "vocab_file": path}


def _found(folder: Path, gguf_file: str | None, prefer_model: bool, name: str) -> dict[str, Any]:
    """The arguments that name the files to make a tokenizer of."""
    if gguf_file is not None:
        if not (folder / gguf_file).is_file():
            raise OSError(f"{name} has no file {gguf_file}")
        return {"vocab_file": str(folder / gguf_file)}
    found = {
        argument: str(folder / file)
        for argument, file in (
            ("tokenizer_file", files.TOKENIZER_JSON),
            ("vocab_file", files.TOKENIZER_MODEL),
        )
        if (folder / file).is_file()
    }
    if found:
        return found
    models = sorted(folder.glob("*.gguf"))
    if len(models) == 1:
        return {"vocab_file": str(models[0])}
    several = f" and {len(models)} GGUF files (name one with `gguf_file`)" if models else ""
    raise OSError(
        f"{name} has no tokenizer: neither {files.TOKENIZER_JSON} nor {files.TOKENIZER_MODEL}{several}"
    )


def _settings(folder: Path, config: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments by what the files beside the vocabulary say (transformers 4.57)."""
    path = folder / files.TOKENIZER_CONFIG
    settings = {
        key: _token(value, f"{path}: `{key}`") for key, value in config.items() if key not in _IGNORED
    }
    if "max_len" in config:
        settings.setdefault("model_max_length", config["max_len"])
    templates = files.chat_templates(folder)
    if set(templates) == {"default"}:
        settings["chat_template"] = templates["default"]
    elif templates:
        settings["chat_template"] = templates
    elif settings.get("chat_template") is None:
        template = files.read_json(folder / files.CHAT_TEMPLATE_JSON).get("chat_template")
        if template is not None:
            settings["chat_template"] = template
    if "added_tokens_decoder" in config:
        where = f"{folder / files.TOKENIZER_CONFIG}: `added_tokens_decoder`"
        listed = config["added_tokens_decoder"]
        if not isinstance(listed, dict):
            raise ValueError(f"{where} must be an object of tokens by their ids")
        _check_count(listed, where)
        decoder = {added_id(id, where): added_token(value, where) for id, value in listed.items()}
        settings["added_tokens_decoder"] = decoder
    else:
        _add_special_tokens_map(settings, files.read_json(folder / files.SPECIAL_TOKENS_MAP), folder, kwargs)
        where = str(folder / files.ADDED_TOKENS)
        added = files.read_json(folder / files.ADDED_TOKENS)
        _check_count(added, where)
        check_settings(settings, folder)
        special = {str(settings[key]) for key in NAMED if settings.get(key) is not None}
        special |= {str(token) for token in settings.get("additional_special_tokens") or []}
        decoder = {}
        for content, id in added.items():
            token = {"content": content, "normalized": content not in special, "special": content in special}
            decoder[added_id(id, where)] = added_token(token, where)
        if decoder:
            settings["added_tokens_decoder"] = decoder
    check_settings(settings, folder)
    by_content = {token.content: token for token in decoder.values()}
    for key in NAMED:
        if settings.get(key) is not None:
            settings[key] = by_content.get(str(settings[key]), settings[key])
    return settings


def _check_count(tokens: dict[str, Any], where: str) -> None:
    if len(tokens) > MAX_ADDED_TOKENS:
        raise ValueError(f"{where}: {len(tokens)} tokens, more than the limit of {MAX_ADDED_TOKENS}")


def _add_special_tokens_map(
    settings: dict[str, Any], special_tokens_map: dict[str, Any], folder: Path, kwargs: dict[str, Any]
) -> None:
    for key, value in special_tokens_map.items():
        if kwargs.get(key) or key in _IGNORED:
            continue
        where = f"{folder / files.SPECIAL_TOKENS_MAP}: `{key}`"
        if isinstance(value, dict) and key != "extra_special_tokens":
            settings[key] = added_token({**value, "special": True}, where)
        elif key in ("additional_special_tokens", "extra_special_tokens") and isinstance(value, list):
            before = settings.get(key)
            tokens = list(before) if isinstance(before, list) else []
            known = {str(token) for token in tokens}
            for entry in value:
                if isinstance(entry, (list, int, float)) or entry is None:
                    raise ValueError(f"{where} must hold tokens")
                token = added_token({**entry, "special": True}, where) if isinstance(entry, dict) else entry
                if str(token) not in known:
                    tokens.append(token)
                    known.add(str(token))
            settings[key] = tokens
        else:
            settings[key] = value


def _token(value: Any, where: str) -> Any:
    """What stands for an added token in a configuration as one; anything else as it is."""
    if isinstance(value, dict):
        if value.get("__type") == "AddedToken":
            return added_token(value, where)
        return {key: _token(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_token(item, where) for item in value]
    return value


def _warn_of_class(own: str, configured: Any) -> None:
    """Say so if the files are those of a tokenizer of another kind."""
    if configured is not None and not isinstance(configured, str):
        raise ValueError(f"`tokenizer_class` of {files.TOKENIZER_CONFIG} must be a string")
    kin = ("LlamaTokenizer", "CodeLlamaTokenizer", "PreTrainedTokenizer", "TokenizersBackend")
    if configured is not None and configured.removesuffix("Fast") not in (own, *kin):
        logger.warning_once(
            f"the tokenizer was saved as a {configured} and is loaded as a {own}: the vocabulary's own rules "
            "are followed; what else that class does is not known here"
        )
