"""What is known of each token of one encoded row, and where in the text it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, overload

from llamatok._core import EncodingBatch
from llamatok.tokenization.strategies import Side


class CharSpan(NamedTuple):
    """A range of code points of a text: from `start` to before `end`."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """A range of tokens of a row: from `start` to before `end`."""

    start: int
    end: int


class Padding(NamedTuple):
    """How the rows of a batch were filled up."""

    length: int
    side: Side
    id: int
    token: str
    type_id: int


class Encoding:
    """One encoded row, as `tokenizers.Encoding`.

    All lists are of the row's length, padding included.

    Attributes:
        ids: The ids.
        type_ids: 0 for the tokens of the first sequence, 1 for those of the second.
        tokens: The tokens.
        offsets: Each token's range of code points in its text; (0, 0) for tokens that are not from the text.
        attention_mask: 1, or 0 for padding.
        special_tokens_mask: 1 for tokens that the template added and for padding, else 0.
        word_ids: The number of each token's word, or None.
        sequence_ids: 0 or 1 for the sequence that a token is from, or None.
    """

    __slots__ = (
        "attention_mask",
        "ids",
        "offsets",
        "sequence_ids",
        "special_tokens_mask",
        "tokens",
        "type_ids",
        "word_ids",
    )

    ids: list[int]
    type_ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    attention_mask: list[int]
    special_tokens_mask: list[int]
    word_ids: list[int | None]
    sequence_ids: list[int | None]

    def __init__(self, batch: EncodingBatch, row: int, padding: Padding | None) -> None:
        one = batch[row : row + 1]
        length = None if padding is None else padding.length
        side: Side = "right" if padding is None else padding.side

        def column(name: Any, pad_value: int) -> list[Any]:
            values: list[Any] = one.lists(name, length=length, side=side, pad_value=pad_value)[0]
            return values

        self.ids = column("input_ids", 0 if padding is None else padding.id)
        self.type_ids = column("token_type_ids", 0 if padding is None else padding.type_id)
        self.attention_mask = column("attention_mask", 0)
        self.special_tokens_mask = column("special_tokens_mask", 1)
        self.offsets = column("offset_mapping", 0)
        missing = 0 if padding is None else len(self.ids) - len(one.ids)

        def filled(values: list[Any], filling: Any) -> list[Any]:
            fill = [filling] * missing
            return fill + values if side == "left" else values + fill

        self.word_ids = filled(one.lists("word_ids")[0], None)
        self.sequence_ids = filled(one.lists("sequence_ids")[0], None)
        self.tokens = filled(one.tokens(0), "" if padding is None else padding.token)

    @property
    def words(self) -> list[int | None]:
        """The same as `word_ids`."""
        return self.word_ids

    @property
    def n_sequences(self) -> int:
        """The number of sequences: 1, or 2 for a pair."""
        return 2 if 1 in self.sequence_ids else 1

    @property
    def overflowing(self) -> list[Encoding]:
        """What truncation cut off is in rows of its own: always empty."""
        return []

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return (
            f"Encoding(num_tokens={len(self)}, attributes=[ids, type_ids, tokens, offsets, attention_mask, "
            "special_tokens_mask, overflowing])"
        )

    def _repr_html_(self) -> str:
        from llamatok.inspect.notebook import encoding_html

        return encoding_html(self)

    def _sequence(self, index: int) -> range:
        """Where the tokens of a sequence stand."""
        if index not in self.sequence_ids:
            return range(0)
        start = self.sequence_ids.index(index)
        stop = len(self) - self.sequence_ids[::-1].index(index)
        return range(start, stop)

    def char_to_token(self, char_pos: int, sequence_index: int = 0) -> int | None:
        """The token at a code point of a sequence's text, or None."""
        for token in self._sequence(sequence_index):
            start, end = self.offsets[token]
            if start <= char_pos < end:
                return token
        return None

    def token_to_chars(self, token_index: int) -> tuple[int, int] | None:
        """The range of code points of a token, or None for one that is not from a text."""
        if self.token_to_sequence(token_index) is None:
            return None
        return self.offsets[token_index]

    def token_to_sequence(self, token_index: int) -> int | None:
        """The sequence that a token is from, or None."""
        return self.sequence_ids[token_index] if 0 <= token_index < len(self) else None

    def token_to_word(self, token_index: int) -> int | None:
        """The number of a token's word, or None."""
        return self.word_ids[token_index] if 0 <= token_index < len(self) else None

    def word_to_tokens(self, word_index: int, sequence_index: int = 0) -> tuple[int, int] | None:
        """The range of the tokens of a word, or None."""
        found = [token for token in self._sequence(sequence_index) if self.word_ids[token] == word_index]
        return (found[0], found[-1] + 1) if found else None

    def word_to_chars(self, word_index: int, sequence_index: int = 0) -> tuple[int, int] | None:
        """The range of code points of a word, or None."""
        span = self.word_to_tokens(word_index, sequence_index)
        return None if span is None else (self.offsets[span[0]][0], self.offsets[span[1] - 1][1])

    def char_to_word(self, char_pos: int, sequence_index: int = 0) -> int | None:
        """The number of the word at a code point of a sequence's text, or None."""
        token = self.char_to_token(char_pos, sequence_index)
        return None if token is None else self.word_ids[token]

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class Encodings(Sequence[Encoding]):
    """The encodings of a batch, which are made when they are asked for.

    Encoding with offsets takes longer than encoding without. So a call that returns no offsets leaves here
    what is needed to encode the same texts again, which gives the same tokens.
    """

    def __init__(self, encode: Callable[[], EncodingBatch], padding: Padding | None) -> None:
        self._encode: Callable[[], EncodingBatch] | None = encode
        self._padding = padding
        self._batch: EncodingBatch | None = None
        self._rows: dict[int, Encoding] = {}

    def _encoded(self) -> EncodingBatch:
        if self._batch is None:
            assert self._encode is not None
            self._batch = self._encode()
            self._encode = None
        return self._batch

    def __len__(self) -> int:
        return len(self._rows) if self._is_whole() else len(self._encoded())

    def _is_whole(self) -> bool:
        """Whether only made rows are left, as after unpickling."""
        return self._batch is None and self._encode is None

    @overload
    def __getitem__(self, index: int) -> Encoding: ...
    @overload
    def __getitem__(self, index: slice) -> list[Encoding]: ...
    def __getitem__(self, index: int | slice) -> Encoding | list[Encoding]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        count = len(self)
        row = index + count if index < 0 else index
        if not 0 <= row < count:
            raise IndexError(f"encoding {index} of {count}")
        if row not in self._rows:
            self._rows[row] = Encoding(self._encoded(), row, self._padding)
        return self._rows[row]

    def __iter__(self) -> Iterator[Encoding]:
        return (self[row] for row in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        # The rows as they are, instead of the tokenizer and the texts to make them of.
        return {"rows": list(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._encode = None
        self._batch = None
        self._padding = None
        self._rows = dict(enumerate(state["rows"]))
