"""What a tokenizer can be made from, as compiled pipelines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from llamatok._core import ModelFormatError, Pipeline, Tokenizer
from llamatok._limited import read_limited
from llamatok.tokenization import tokenizer_json
from llamatok.tokenization.log import logger

#: The largest `tokenizer.json` or `tokenizer.model`, as in the core (`load::MAX_MODEL_BYTES`).
MAX_MODEL_BYTES = 256 << 20


class Source(NamedTuple):
    """A pipeline, and what is to be remembered of where it is from."""

    pipeline: Pipeline
    legacy: bool
    vocab_file: str | None = None
    model_data: bytes | None = None
    #: Whether there is a template in it, which stands unless something is said to the contrary.
    has_template: bool = False
    #: Arguments of the constructor that the file itself gives.
    defaults: Mapping[str, Any] = MappingProxyType({})


def load(
    vocab_file: str | os.PathLike[str] | dict[str, int] | Sequence[Any] | None,
    tokenizer_file: str | os.PathLike[str] | None,
    vocab: str | os.PathLike[str] | dict[str, int] | Sequence[Any] | None,
    merges: str | Iterable[str | Sequence[str]] | None,
    tokenizer_object: Any,
    *,
    legacy: bool | None,
    add_prefix_space: bool | None,
    from_slow: bool,
    cache_bytes: int | None,
) -> Source:
    """The source that a constructor's arguments name; they are those of `LlamaTokenizer`.

    Raises:
        ValueError: They name none, or it is refused.
        TypeError: `tokenizer_object` is of no known type.
        OSError: A file cannot be read.
    """
    if vocab_file is not None and not isinstance(vocab_file, (str, os.PathLike)):
        vocab, vocab_file = vocab_file, None
    path = None if vocab_file is None else os.fspath(vocab_file)
    if tokenizer_object is not None:
        return _from_object(tokenizer_object, legacy, add_prefix_space, cache_bytes)
    if isinstance(vocab, (str, os.PathLike)) and not os.fspath(vocab).endswith(".json"):
        # The path of a model under the name that transformers 5 has for it.
        path, vocab = os.fspath(vocab), None
    if vocab is not None:
        data = tokenizer_json.made(
            os.fspath(vocab) if isinstance(vocab, os.PathLike) else vocab,
            merges,
            # transformers 5, which has these arguments, takes no `legacy` for false.
            legacy=bool(legacy),
            add_prefix_space=add_prefix_space is not False,
        )
        return Source(Pipeline.from_tokenizer_json(data, cache_bytes=cache_bytes), bool(legacy))
    if tokenizer_file is not None and not (from_slow and path is not None):
        data = read_limited(Path(tokenizer_file), MAX_MODEL_BYTES)
        with _named(tokenizer_file):
            return _from_json(data, legacy, add_prefix_space, cache_bytes)._replace(vocab_file=path)
    if path is None:
        raise ValueError(
            "a tokenizer needs a `vocab_file` (tokenizer.model, GGUF), a `tokenizer_file` (tokenizer.json), "
            "or `vocab` and `merges`; `from_pretrained` finds the files in a folder or on the hub"
        )
    # Of a GGUF file no more than the metadata is read.
    with _named(path):
        if is_gguf(path):
            return _from_gguf(path, legacy, add_prefix_space, cache_bytes)
        data = read_limited(Path(path), MAX_MODEL_BYTES)
        if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
            return _from_json(data, legacy, add_prefix_space, cache_bytes)
        tokenizer = Tokenizer.from_bytes(data, cache_bytes=cache_bytes)
    decided = _decided(legacy)
    prefix = add_prefix_space is not False
    return Source(
        Pipeline.from_tokenizer(tokenizer, legacy=decided, add_prefix_space=prefix), decided, path, data
    )


def _from_gguf(
    path: str, legacy: bool | None, add_prefix_space: bool | None, cache_bytes: int | None
) -> Source:
    tokenizer = Tokenizer.from_file(path, cache_bytes=cache_bytes)
    decided = _decided(legacy)
    prefix = add_prefix_space is not False
    pipeline = Pipeline.from_tokenizer(tokenizer, legacy=decided, add_prefix_space=prefix)
    return Source(pipeline, decided, path, defaults=_said_by_gguf(tokenizer))


@contextlib.contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Names the file in the errors about its content, where the core, which was given bytes, does not."""
    try:
        yield
    except ModelFormatError as error:
        if str(error).startswith(os.fspath(path)):
            raise
        raise type(error)(f"{os.fspath(path)}: {error}") from None


_GGUF = b"GGUF"


def is_gguf(path: str) -> bool:
    """Whether a file is a GGUF file."""
    with open(path, "rb") as file:
        return file.read(4) == _GGUF


def _said_by_gguf(tokenizer: Tokenizer) -> dict[str, Any]:
    """What the metadata of a GGUF file say besides the vocabulary."""
    settings = tokenizer.settings
    ids = {"bos_token": settings["bos_id"], "eos_token": settings["eos_id"], "pad_token": settings["pad_id"]}
    said: dict[str, Any] = {name: tokenizer.id_to_piece(id) for name, id in ids.items() if id is not None}
    if settings["unk_id"] is not None:
        said["unk_token"] = tokenizer.id_to_piece(settings["unk_id"])
    said["add_bos_token"], said["add_eos_token"] = settings["add_bos"], settings["add_eos"]
    said["chat_template"] = settings["metadata"].get("tokenizer.chat_template")
    return {name: value for name, value in said.items() if value is not None}


def of_model(data: bytes, legacy: bool, add_prefix_space: bool | None, cache_bytes: int | None) -> Pipeline:
    """The pipeline of a `tokenizer.model` or a GGUF file, without added tokens."""
    tokenizer = Tokenizer.from_bytes(data, cache_bytes=cache_bytes)
    prefix = add_prefix_space is not False
    return Pipeline.from_tokenizer(tokenizer, legacy=legacy, add_prefix_space=prefix)


def _decided(legacy: bool | None) -> bool:
    if legacy is None:
        logger.warning_once(
            "`legacy` is not given: text after a special token gets a prefix space, as it always did. With "
            "`legacy=False` it does not; give one or the other to be rid of this message"
        )
    return legacy is not False


def _from_json(
    data: bytes, legacy: bool | None, add_prefix_space: bool | None, cache_bytes: int | None
) -> Source:
    if legacy is None:
        legacy = tokenizer_json.says_legacy(data)
    # What the core has read is sound: below, Python's reader takes it as it is.
    pipeline = Pipeline.from_tokenizer_json(data, cache_bytes=cache_bytes)
    if add_prefix_space is not None:
        changed = tokenizer_json.with_prefix_space(data, add_prefix_space, legacy)
        if changed is not data:
            pipeline = Pipeline.from_tokenizer_json(changed, cache_bytes=cache_bytes)
    return Source(pipeline, legacy, has_template=True)


def _from_object(
    tokenizer: Any, legacy: bool | None, add_prefix_space: bool | None, cache_bytes: int | None
) -> Source:
    if isinstance(tokenizer, Pipeline):
        is_json = tokenizer.mode == "tokenizer_json"
        return Source(tokenizer, tokenizer.legacy if legacy is None else legacy, has_template=is_json)
    if isinstance(tokenizer, Tokenizer):
        if tokenizer.settings["format"] == "tokenizer.json":
            # What pickles a tokenizer is its file.
            return _from_json(tokenizer.__reduce__()[1][0], legacy, add_prefix_space, cache_bytes)
        decided = _decided(legacy)
        prefix = add_prefix_space is not False
        pipeline = Pipeline.from_tokenizer(tokenizer, legacy=decided, add_prefix_space=prefix)
        return Source(pipeline, decided)
    if hasattr(tokenizer, "to_str"):
        return _from_json(tokenizer.to_str().encode(), legacy, add_prefix_space, cache_bytes)
    raise TypeError(
        "`tokenizer_object` must be a tokenizers.Tokenizer or a llamatok.Tokenizer, "
        f"not {type(tokenizer).__name__}"
    )
