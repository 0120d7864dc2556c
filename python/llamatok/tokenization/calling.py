"""Calling a tokenizer: texts to ids, with all that goes with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llamatok.tokenization.batch_encoding import BatchEncoding
from llamatok.tokenization.encoding import Encodings
from llamatok.tokenization.strategies import PaddingStrategy, TensorType, TruncationStrategy
from llamatok.tokenization.texts import EncodingTexts


class Calling(EncodingTexts):
    """The methods that encode texts."""

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
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
        **kwargs: Any,
    ) -> BatchEncoding:
        """Encode one text, or several, or pairs of texts.

        >>> from llamatok import LlamaTokenizer
        >>> tokenizer = LlamaTokenizer.default(pad_token="</s>")
        >>> encoded = tokenizer(["Hello world", "Hi"], padding=True, return_tensors="np")
        >>> encoded["input_ids"].shape == encoded["attention_mask"].shape
        True

        Args:
            text: A text; or a list of texts; with `is_split_into_words`, a list of words or a list of such
                lists. A list of tuples of two is a list of pairs.
            text_pair: The second text of a pair, or a list of them.
            text_target: Texts to encode as targets: alone, or besides `text` as `labels`.
            text_pair_target: Their pairs.
            add_special_tokens: Whether to put the special tokens around the texts.
            padding: True or "longest", "max_length", False or "do_not_pad".
            truncation: True or "longest_first", "only_first", "only_second", False or "do_not_truncate".
            max_length: The greatest length; by default `model_max_length`, where that is set.
            stride: How many ids of a row the next overflowing one repeats.
            is_split_into_words: Whether texts are lists of words.
            pad_to_multiple_of: What the length of padded rows is to be a multiple of.
            padding_side: "left" or "right", instead of the attribute of this name.
            return_tensors: "pt" or "np" for tensors (int64, of shape (rows, length)); lists by default.
            return_token_type_ids: Whether to return `token_type_ids`.
            return_attention_mask: Whether to return `attention_mask`; by default, if the model takes it.
            return_overflowing_tokens: Whether to return what truncation cuts off: as rows of their own and
                `overflow_to_sample_mapping` for a tokenizer from `tokenizer.json`, as `overflowing_tokens`
                and `num_truncated_tokens` for one from `tokenizer.model`.
            return_special_tokens_mask: Whether to return `special_tokens_mask`.
            return_offsets_mapping: Whether to return `offset_mapping`: each token's range of code points.
            return_length: Whether to return `length`.
            verbose: Whether to warn.
            **kwargs: `split_special_tokens=True` reads special tokens in the text as ordinary text.

        Raises:
            ValueError: An input or a combination of arguments that means nothing.
        """
        if (
            type(text) is str
            and text_pair is None
            and text_target is None
            and padding is False
            and truncation is None
            and max_length is None
            and return_tensors is None
            and not kwargs
            and self._dropout is None
            and not is_split_into_words
            and return_attention_mask is not False
            and not (
                return_token_type_ids
                or return_overflowing_tokens
                or return_special_tokens_mask
                or return_offsets_mapping
                or return_length
            )
            and self._plain
        ):
            # The shortest way, with the same outcome as the long one.
            pipeline = self._pipeline or self._ready()
            split = self.split_special_tokens
            ids = pipeline.encode(text, add_special_tokens=add_special_tokens, split_special_tokens=split)
            if len(ids) > self.model_max_length:
                self._warn_if_too_long(len(ids), verbose)
            encodings = Encodings(
                lambda: pipeline.encode_batch(
                    [text], add_special_tokens=add_special_tokens, split_special_tokens=split, offsets=True
                ),
                None,
            )
            return BatchEncoding({"input_ids": ids, "attention_mask": [1] * len(ids)}, encodings)
        if text is None and text_target is None:
            raise ValueError("You need to specify either `text` or `text_target`.")
        options: dict[str, Any] = {
            "add_special_tokens": add_special_tokens,
            "padding": padding,
            "truncation": truncation,
            "max_length": max_length,
            "stride": stride,
            "is_split_into_words": is_split_into_words,
            "pad_to_multiple_of": pad_to_multiple_of,
            "padding_side": padding_side,
            "return_tensors": return_tensors,
            "return_token_type_ids": return_token_type_ids,
            "return_attention_mask": return_attention_mask,
            "return_overflowing_tokens": return_overflowing_tokens,
            "return_special_tokens_mask": return_special_tokens_mask,
            "return_offsets_mapping": return_offsets_mapping,
            "return_length": return_length,
            "verbose": verbose,
            **kwargs,
        }
        encoded = None if text is None else self._call_one(text, text_pair, options)
        if text_target is None:
            assert encoded is not None
            return encoded
        targets = self._call_one(text_target, text_pair_target, options)
        if encoded is None:
            return targets
        encoded["labels"] = targets["input_ids"]
        return encoded

    @property
    def _plain(self) -> bool:
        """Whether a result is `input_ids` and `attention_mask` unless more is asked for."""
        return self.model_input_names == ["input_ids", "attention_mask"]

    def _call_one(self, text: Any, text_pair: Any, options: dict[str, Any]) -> BatchEncoding:
        text, text_pair = _as_list(text), _as_list(text_pair)
        _check_input(text)
        if text_pair is not None:
            _check_input(text_pair)
        batched = isinstance(text, (list, tuple))
        if options["is_split_into_words"]:
            batched = batched and len(text) > 0 and isinstance(text[0], (list, tuple))
        if not batched:
            return self._encode_one(text, text_pair, **options)
        if text_pair is None:
            return self._encode_many(text, **options)
        if isinstance(text_pair, str):
            raise TypeError(
                "when tokenizing batches of text, `text_pair` must be a list or tuple with the same length "
                "as `text`."
            )
        if len(text) != len(text_pair):
            raise ValueError(
                f"batch length of `text`: {len(text)} does not match batch length of `text_pair`: "
                f"{len(text_pair)}."
            )
        return self._encode_many(text, text_pair, **options)

    # The other names

    def encode(
        self,
        text: Any,
        text_pair: Any = None,
        add_special_tokens: bool = True,
        padding: bool | str | PaddingStrategy = False,
        truncation: bool | str | TruncationStrategy | None = None,
        max_length: int | None = None,
        stride: int = 0,
        return_tensors: str | TensorType | None = None,
        **kwargs: Any,
    ) -> Any:
        """The ids of one text, or of one pair.

        Args:
            text: A text; or a list of tokens, or of ids, that are taken for those of a text.
            text_pair: The same for its pair.
            add_special_tokens: Whether to put the special tokens around it.
            padding: See `__call__`, as for the rest.

        Returns:
            A list of ids; with `return_tensors`, a tensor of shape (1, length).
        """
        if (
            type(text) is str
            and text_pair is None
            and padding is False
            and truncation is None
            and max_length is None
            and return_tensors is None
            and not kwargs
            and self._dropout is None
        ):
            pipeline = self._pipeline or self._ready()
            return pipeline.encode(
                text, add_special_tokens=add_special_tokens, split_special_tokens=self.split_special_tokens
            )
        encoded = self._encode_one(
            text,
            text_pair,
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            return_tensors=return_tensors,
            **kwargs,
        )
        return encoded["input_ids"]

    def encode_plus(self, text: Any, text_pair: Any = None, **kwargs: Any) -> BatchEncoding:
        """Encode one text or one pair; the arguments are those of `__call__`."""
        return self._encode_one(text, text_pair, **kwargs)

    def batch_encode_plus(self, batch_text_or_text_pairs: Any, **kwargs: Any) -> BatchEncoding:
        """Encode a list of texts, or of pairs as tuples; the other arguments are those of `__call__`.

        Raises:
            TypeError: It is no list.
        """
        if not isinstance(batch_text_or_text_pairs, (list, tuple)):
            raise TypeError(
                "batch_text_or_text_pairs has to be a list or a tuple "
                f"(got {type(batch_text_or_text_pairs).__name__})"
            )
        return self._encode_many(batch_text_or_text_pairs, **kwargs)

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any
    ) -> list[str]:
        """The tokens of a text, or of a pair.

        Args:
            text: The text.
            pair: Its pair.
            add_special_tokens: Whether to put the special tokens around it.
            **kwargs: `split_special_tokens`; and of `__call__`, truncation and padding.
        """
        split = kwargs.pop("split_special_tokens", None)
        if kwargs:
            encoded = self._encode_one(
                text, pair, add_special_tokens=add_special_tokens, split_special_tokens=split, **kwargs
            )
            return encoded.tokens()
        return self._ready().tokenize(
            text,
            pair,
            add_special_tokens=add_special_tokens,
            split_special_tokens=self.split_special_tokens if split is None else split,
            dropout=self._dropout,
            seed=None if self._dropout is None else self._next_seed(),
        )

    @contextmanager
    def as_target_tokenizer(self) -> Iterator[None]:
        """The older way of `text_target`: targets are encoded as any text is."""
        yield

    def prepare_seq2seq_batch(
        self,
        src_texts: list[str],
        tgt_texts: list[str] | None = None,
        max_length: int | None = None,
        max_target_length: int | None = None,
        padding: str = "longest",
        return_tensors: str | None = None,
        truncation: bool = True,
        **kwargs: Any,
    ) -> BatchEncoding:
        """The older way of calling with `text` and `text_target`."""
        limit = self.model_max_length if max_length is None else max_length
        common: dict[str, Any] = {
            "padding": padding,
            "truncation": truncation,
            "return_tensors": return_tensors,
            **kwargs,
        }
        encoded = self(src_texts, max_length=limit, **common)
        if tgt_texts is not None:
            target_limit = limit if max_target_length is None else max_target_length
            encoded["labels"] = self(tgt_texts, max_length=target_limit, **common)["input_ids"]
        return encoded


def _as_list(value: Any) -> Any:
    """What iterates over texts, such as an array or a column of a table, as a list."""
    # The texts of a set have no order.
    kept = (str, list, tuple, bytes, dict, set, frozenset)
    if value is None or isinstance(value, kept) or not hasattr(value, "__iter__"):
        return value
    return value.tolist() if hasattr(value, "tolist") else list(value)


def _check_input(value: Any) -> None:
    if isinstance(value, str):
        return
    if isinstance(value, (list, tuple)):
        first = value[0] if value else ""
        if isinstance(first, str):
            return
        if isinstance(first, (list, tuple)) and (not first or isinstance(first[0], (str, list, tuple))):
            return
    raise ValueError(
        "text input must be of type `str` (single example), `list[str]` (batch or single pretokenized "
        "example) or `list[list[str]]` (batch of pretokenized examples)."
    )
