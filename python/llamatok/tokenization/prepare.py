"""From ids of texts to what a model takes: special tokens, truncation, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llamatok.tokenization.batch_encoding import BatchEncoding
from llamatok.tokenization.log import logger
from llamatok.tokenization.special_tokens import SpecialTokens
from llamatok.tokenization.strategies import (
    LARGE_INTEGER,
    PaddingStrategy,
    TensorType,
    TruncationStrategy,
    check_multiple,
    resolve,
    side,
)
from llamatok.tokenization.tensors import is_tensor_or_array, to_lists

if TYPE_CHECKING:
    from llamatok.tokenization.strategies import Side


class Preparing(SpecialTokens):
    """The methods that work on ids."""

    model_input_names: list[str]
    model_max_length: int
    padding_side: str
    truncation_side: str

    # The template

    def _expanded(self, pair: bool) -> list[tuple[str, int | None, int]]:
        """The template's items: a sequence ("A" or "B", None, type id) or a token (token, id, type id)."""
        return self._ready().template[pair]

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The ids of one sequence or of two with the special tokens around them: `<s> A`, `<s> A <s> B`."""
        sequences = {"A": token_ids_0, "B": token_ids_1 or []}
        ids: list[int] = []
        for name, id, _ in self._expanded(token_ids_1 is not None):
            if id is None:
                ids.extend(sequences[name])
            else:
                ids.append(id)
        return ids

    def get_special_tokens_mask(
        self,
        token_ids_0: list[int],
        token_ids_1: list[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for each special token, 0 for each token of a sequence.

        Args:
            token_ids_0: The ids of a sequence.
            token_ids_1: Those of its pair.
            already_has_special_tokens: Whether `token_ids_0` has the special tokens in it; all ids of
                `all_special_ids` count as such then. Else the mask is of what
                `build_inputs_with_special_tokens` returns.

        Raises:
            ValueError: A pair is given with `already_has_special_tokens`.
        """
        if already_has_special_tokens:
            if token_ids_1 is not None:
                raise ValueError(
                    "You should not supply a second sequence if the provided sequence of ids is already "
                    "formatted with special tokens for the model."
                )
            special = set(self.all_special_ids)
            return [int(int(id) in special) for id in token_ids_0]
        lengths = {"A": len(token_ids_0), "B": len(token_ids_1 or [])}
        mask: list[int] = []
        for name, id, _ in self._expanded(token_ids_1 is not None):
            mask += [0] * lengths[name] if id is None else [1]
        return mask

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """0 for each token of the first sequence, 1 for each of the second.

        For a tokenizer from `tokenizer.model` this counts the special tokens around the sequences too, for
        one from `tokenizer.json` it does not, as in transformers.
        """
        if not self._slow():
            return [0] * len(token_ids_0) + [1] * len(token_ids_1 or [])
        lengths = {"A": len(token_ids_0), "B": len(token_ids_1 or [])}
        types: list[int] = []
        for name, id, type_id in self._expanded(token_ids_1 is not None):
            types += [type_id] * (lengths[name] if id is None else 1)
        return types

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """The number of special tokens that are put around one sequence, or around two."""
        return self._ready().num_special_tokens(pair)

    @property
    def max_len_single_sentence(self) -> int:
        """The greatest number of tokens of one sequence that the model takes, special tokens not counted."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=False)

    @property
    def max_len_sentences_pair(self) -> int:
        """The greatest number of tokens of two sequences that the model takes, special tokens not counted."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    # Truncation

    def truncate_sequences(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: str | TruncationStrategy = "longest_first",
        stride: int = 0,
    ) -> tuple[list[int], list[int] | None, list[int]]:
        """Cut ids off one sequence or two.

        Args:
            ids: The ids of a sequence.
            pair_ids: Those of its pair.
            num_tokens_to_remove: How many ids to cut off in all.
            truncation_strategy: "longest_first" cuts one by one off the longer sequence, "only_first" and
                "only_second" off that sequence; "do_not_truncate" cuts nothing.
            stride: How many of the ids that stay are to stand among the overflowing ones, too.

        Returns:
            `ids` and `pair_ids` without what was cut off, and the overflowing ids (none for two sequences
            under "longest_first"). Where a sequence has too few ids, all is returned as it is, and an error
            is logged.
        """
        strategy = TruncationStrategy(getattr(truncation_strategy, "value", truncation_strategy))
        count = num_tokens_to_remove
        if count <= 0 or strategy is TruncationStrategy.DO_NOT_TRUNCATE:
            return ids, pair_ids, []
        cut_side = side(self.truncation_side, "truncation_side")
        longest = strategy is TruncationStrategy.LONGEST_FIRST
        if longest and pair_ids is not None:
            # As many off the longer one as it is longer by, and half of the rest off each.
            ahead = min(abs(len(pair_ids) - len(ids)), count)
            half, rest = (count - ahead) // 2, (count - ahead) - (count - ahead) // 2
            first, second = (ahead + half, rest) if len(ids) > len(pair_ids) else (half, ahead + rest)
            return _cut(ids, first, cut_side), _cut(pair_ids, second, cut_side), []
        chosen = pair_ids if strategy is TruncationStrategy.ONLY_SECOND else ids
        if chosen is None:
            return ids, pair_ids, []
        if len(chosen) <= count:
            which = "second" if strategy is TruncationStrategy.ONLY_SECOND else "first"
            logger.error(
                f"{count} ids would have to be cut off the {which} sequence, which has {len(chosen)}: left "
                "whole. Choose a greater `max_length` or another truncation strategy"
            )
            return ids, pair_ids, []
        window = min(len(chosen), stride + count)
        overflowing = chosen[:window] if cut_side == "left" else chosen[-window:]
        kept = _cut(chosen, count, cut_side)
        if strategy is TruncationStrategy.ONLY_SECOND:
            return ids, kept, overflowing
        return kept, pair_ids, overflowing

    def prepare_for_model(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        add_special_tokens: bool = True,
        padding: bool | str | PaddingStrategy = False,
        truncation: bool | str | TruncationStrategy | None = None,
        max_length: int | None = None,
        stride: int = 0,
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
        prepend_batch_axis: bool = False,
        **kwargs: Any,
    ) -> BatchEncoding:
        """What a model takes, from the ids of one sequence or of two: as calling with the texts.

        The parameters are those of `__call__`.

        Raises:
            ValueError: Token type ids without special tokens; overflowing tokens of pairs under
                "longest_first"; offsets, which ids alone do not tell.
        """
        if return_offsets_mapping:
            raise ValueError("offsets cannot be told from ids alone: call the tokenizer with the text")
        pad, cut, max_length = self._strategies(padding, truncation, max_length, pad_to_multiple_of, verbose)
        pair = pair_ids is not None
        check_slow_options(add_special_tokens, return_token_type_ids, return_overflowing_tokens, cut, pair)
        ids = list(ids)
        pair_ids = None if pair_ids is None else list(pair_ids)
        added = self.num_special_tokens_to_add(pair) if add_special_tokens else 0
        total = len(ids) + len(pair_ids or []) + added
        overflowing: list[int] = []
        truncates = cut is not TruncationStrategy.DO_NOT_TRUNCATE
        if truncates and max_length and total > max_length:
            ids, pair_ids, overflowing = self.truncate_sequences(
                ids, pair_ids, total - max_length, cut, stride
            )
        data: dict[str, Any] = {}
        if return_overflowing_tokens:
            data["overflowing_tokens"] = overflowing
            data["num_truncated_tokens"] = total - (max_length or 0)
        if add_special_tokens:
            data["input_ids"] = self.build_inputs_with_special_tokens(ids, pair_ids)
        else:
            data["input_ids"] = ids + (pair_ids or [])
        if return_token_type_ids or (return_token_type_ids is None and self._wants("token_type_ids")):
            data["token_type_ids"] = (
                self.create_token_type_ids_from_sequences(ids, pair_ids)
                if add_special_tokens
                else [0] * len(data["input_ids"])
            )
        if return_special_tokens_mask:
            data["special_tokens_mask"] = (
                self.get_special_tokens_mask(ids, pair_ids)
                if add_special_tokens
                else [0] * len(data["input_ids"])
            )
        if max_length is None:
            self._warn_if_too_long(len(data["input_ids"]), verbose)
        if return_attention_mask is None:
            return_attention_mask = self._wants("attention_mask")
        self._pad_row(data, pad, max_length, pad_to_multiple_of, padding_side, return_attention_mask)
        if return_length:
            data["length"] = len(data["input_ids"])
        encoding = BatchEncoding(data, n_sequences=2 if pair else 1)
        return encoding.convert_to_tensors(return_tensors, prepend_batch_axis)

    # Padding

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str | PaddingStrategy = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Fill up encoded texts to one length.

        >>> from llamatok import LlamaTokenizer
        >>> tokenizer = LlamaTokenizer.default(pad_token="</s>", padding_side="right")
        >>> rows = [{"input_ids": [5, 6, 7]}, {"input_ids": [8]}]
        >>> tokenizer.pad(rows)["attention_mask"]
        [[1, 1, 1], [1, 0, 0]]

        Args:
            encoded_inputs: A dictionary with `input_ids`, of one row or of several, or a list of
                dictionaries, each of one row. Besides the ids, `attention_mask`, `token_type_ids` and
                `special_tokens_mask` are filled up.
            padding: True or "longest", to the longest row; "max_length", to `max_length` or to what the model
                takes; False or "do_not_pad", not at all.
            max_length: The length for "max_length".
            pad_to_multiple_of: What the length is to be a multiple of.
            padding_side: "right" or "left", instead of the attribute of this name.
            return_attention_mask: Whether to make a mask where there is none; by default, if the model takes
                one.
            return_tensors: "pt" or "np". By default tensors are returned if tensors are given.
            verbose: Whether to warn.

        Raises:
            ValueError: There are no `input_ids`, values differ in their number of rows, or there is no
                padding token.
        """
        if isinstance(encoded_inputs, (list, tuple)) and encoded_inputs:
            first_row = encoded_inputs[0]
            if isinstance(first_row, Mapping):
                encoded_inputs = {key: [row[key] for row in encoded_inputs] for key in first_row}
        if not isinstance(encoded_inputs, Mapping):
            raise ValueError("`encoded_inputs` must be a dictionary with 'input_ids', or a list of such")
        main = self.model_input_names[0]
        if main not in encoded_inputs:
            raise ValueError(
                "You should supply an encoding or a list of encodings to this method that includes "
                f"{main}, but you provided {list(encoded_inputs.keys())}"
            )
        data = dict(encoded_inputs)
        check_multiple(pad_to_multiple_of)
        required = data[main]
        if required is None or (hasattr(required, "__len__") and len(required) == 0):
            if return_attention_mask:
                data["attention_mask"] = []
            return BatchEncoding(data)
        if return_tensors is None:
            return_tensors = _library_of(required)
        data = {key: to_lists(value) for key, value in data.items()}
        required = data[main]
        pad, _, max_length = self._strategies(padding, False, max_length, None, verbose)
        if return_attention_mask is None:
            return_attention_mask = self._wants("attention_mask")
        if not isinstance(required[0], (list, tuple)):
            self._pad_row(data, pad, max_length, pad_to_multiple_of, padding_side, return_attention_mask)
            return BatchEncoding(data, tensor_type=return_tensors)
        for key, value in data.items():
            if not hasattr(value, "__len__") or len(value) != len(required):
                raise ValueError(f"{key!r} is not of the same number of rows as {main!r} ({len(required)})")
        if pad is PaddingStrategy.LONGEST:
            max_length = max(map(len, required))
            pad = PaddingStrategy.MAX_LENGTH
        columns: dict[str, list[Any]] = {}
        for index in range(len(required)):
            row = {key: value[index] for key, value in data.items()}
            self._pad_row(row, pad, max_length, pad_to_multiple_of, padding_side, return_attention_mask)
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
        return BatchEncoding(columns, tensor_type=return_tensors)

    def _pad_row(
        self,
        row: dict[str, Any],
        strategy: PaddingStrategy,
        max_length: int | None,
        pad_to_multiple_of: int | None,
        padding_side: str | None,
        return_attention_mask: bool,
    ) -> None:
        """Fill up one row, in place."""
        main = self.model_input_names[0]
        length = len(row[main])
        if return_attention_mask and "attention_mask" not in row:
            row["attention_mask"] = [1] * length
        target = padded_length(strategy, length, max_length, pad_to_multiple_of)
        # A row that is too long already stays as it is.
        if target is None or target <= length:
            return
        fill_side: Side = side(padding_side or self.padding_side, "padding_side")
        fills = {
            main: self.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": self.pad_token_type_id,
            "special_tokens_mask": 1,
        }
        for key, fill in fills.items():
            if key in row:
                filling = [fill] * (target - length)
                row[key] = filling + list(row[key]) if fill_side == "left" else list(row[key]) + filling

    # Shared by calling and preparing

    def _strategies(
        self,
        padding: object,
        truncation: object,
        max_length: int | None,
        pad_to_multiple_of: int | None,
        verbose: bool,
    ) -> tuple[PaddingStrategy, TruncationStrategy, int | None]:
        return resolve(
            padding,
            truncation,
            max_length,
            pad_to_multiple_of,
            self.model_max_length,
            self.pad_token is not None,
            verbose,
        )

    def _wants(self, name: str) -> bool:
        return name in self.model_input_names

    def _warn_if_too_long(self, length: int, verbose: bool) -> None:
        limit = self.model_max_length
        if verbose and 0 < limit < LARGE_INTEGER and length > limit:
            logger.warning_once(
                "Token indices sequence length is longer than the specified maximum sequence length for "
                f"this model ({length} > {limit})",
                kind=f"longer than {limit}",
            )


def padded_length(
    strategy: PaddingStrategy, longest: int, max_length: int | None, multiple: int | None
) -> int | None:
    """The length that rows are filled up to, the longest of which is `longest`; None: not at all."""
    if strategy is PaddingStrategy.DO_NOT_PAD:
        return None
    length = longest if strategy is PaddingStrategy.LONGEST or max_length is None else max_length
    return length if not multiple else -(-length // multiple) * multiple


def check_slow_options(
    add_special_tokens: bool,
    return_token_type_ids: bool | None,
    return_overflowing_tokens: bool,
    truncation: TruncationStrategy,
    pair: bool,
) -> None:
    """Refuse what the rules of the SentencePiece-backed class leave undefined (`prepare_for_model`).

    Raises:
        ValueError: It is asked for.
    """
    if return_token_type_ids and not add_special_tokens:
        raise ValueError(
            "Asking to return token_type_ids while setting add_special_tokens to False results in an "
            "undefined behavior. Please set add_special_tokens to True or set return_token_type_ids to None."
        )
    if return_overflowing_tokens and pair and truncation is TruncationStrategy.LONGEST_FIRST:
        raise ValueError(
            "Not possible to return overflowing tokens for pair of sequences with the `longest_first`. "
            "Please select another truncation strategy than `longest_first`, for instance `only_second` or "
            "`only_first`."
        )


def _cut(ids: list[int], count: int, cut_side: Side) -> list[int]:
    return ids[count:] if cut_side == "left" else ids[: max(len(ids) - count, 0)]


def _library_of(values: Sequence[Any]) -> str | None:
    """The library of the first tensor in rows of numbers, None if they are lists."""
    first: Any = values
    for _ in range(2):
        if is_tensor_or_array(first) or not isinstance(first, (list, tuple)):
            break
        first = next((item for item in first if not isinstance(item, (list, tuple)) or item), None)
    if not is_tensor_or_array(first):
        return None
    return "pt" if type(first).__module__.startswith("torch") else "np"
