"""transformers' own tokenizers, with llamatok's engine in them.

`llamatok.LlamaTokenizer` is no subclass of transformers' classes. Where those are insisted on, a tokenizer of
transformers can be given the engine instead:

    from llamatok.integrations.transformers import accelerate

    tokenizer = accelerate(AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf"))

The result is of a subclass of the tokenizer's class, with the same name, settings and chat template; what it
returns is what the tokenizer returns. `install()` makes `AutoTokenizer.from_pretrained` return such
tokenizers from then on, `installed()` within a `with` statement.

Tokenizers backed by the tokenizers library are taken, if llamatok supports each component of their pipeline;
others are left as they are, with a warning that says why. Works with transformers 4.45 to 5.
"""

from __future__ import annotations

import copy
import functools
import importlib
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from llamatok import _core
from llamatok.tokenization.encoding import Encodings, Padding

try:
    import transformers
    from transformers.tokenization_utils_base import TruncationStrategy
    from transformers.utils.generic import PaddingStrategy
except ImportError as error:
    raise ImportError(
        "llamatok.integrations.transformers needs transformers, which is not installed: "
        "pip install 'llamatok[transformers]'"
    ) from error

if TYPE_CHECKING:
    from llamatok._core import EncodingBatch, Pipeline

__all__ = ["accelerate", "install", "installed", "is_accelerated", "uninstall"]

_T = TypeVar("_T")
_FAST_CLASS: Any = transformers.PreTrainedTokenizerFast
#: Up to transformers 4, batches go through `_batch_encode_plus`; since 5, all goes through `_encode_plus`.
_BATCHES_APART = hasattr(_FAST_CLASS, "_batch_encode_plus")


class AccelerationWarning(UserWarning):
    """A tokenizer is left as it is, since llamatok cannot take its place exactly."""


def accelerate(tokenizer: _T, *, in_place: bool = False) -> _T:
    """A tokenizer of transformers with llamatok's engine: the same results, sooner.

    Args:
        tokenizer: Any tokenizer of transformers.
        in_place: Whether the object itself becomes the accelerated one, for those who hold it already. Else
            it is left as it is, and a copy is returned.

    Returns:
        The accelerated tokenizer; or `tokenizer` as it is, with an `AccelerationWarning`, where llamatok does
        not support it.

    Later changes through the tokenizer's own methods and attributes (added tokens, `add_eos_token`, ...) and
    through its `backend_tokenizer` are heeded.
    """
    if is_accelerated(tokenizer):
        return tokenizer
    try:
        _check_class(type(tokenizer))
        engine = _Engine.of(tokenizer)
    except _Unsupported as reason:
        warnings.warn(
            f"{type(tokenizer).__name__} is left as it is: {reason}", AccelerationWarning, stacklevel=2
        )
        return tokenizer
    original: Any = type(tokenizer)
    kind: Any = _accelerated_class(original)
    accelerated: Any
    if in_place:
        accelerated = tokenizer
        accelerated.__class__ = kind
    else:
        accelerated = kind.__new__(kind)
        accelerated.__dict__.update(copy.deepcopy(tokenizer.__dict__))
        engine.backend = accelerated._tokenizer
    _engines[accelerated] = engine
    return accelerated  # type: ignore[no-any-return]


def is_accelerated(tokenizer: object) -> bool:
    """Whether a tokenizer has llamatok's engine."""
    return isinstance(tokenizer, _Accelerated)


_original_from_pretrained: Any = None


def _auto_class() -> Any:
    return transformers.AutoTokenizer


def install() -> None:
    """Makes `AutoTokenizer.from_pretrained` return accelerated tokenizers, in the whole process."""
    global _original_from_pretrained
    if _original_from_pretrained is not None:
        return
    _original_from_pretrained = transformers.AutoTokenizer.__dict__["from_pretrained"]
    original = transformers.AutoTokenizer.from_pretrained

    @functools.wraps(original)
    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
        return accelerate(original(*args, **kwargs), in_place=True)

    _auto_class().from_pretrained = classmethod(from_pretrained)


def uninstall() -> None:
    """Undoes `install`. Tokenizers that were made in between stay accelerated."""
    global _original_from_pretrained
    if _original_from_pretrained is not None:
        _auto_class().from_pretrained = _original_from_pretrained
        _original_from_pretrained = None


@contextmanager
def installed() -> Iterator[None]:
    """Within this context, `AutoTokenizer.from_pretrained` returns accelerated tokenizers."""
    before = _original_from_pretrained is not None
    install()
    try:
        yield
    finally:
        if not before:
            uninstall()


# The engine of a tokenizer


class _Unsupported(Exception):
    """Why a tokenizer cannot be taken."""


def _check_class(kind: type) -> None:
    """Whether a class encodes and decodes as its base class does.

    Raises:
        _Unsupported: It does not.
    """
    if not issubclass(kind, _FAST_CLASS):
        raise _Unsupported("only tokenizers backed by the tokenizers library are supported (use_fast=True)")
    for method in ("_encode_plus", "_batch_encode_plus", "_decode", "set_truncation_and_padding"):
        if getattr(kind, method, None) is not getattr(_FAST_CLASS, method, None):
            raise _Unsupported(f"its class has a `{method}` of its own")


class _Engine:
    """A pipeline, and what of the tokenizer's backend it was made from."""

    __slots__ = ("added", "backend", "components", "limit", "pipeline", "shows_normalized", "touched")

    def __init__(self, backend: Any, pipeline: Pipeline | None) -> None:
        self.backend = backend
        self.pipeline = pipeline
        #: Set when somebody is handed the backend itself, as long as it is held.
        self.touched = False
        self.components = _components(backend)
        self._note_added_tokens()

    @classmethod
    def of(cls, tokenizer: Any) -> _Engine:
        """The engine for a tokenizer.

        Raises:
            _Unsupported: There is none.
        """
        backend = tokenizer._tokenizer
        try:
            pipeline = _core.Pipeline.from_tokenizer_json(backend.to_str().encode())
            return cls(backend, pipeline)
        except Exception as error:  # a component in Python cannot be serialized, and raises a bare Exception
            raise _Unsupported(str(error)) from error

    def _note_added_tokens(self) -> None:
        self.added = _added_tokens(self.backend)
        # tokenizers 0.23 shows such tokens as the normalizer leaves them, the engine as they were given.
        self.shows_normalized = self.backend.normalizer is not None and any(t[5] for t in self.added)
        # The id that the next added token gets, by `AddedVocabulary::add_tokens` of tokenizers 0.23.
        self.limit = max(
            self.backend.get_vocab_size(with_added_tokens=False), *(t[0] + 1 for t in self.added), 0
        )

    def is_current(self, tokenizer: Any) -> bool:
        """Whether nothing of the backend has changed since the engine was made, or brought up to date."""
        held = self.touched and _is_held(tokenizer)
        backend = tokenizer._tokenizer
        if self.backend is not backend or self.components != _components(backend):
            return False
        if self.touched or backend.id_to_token(self.limit) is not None:
            self.touched = held
            known = self.added
            self._note_added_tokens()
            if self.added != known and self.pipeline is not None:
                self.pipeline = self.pipeline.with_added_tokens(self.added)
        return True


def _references(tokenizer: Any) -> int:
    return sys.getrefcount(tokenizer.__dict__["_tokenizer"])


def _unheld() -> int:
    backend = object()
    return _references(SimpleNamespace(_tokenizer=backend))


#: The references to a backend that only its tokenizer and one other object have: here a variable, else the
#: engine. How many of them Python counts in passing differs from version to version.
_UNHELD = _unheld()


def _is_held(tokenizer: Any) -> bool:
    """Whether anybody beside a tokenizer and its engine has the backend in hand, and so may change it."""
    return _references(tokenizer) > _UNHELD


def _components(backend: Any) -> tuple[Any, ...]:
    """What the parts of a backend are, in a form that is had in a microsecond and can be compared."""
    parts = (backend.normalizer, backend.pre_tokenizer, backend.post_processor, backend.decoder)
    model = backend.model
    settings = (model.dropout, model.unk_token, model.fuse_unk, model.byte_fallback, model.ignore_merges)
    return (*(None if part is None else part.__getstate__() for part in parts), *settings)


def _added_tokens(backend: Any) -> list[tuple[int, str, bool, bool, bool, bool, bool]]:
    return [
        (number, t.content, t.single_word, t.lstrip, t.rstrip, t.normalized, t.special)
        for number, t in sorted(backend.get_added_tokens_decoder().items())
    ]


#: Beside the tokenizers instead of in them, so that what pickles, copies and hashes their attributes (as
#: `datasets` does) finds those of transformers alone.
_engines: weakref.WeakKeyDictionary[Any, _Engine] = weakref.WeakKeyDictionary()


# The classes


class _Accelerated:
    """What accelerated classes have before those of transformers."""

    def _llamatok_pipeline(self) -> Pipeline | None:
        """The pipeline of the tokenizer as it is now; None once it has become one that is not supported."""
        engine = _engines.get(self)
        if engine is None or not engine.is_current(self):
            try:
                engine = _Engine.of(self)
            except _Unsupported as reason:
                warnings.warn(
                    f"{type(self).__name__} is accelerated no longer: {reason}",
                    AccelerationWarning,
                    stacklevel=4,
                )
                engine = _Engine(self._tokenizer, None)  # type: ignore[attr-defined]
            _engines[self] = engine
        return engine.pipeline

    @property
    def backend_tokenizer(self) -> Any:
        engine = _engines.get(self)
        if engine is not None:
            engine.touched = True
        return self._tokenizer  # type: ignore[attr-defined]

    def _add_tokens(self, *args: Any, **kwargs: Any) -> int:
        engine = _engines.get(self)
        if engine is not None:
            engine.touched = True
        return super()._add_tokens(*args, **kwargs)  # type: ignore[misc, no-any-return]

    def _decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> str:
        clean_up: Any = clean_up_tokenization_spaces
        if clean_up is None:
            clean_up = self.clean_up_tokenization_spaces  # type: ignore[attr-defined]
        pipeline = None if clean_up else self._llamatok_pipeline()
        if pipeline is not None and isinstance(token_ids, list) and not _engines[self].shows_normalized:
            try:
                return pipeline.decode(token_ids, skip_special_tokens=skip_special_tokens)
            except (TypeError, ValueError, OverflowError, IndexError):
                pass  # what is no id gets the error that transformers has for it
        original: str = super()._decode(  # type: ignore[misc]
            token_ids,
            skip_special_tokens=skip_special_tokens,
            clean_up_tokenization_spaces=clean_up_tokenization_spaces,
            **kwargs,
        )
        return original

    def _llamatok_encode(self, texts: Any, pairs: Any, is_batched: bool, options: dict[str, Any]) -> Any:
        """The BatchEncoding of texts, or None where transformers must answer: with its error, or with what is
        not supported here. `texts` and `pairs` are lists, also for a single text."""
        pipeline = self._llamatok_pipeline()
        if pipeline is None or not texts or options["unknown"] or (options["pad_to_multiple_of"] or 0) < 0:
            return None
        truncation = options["truncation_strategy"].value
        arguments: dict[str, Any] = {
            "add_special_tokens": options["add_special_tokens"],
            "split_special_tokens": options["split_special_tokens"],
            "is_split_into_words": options["is_split_into_words"],
        }
        if truncation != "do_not_truncate":
            arguments |= {
                "truncation": truncation,
                "max_length": options["max_length"],
                "stride": options["stride"],
                "truncation_side": self.truncation_side,  # type: ignore[attr-defined]
                "overflow": options["return_overflowing_tokens"],
            }
        # With dropout, a second encoding for the offsets would be another one.
        offsets = options["return_offsets_mapping"] or bool(self._tokenizer.model.dropout)  # type: ignore[attr-defined]
        try:
            batch = pipeline.encode_batch(texts, pairs, offsets=offsets, **arguments)
        except (TypeError, ValueError, OverflowError):
            return None
        padding = self._llamatok_padding(batch, options)

        def encode_again() -> EncodingBatch:
            return batch if offsets else pipeline.encode_batch(texts, pairs, offsets=True, **arguments)

        encodings: Any = Encodings(encode_again, padding)
        data = self._llamatok_columns(batch, padding, options)
        self._llamatok_warn(batch, padding, options)
        if not is_batched and options["return_tensors"] is None and not options["return_overflowing_tokens"]:
            data = {
                key: value[0] if len(value) > 0 and isinstance(value[0], list) else value
                for key, value in data.items()
            }
        return transformers.BatchEncoding(
            data,
            encodings,
            tensor_type=options["return_tensors"],
            n_sequences=1 if pairs is None else 2,
        )

    def _llamatok_padding(self, batch: EncodingBatch, options: dict[str, Any]) -> Padding | None:
        strategy = options["padding_strategy"].value
        if strategy == "do_not_pad":
            return None
        if strategy == "max_length":
            length: int = options["max_length"]
        else:
            # What overflows does not count for the library, even where it is longer, for want of room.
            samples = batch.sample_mapping
            is_first = np.ones(len(samples), bool)
            is_first[1:] = samples[1:] != samples[:-1]
            length = max(batch.lengths()[is_first], default=0)
        multiple = options["pad_to_multiple_of"]
        if multiple:
            length = -(-int(length) // multiple) * multiple
        this: Any = self
        return Padding(
            int(length),
            options["padding_side"] or this.padding_side,
            this.pad_token_id,
            this.pad_token,
            this.pad_token_type_id,
        )

    def _llamatok_columns(
        self, batch: EncodingBatch, padding: Padding | None, options: dict[str, Any]
    ) -> dict[str, Any]:
        """The values of the result, in the order that transformers has them in."""
        this: Any = self
        wanted: dict[str, Any] = {"input_ids": 0 if padding is None else padding.id}
        for name, option, fill in (
            ("token_type_ids", "return_token_type_ids", 0 if padding is None else padding.type_id),
            ("attention_mask", "return_attention_mask", 0),
            ("special_tokens_mask", "return_special_tokens_mask", 1),
        ):
            asked = options[option]
            if name in this.model_input_names if asked is None else asked:
                wanted[name] = fill
        length = None if padding is None else padding.length
        side: Any = "right" if padding is None else padding.side
        lengths = batch.lengths()
        if length is not None:
            lengths = np.maximum(lengths, length)
        rectangular = len(lengths) > 0 and bool((lengths == lengths[0]).all())
        kind = getattr(options["return_tensors"], "value", options["return_tensors"])
        data: dict[str, Any] = {}
        for name, fill in wanted.items():
            column: Any = name
            if rectangular and kind in ("np", "pt"):
                array = batch.padded(column, int(lengths[0]), side, fill)
                data[name] = array if kind == "np" else _torch().from_numpy(array)
            else:
                data[name] = batch.lists(column, length=length, side=side, pad_value=fill)
        if options["return_offsets_mapping"]:
            data["offset_mapping"] = batch.lists("offset_mapping", length=length, side=side)
        if options["return_length"]:
            data["length"] = lengths.tolist()
        if options["return_overflowing_tokens"]:
            data["overflow_to_sample_mapping"] = batch.sample_mapping.tolist()
        return data

    def _llamatok_warn(self, batch: EncodingBatch, padding: Padding | None, options: dict[str, Any]) -> None:
        this: Any = self
        limit = this.model_max_length
        if options["max_length"] is None and options["verbose"] and len(batch) > 0:
            longest = max(int(max(batch.lengths())), 0 if padding is None else padding.length)
            if longest > limit:
                this._eventual_warn_about_too_long_sequence(range(longest), None, True)


def _torch() -> Any:
    import torch

    return torch


_ENCODING_OPTIONS: dict[str, Any] = {
    "add_special_tokens": True,
    "padding_strategy": PaddingStrategy.DO_NOT_PAD,
    "truncation_strategy": TruncationStrategy.DO_NOT_TRUNCATE,
    "max_length": None,
    "stride": 0,
    "is_split_into_words": False,
    "pad_to_multiple_of": None,
    "padding_side": None,
    "return_tensors": None,
    "return_token_type_ids": None,
    "return_attention_mask": None,
    "return_overflowing_tokens": False,
    "return_special_tokens_mask": False,
    "return_offsets_mapping": False,
    "return_length": False,
    "verbose": True,
    "split_special_tokens": None,
}


def _options(tokenizer: Any, keywords: dict[str, Any]) -> dict[str, Any]:
    """The options of a call with their defaults; "unknown" tells whether there are others."""
    options = {**_ENCODING_OPTIONS, **keywords}
    if options["split_special_tokens"] is None:
        options["split_special_tokens"] = _BATCHES_APART is False and tokenizer.split_special_tokens
    others = options.keys() - _ENCODING_OPTIONS.keys()
    options["unknown"] = any(options[name] for name in others)
    return options


def _texts(items: Any, words: bool) -> tuple[Any, Any] | None:
    """Texts and their pairs out of a list of texts or of tuples of two; None for anything else."""
    if not isinstance(items, (list, tuple)):
        return None
    kinds = (list, tuple) if words else (str,)

    def is_text(value: Any) -> bool:
        return isinstance(value, kinds) and (not words or all(isinstance(word, str) for word in value))

    if all(map(is_text, items)):
        return list(items), None
    if all(isinstance(item, (list, tuple)) and len(item) == 2 and all(map(is_text, item)) for item in items):
        return [item[0] for item in items], [item[1] for item in items]
    return None


class _AcceleratedSince5(_Accelerated):
    """transformers 5: single texts and batches go through one method."""

    def _encode_plus(self, text: Any, text_pair: Any = None, **keywords: Any) -> Any:
        options = _options(self, keywords)
        words = options["is_split_into_words"]
        is_batched = isinstance(text, (list, tuple))
        if words:
            is_batched = bool(is_batched and text and isinstance(text[0], (list, tuple)))
        found: tuple[Any, Any] | None
        if not is_batched:
            found = _texts([(text, text_pair)] if text_pair else [text], words)
        elif text_pair is None:
            found = _texts(text, words)
        elif isinstance(text_pair, (list, tuple)) and len(text) == len(text_pair):
            found = _texts(list(zip(text, text_pair, strict=True)), words)
        else:
            found = None
        encoded = None if found is None else self._llamatok_encode(*found, is_batched, options)
        if encoded is not None:
            return encoded
        return super()._encode_plus(text, text_pair, **keywords)  # type: ignore[misc]


class _AcceleratedUpTo4(_Accelerated):
    """transformers 4: a method for single texts, and one for batches."""

    def _encode_plus(self, text: Any, text_pair: Any = None, **keywords: Any) -> Any:
        options = _options(self, keywords)
        found = _texts([(text, text_pair)] if text_pair else [text], options["is_split_into_words"])
        encoded = None if found is None else self._llamatok_encode(*found, False, options)
        if encoded is not None:
            return encoded
        return super()._encode_plus(text, text_pair, **keywords)  # type: ignore[misc]

    def _batch_encode_plus(self, batch_text_or_text_pairs: Any, **keywords: Any) -> Any:
        options = _options(self, keywords)
        found = _texts(batch_text_or_text_pairs, options["is_split_into_words"])
        encoded = None if found is None else self._llamatok_encode(*found, True, options)
        if encoded is not None:
            return encoded
        return super()._batch_encode_plus(batch_text_or_text_pairs, **keywords)  # type: ignore[misc]


@functools.cache
def _accelerated_class(original: type) -> type:
    """The accelerated subclass of a class of transformers.

    It has the original's name, which `save_pretrained` writes down. To be found again by pickle, its
    qualified name says which class it is of: see `__getattr__`.
    """
    base = _AcceleratedUpTo4 if _BATCHES_APART else _AcceleratedSince5
    kind = type(original.__name__, (base, original), {"__module__": __name__, "__doc__": original.__doc__})
    kind.__qualname__ = f"{original.__module__}.{original.__qualname__}".replace(".", "|")
    return kind


def __getattr__(name: str) -> Any:
    """The accelerated class of a qualified name, in any process."""
    *parts, last = name.split("|")
    if parts:
        module = importlib.import_module(".".join(parts))
        original = getattr(module, last, None)
        if isinstance(original, type) and issubclass(original, _FAST_CLASS):
            return _accelerated_class(original)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
