"""What encoding returns: a dictionary of lists or tensors that knows where its tokens are from."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from llamatok.tokenization.encoding import CharSpan, Encoding, TokenSpan
from llamatok.tokenization.log import logger
from llamatok.tokenization.strategies import TensorType
from llamatok.tokenization.tensors import as_tensor, import_torch, tensor_type

if TYPE_CHECKING:
    import torch

_B = TypeVar("_B", bound="BatchEncoding")


class BatchEncoding(UserDict[str, Any]):
    """The outcome of encoding one text or several: `input_ids`, `attention_mask` and what else was asked for.

    It is a dictionary whose values can be had as attributes, too. An integer as index gives the `Encoding` of
    a row, a slice gives a dictionary of slices. The methods that map characters, words and tokens to each
    other take either `(index in the batch, index)` or, for the first row, `(index)` alone.

    >>> from llamatok import LlamaTokenizer
    >>> tokenizer = LlamaTokenizer.default()
    >>> encoded = tokenizer("Hello world")
    >>> list(encoded.keys())
    ['input_ids', 'attention_mask']
    >>> encoded.input_ids == encoded["input_ids"]
    True
    >>> encoded.char_to_token(6) == len(encoded.tokens()) - 1
    True
    """

    def __init__(
        self,
        data: dict[str, Any] | None = None,
        encoding: Encoding | Sequence[Encoding] | None = None,
        tensor_type: str | TensorType | None = None,
        prepend_batch_axis: bool = False,
        n_sequences: int | None = None,
    ) -> None:
        # What UserDict does in __init__ takes longer than a short text's encoding.
        self.data: dict[str, Any] = {} if data is None else dict(data)
        self._encodings: Sequence[Encoding] | None = (
            [encoding] if isinstance(encoding, Encoding) else encoding
        )
        self._n_sequences = n_sequences
        if tensor_type is not None:
            self.convert_to_tensors(tensor_type, prepend_batch_axis)

    # As a dictionary

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            return self.data[item]
        if isinstance(item, slice):
            return {key: value[item] for key, value in self.data.items()}
        if isinstance(item, int) and self._encodings is not None:
            return self._encodings[item]
        raise KeyError(
            f"{item!r} is no key: use a str for a value, a slice for a part of all values"
            + ("" if self._encodings is None else ", an int for the encoding of a row")
        )

    def __getattr__(self, item: str) -> Any:
        # Without this, looking for `data` before there is any would look for it forever.
        if item == "data":
            raise AttributeError(item)
        try:
            return self.data[item]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no attribute or key {item!r}") from None

    def keys(self) -> Any:
        """The names of the values."""
        return self.data.keys()

    def values(self) -> Any:
        """The values."""
        return self.data.values()

    def items(self) -> Any:
        """The names with their values."""
        return self.data.items()

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "encodings": self._encodings, "n_sequences": self._n_sequences}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.data = state["data"]
        self._encodings = state["encodings"]
        self._n_sequences = state["n_sequences"]

    def __copy__(self: _B) -> _B:
        return type(self)(self.data, self._encodings, n_sequences=self._n_sequences)

    def copy(self: _B) -> _B:
        """A copy that shares the values."""
        return self.__copy__()

    # Rows

    @property
    def n_sequences(self) -> int | None:
        """The number of sequences of each row: 1, or 2 for pairs; None where that is not known."""
        if self._n_sequences is None and self._encodings:
            self._n_sequences = self._encodings[0].n_sequences
        return self._n_sequences

    @property
    def is_fast(self) -> bool:
        """Whether characters, words and tokens can be mapped to each other."""
        return self._encodings is not None

    @property
    def encodings(self) -> Sequence[Encoding] | None:
        """The encodings of the rows; None where this was not made by encoding texts."""
        return self._encodings

    def _row(self, method: str, index: int = 0) -> Encoding:
        if not self._encodings:
            raise ValueError(f"{method}() needs the encodings of texts, and there are none here")
        return self._encodings[index]

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of a row."""
        return self._row("tokens", batch_index).tokens

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of a row, the sequence it is from: 0, 1 (its pair) or None (added, padding)."""
        return self._row("sequence_ids", batch_index).sequence_ids

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of a row, the number of its word, or None."""
        return self._row("word_ids", batch_index).word_ids

    def words(self, batch_index: int = 0) -> list[int | None]:
        """The older name of `word_ids`."""
        return self.word_ids(batch_index)

    # Pictures

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the tokens of the first rows; None where they are not known."""
        if self._encodings is None:
            return None
        from llamatok.inspect.notebook import batch_html

        return batch_html(self)

    # Between characters, words and tokens

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The sequence that a token is from, or None."""
        row, token = self._row_and_token("token_to_sequence", batch_or_token_index, token_index)
        return row.token_to_sequence(token)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The number of a token's word, or None."""
        row, token = self._row_and_token("token_to_word", batch_or_token_index, token_index)
        return row.token_to_word(token)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """The range of a token in its text, in code points; None for a token that is not from a text."""
        row, token = self._row_and_token("token_to_chars", batch_or_token_index, token_index)
        span = row.token_to_chars(token)
        return None if span is None else CharSpan(*span)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The token at a code point of a text, or None."""
        row, char = self._row_and_index("char_to_token", batch_or_char_index, char_index)
        return row.char_to_token(char, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The number of the word at a code point of a text, or None."""
        row, char = self._row_and_index("char_to_word", batch_or_char_index, char_index)
        return row.char_to_word(char, sequence_index)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """The range of the tokens of a word, or None."""
        row, word = self._row_and_index("word_to_tokens", batch_or_word_index, word_index)
        span = row.word_to_tokens(word, sequence_index)
        return None if span is None else TokenSpan(*span)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The range of a word in its text, in code points, or None."""
        row, word = self._row_and_index("word_to_chars", batch_or_word_index, word_index)
        span = row.word_to_chars(word, sequence_index)
        return None if span is None else CharSpan(*span)

    def _row_and_index(self, method: str, first: int, second: int | None) -> tuple[Encoding, int]:
        return (self._row(method, 0), first) if second is None else (self._row(method, first), second)

    def _row_and_token(self, method: str, first: int, second: int | None) -> tuple[Encoding, int]:
        row, token = self._row_and_index(method, first, second)
        return row, token + len(row) if token < 0 else token

    # Tensors

    def convert_to_tensors(
        self: _B, tensor_type: str | TensorType | None = None, prepend_batch_axis: bool = False
    ) -> _B:
        """Turn the values into tensors, in place.

        Args:
            tensor_type: "pt" for PyTorch, "np" for numpy; None leaves the values as they are.
            prepend_batch_axis: Whether each value gets a first dimension of size 1.

        Raises:
            ValueError: A value's rows differ in length.
            ImportError: The library is not installed.
        """
        if tensor_type is None:
            return self
        kind = _tensor_type(tensor_type)
        if kind is TensorType.PYTORCH:
            import_torch()
        for key, value in self.data.items():
            try:
                self.data[key] = as_tensor([value] if prepend_batch_axis else value, kind)
            except (ValueError, TypeError, RuntimeError) as error:
                if key == "overflowing_tokens":
                    raise ValueError(
                        "Unable to create tensor returning overflowing tokens of different lengths. Leave "
                        "`return_tensors` out, or load the tokenizer from a tokenizer.json: it gives windows"
                    ) from error
                raise ValueError(
                    "Unable to create tensor, you should probably activate truncation and/or padding with "
                    "'padding=True' 'truncation=True' to have batched tensors with the same length. Perhaps "
                    f"your features (`{key}` in this case) have excessive nesting (inputs type `list` where "
                    "type `int` is expected)."
                ) from error
        return self

    def to(self: _B, device: str | int | torch.device, *, non_blocking: bool = False) -> _B:
        """Move the values to a device, in place; those that are no tensors stay.

        Raises:
            ImportError: PyTorch is not installed.
        """
        torch = import_torch()
        if isinstance(device, (str, int, torch.device)):
            self.data = {
                key: value.to(device=device, non_blocking=non_blocking)
                if callable(getattr(value, "to", None))
                else value
                for key, value in self.data.items()
            }
        else:
            logger.warning(f"a BatchEncoding can be moved to a device only, not to {device!r}: left as it is")
        return self


_tensor_type = tensor_type
