"""Texts to ids, one row or several, with all that goes with them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llamatok._core import Pipeline
from llamatok.tokenization import tokenizer_json
from llamatok.tokenization.batch_encoding import BatchEncoding
from llamatok.tokenization.encoding import Encodings, Padding
from llamatok.tokenization.log import logger
from llamatok.tokenization.prepare import Preparing, check_slow_options, padded_length
from llamatok.tokenization.strategies import PaddingStrategy, TensorType, TruncationStrategy, side
from llamatok.tokenization.tensors import as_tensor, from_array, tensor_type

if TYPE_CHECKING:
    from llamatok._core import EncodingBatch

#: The columns of an encoded batch under the names of a call's result, with what fills them up.
_FILLS = {"input_ids": 0, "token_type_ids": 0, "attention_mask": 0, "special_tokens_mask": 1}


class EncodingTexts(Preparing):
    """What calling a tokenizer rests on; the options are those of `Calling.__call__`."""

    split_special_tokens: bool
    _dropout: float | None
    _random: random.Random | None

    _prefixless: Pipeline | None = None

    def _without_prefix_space(self) -> Pipeline:
        """The pipeline without added tokens that puts no prefix space before a text."""
        if self._prefixless is None:
            if self._slow():
                self._prefixless = self._core.with_settings(legacy=False, add_prefix_space=False)
            else:
                data = tokenizer_json.with_prefix_space(self._core.to_json(), False, False)
                self._prefixless = Pipeline.from_tokenizer_json(data).with_added_tokens([])
        return self._prefixless

    # One row, several rows

    def _encode_one(self, text: Any, text_pair: Any = None, **options: Any) -> BatchEncoding:
        words = bool(options.get("is_split_into_words", False))
        if not isinstance(text, str) and not words:
            # Tokens or ids instead of a text.
            first = self._ids_of_input(text)
            second = None if text_pair is None else self._ids_of_input(text_pair)
            for name in ("is_split_into_words", "split_special_tokens"):
                options.pop(name, None)
            batch_axis = options.get("return_tensors") is not None
            return self.prepare_for_model(first, second, prepend_batch_axis=batch_axis, **options)
        # The fast class takes an empty second text for none.
        if text_pair is not None and not text_pair and not self._slow():
            text_pair = None
        encoded = self._encode_texts([text], None if text_pair is None else [text_pair], one=True, **options)
        windows = options.get("return_overflowing_tokens", False) and not self._slow()
        if options.get("return_tensors") is not None or windows:
            return encoded
        for key, value in encoded.data.items():
            if key != "length" or self._slow():
                encoded.data[key] = value[0]
        return encoded

    def _encode_many(self, texts: Any, pairs: Any = None, **options: Any) -> BatchEncoding:
        words = bool(options.get("is_split_into_words", False))
        if pairs is None and len(texts) > 0:
            first = texts[0]
            if words and not isinstance(first, str) and len(first) > 0 and not isinstance(first[0], str):
                texts, pairs = _unzipped(texts)
            elif not words and isinstance(first, (list, tuple)):
                if len(first) > 0 and isinstance(first[0], int):
                    return self._prepare_many([(self._ids_of_input(ids), None) for ids in texts], options)
                texts, pairs = _unzipped(texts)
        if pairs is not None and len(pairs) > 0 and not words and not isinstance(texts[0], str):
            rows: list[tuple[list[int], list[int] | None]] = [
                (self._ids_of_input(first), self._ids_of_input(second))
                for first, second in zip(texts, pairs, strict=True)
            ]
            return self._prepare_many(rows, options)
        return self._encode_texts(texts, pairs, one=False, **options)

    def _ids_of_input(self, value: Any) -> list[int]:
        """The ids of what may stand for a text: a text, tokens or ids."""
        if isinstance(value, str):
            return self._ready().encode(value, add_special_tokens=False)
        if isinstance(value, (list, tuple)):
            if all(isinstance(item, str) for item in value) and value:
                return [0 if id is None else id for id in map(self._id_of, value)]
            if all(isinstance(item, (int, np.integer)) for item in value):
                return [int(item) for item in value]
        raise ValueError(
            f"Input {value!r} is not valid. Should be a string, a list/tuple of strings or a list/tuple of "
            "integers."
        )

    def _prepare_many(
        self, rows: list[tuple[list[int], list[int] | None]], options: dict[str, Any]
    ) -> BatchEncoding:
        options = dict(options)
        for name in ("is_split_into_words", "split_special_tokens"):
            options.pop(name, None)
        padding = {
            name: options.pop(name)
            for name in ("padding", "pad_to_multiple_of", "padding_side", "return_attention_mask")
            if name in options
        }
        tensors = options.pop("return_tensors", None)
        columns: dict[str, list[Any]] = {}
        for ids, pair_ids in rows:
            one = self.prepare_for_model(ids, pair_ids, return_attention_mask=False, **options)
            for key, value in one.data.items():
                columns.setdefault(key, []).append(value)
        padding.setdefault("padding", False)
        return self.pad(columns, max_length=options.get("max_length"), return_tensors=tensors, **padding)

    # The work

    def _encode_texts(
        self,
        texts: Any,
        pairs: Any,
        *,
        one: bool,
        add_special_tokens: bool = True,
        padding: bool | str | PaddingStrategy = False,
        truncation: bool | str | TruncationStrategy | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | TensorType | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
        split_special_tokens: bool | None = None,
        **unknown: Any,
    ) -> BatchEncoding:
        if unknown:
            logger.warning(f"Keyword arguments {unknown} not recognized.")
        if padding is False and truncation is None and max_length is None:
            pad, cut = PaddingStrategy.DO_NOT_PAD, TruncationStrategy.DO_NOT_TRUNCATE
        else:
            pad, cut, max_length = self._strategies(
                padding, truncation, max_length, pad_to_multiple_of, verbose
            )
        truncates = cut is not TruncationStrategy.DO_NOT_TRUNCATE
        slow = self._slow()
        if slow:
            check_slow_options(
                add_special_tokens, return_token_type_ids, return_overflowing_tokens, cut, pairs is not None
            )
        arguments: dict[str, Any] = {
            "add_special_tokens": add_special_tokens,
            "split_special_tokens": (
                self.split_special_tokens if split_special_tokens is None else split_special_tokens
            ),
            "is_split_into_words": is_split_into_words,
        }
        if truncates:
            arguments |= {
                "truncation": cut.value,
                "max_length": max_length,
                "stride": stride,
                "truncation_side": side(self.truncation_side, "truncation_side"),
                "overflow": return_overflowing_tokens,
            }
        if self._dropout is not None:
            arguments |= {"dropout": self._dropout, "seed": self._next_seed()}
        pipeline = self._ready()
        batch = pipeline.encode_batch(texts, pairs, offsets=return_offsets_mapping, **arguments)
        if slow and truncates:
            self._log_unmet(batch, cut)

        lengths = batch.lengths()
        longest = int(lengths.max(initial=0))
        if max_length is None:
            self._warn_if_too_long(longest, verbose)
        length = padded_length(pad, longest, max_length, pad_to_multiple_of)
        fill_side = side(padding_side or self.padding_side, "padding_side")
        fills = _FILLS if length is None else {**_FILLS, "input_ids": self.pad_token_id}
        columns: list[Any] = ["input_ids"]
        if return_token_type_ids or (return_token_type_ids is None and self._wants("token_type_ids")):
            columns.append("token_type_ids")
        if return_attention_mask or (return_attention_mask is None and self._wants("attention_mask")):
            columns.append("attention_mask")
        if return_special_tokens_mask:
            columns.append("special_tokens_mask")

        data: dict[str, Any] = {}
        if return_tensors is None:
            for name in columns:
                data[name] = batch.lists(name, length=length, side=fill_side, pad_value=fills[name])
            if return_offsets_mapping:
                data["offset_mapping"] = batch.lists("offset_mapping", length=length, side=fill_side)
        else:
            kind = tensor_type(return_tensors)
            if len(batch) > 0 and (int(lengths.min()) < longest if length is None else longest > length):
                raise ValueError(
                    "Unable to create tensor, you should probably activate truncation and/or padding with "
                    "'padding=True' 'truncation=True' to have batched tensors with the same length. The rows "
                    f"of `input_ids` are from {int(lengths.min())} to {longest} long"
                )
            for name in columns:
                data[name] = from_array(
                    batch.padded(name, length=length, side=fill_side, pad_value=fills[name]), kind
                )
            if return_offsets_mapping:
                offsets = batch.lists("offset_mapping", length=length, side=fill_side)
                data["offset_mapping"] = as_tensor(offsets, kind)
        if return_length:
            # The slow class counts the rows of a batch before filling them up.
            counts = lengths if length is None or (slow and not one) else np.maximum(lengths, length)
            data["length"] = counts.tolist()
            if return_tensors is not None:
                data["length"] = from_array(counts.astype(np.int64), kind)
        if return_overflowing_tokens:
            self._add_overflow(data, batch, lengths, max_length, return_tensors)

        n_sequences = 1 if pairs is None else 2
        padding_used = (
            None
            if length is None
            else Padding(length, fill_side, self.pad_token_id, str(self.pad_token), self.pad_token_type_id)
        )
        if return_offsets_mapping:
            encodings = Encodings(lambda: batch, padding_used)
        else:
            kept, kept_pairs = _copied(texts), _copied(pairs)
            encodings = Encodings(
                lambda: pipeline.encode_batch(kept, kept_pairs, offsets=True, **arguments), padding_used
            )
        return BatchEncoding(data, encodings, n_sequences=n_sequences)

    def _add_overflow(
        self,
        data: dict[str, Any],
        batch: EncodingBatch,
        lengths: Any,
        max_length: int | None,
        return_tensors: str | TensorType | None,
    ) -> None:
        if self._slow():
            overflowing, removed = batch.overflowing_ids, batch.num_truncated
            data["overflowing_tokens"] = [[] for _ in lengths] if overflowing is None else overflowing
            data["num_truncated_tokens"] = (
                (lengths - (max_length or 0)).tolist() if removed is None else removed.tolist()
            )
            added = ["overflowing_tokens", "num_truncated_tokens"]
        else:
            data["overflow_to_sample_mapping"] = batch.sample_mapping.tolist()
            added = ["overflow_to_sample_mapping"]
        if return_tensors is not None:
            # Through the one place that says what is wrong with rows that differ in length.
            converted = BatchEncoding({name: data[name] for name in added}).convert_to_tensors(return_tensors)
            data.update(converted.data)

    def _log_unmet(self, batch: EncodingBatch, strategy: TruncationStrategy) -> None:
        unmet = batch.unmet_rows
        if unmet:
            logger.error(
                f"truncation {strategy.value!r} would have to cut off more ids than there are, in rows "
                f"{unmet[:5]}{'...' if len(unmet) > 5 else ''}: left whole. Choose a greater `max_length` or "
                "another truncation strategy"
            )

    def _next_seed(self) -> int:
        """A seed for the next call, so that its encodings can be made again."""
        if self._random is None:
            self._random = random.Random()
        return self._random.getrandbits(64)


def _copied(texts: Any) -> Any:
    """The texts of a call, whatever the caller does with the list afterwards."""
    if texts is None:
        return None
    return [text if isinstance(text, str) else list(text) for text in texts]


def _unzipped(pairs: Sequence[Sequence[Any]]) -> tuple[list[Any], list[Any]]:
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"a batch of pairs must have two texts in each place, not {pair!r}")
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
