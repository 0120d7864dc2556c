"""The compiled core of llamatok."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, Protocol, SupportsIndex, TypeAlias, TypedDict, final, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import CapsuleType

__all__ = [
    "EncodingBatch",
    "ModelFormatError",
    "Pipeline",
    "StreamDecoder",
    "TextBatch",
    "TokenBatch",
    "Tokenizer",
    "TokenizerError",
    "UnsupportedModelError",
    "__version__",
    "decoder_step",
    "linear",
]

__version__: Final[str]

class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[CapsuleType, CapsuleType]: ...

class _ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: Any = None) -> CapsuleType: ...

class _Array(Protocol):
    def __array__(self) -> npt.NDArray[Any]: ...

_Texts: TypeAlias = Iterable[str] | Iterable[bytes] | Iterable[str | bytes] | _ArrowArray | _ArrowStream
_Ids: TypeAlias = Iterable[SupportsIndex] | npt.NDArray[np.integer[Any]] | _Array
_IdLists: TypeAlias = TokenBatch | Iterable[_Ids] | npt.NDArray[np.integer[Any]] | _ArrowArray | _ArrowStream

class TokenizerError(ValueError):
    """A model or an argument that the tokenizer cannot work with."""

class ModelFormatError(TokenizerError):
    """A model file that is damaged, contradicts itself or exceeds a limit."""

class UnsupportedModelError(ModelFormatError):
    """A sound model file that asks for something not supported exactly."""

class _CacheInfo(TypedDict):
    limit_bytes: int
    used_bytes: int

class _Settings(TypedDict):
    format: str
    vocab_size: int
    kinds: dict[str, int]
    byte_fallback: bool
    normalizer: str | None
    has_charsmap: bool | None
    add_dummy_prefix: bool | None
    remove_extra_whitespaces: bool | None
    escape_whitespaces: bool | None
    treat_whitespace_as_suffix: bool | None
    unk_surface: str | None
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    pad_id: int | None
    add_bos: bool | None
    add_eos: bool | None
    engine: Literal["fast", "general"]
    engine_reason: str | None
    metadata: dict[str, str]

@final
class Tokenizer:
    """An exact, fast tokenizer for models of the Llama family.

    Immutable; any number of threads may use it at once.
    """

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, cache_bytes: int | None = None) -> Tokenizer:
        """Reads a `tokenizer.model`, a GGUF file or a `tokenizer.json`; the content tells which it is.

        Made from a `tokenizer.json`, ids and texts are those of the HF tokenizers library for the file, with
        the defaults of this class: no template is applied, and special tokens in a text are text
        (`encode_special_tokens` there) unless `parse_special`; other added tokens are always found.
        `bos_id` and `eos_id` are what the file's template puts around a text, or else the special tokens
        `<s>` and `</s>`; `pad_id` is that of the section `padding`, or else `<pad>`.
        """

    @classmethod
    def from_bytes(cls, data: bytes, *, cache_bytes: int | None = None) -> Tokenizer:
        """Reads a file's content from memory, as `from_file`."""

    @classmethod
    def default(cls, *, cache_bytes: int | None = None) -> Tokenizer:
        """The tokenizer that comes with llamatok."""

    def encode(
        self,
        text: str | bytes,
        *,
        add_bos: bool = False,
        add_eos: bool = False,
        parse_special: bool = False,
    ) -> list[int]:
        """The ids of one text."""

    def encode_batch(
        self,
        texts: _Texts,
        *,
        add_bos: bool = False,
        add_eos: bool = False,
        parse_special: bool = False,
        num_threads: int | None = None,
    ) -> TokenBatch:
        """The ids of several texts."""

    # A str is an iterable of str, too; the more special signature comes first.
    @overload
    def count(  # type: ignore[overload-overlap]
        self,
        texts: str | bytes,
        *,
        add_bos: bool = False,
        add_eos: bool = False,
        parse_special: bool = False,
        num_threads: int | None = None,
    ) -> int: ...
    @overload
    def count(
        self,
        texts: _Texts,
        *,
        add_bos: bool = False,
        add_eos: bool = False,
        parse_special: bool = False,
        num_threads: int | None = None,
    ) -> npt.NDArray[np.int64]:
        """The number of ids of each of several texts, or of a single one."""

    def decode(self, ids: _Ids, *, skip_special_tokens: bool = False) -> str:
        """The text of ids, as SentencePiece decodes them; or by the decoder of the `tokenizer.json`."""

    def decode_bytes(self, ids: _Ids, *, skip_special_tokens: bool = False) -> bytes:
        """The bytes of ids: as `decode`, but byte pieces give their bytes as they are.

        Raises `TokenizerError` for a `tokenizer.json` with another decoder than Llama's files have.
        """

    def decode_batch(
        self, ids: _IdLists, *, skip_special_tokens: bool = False, num_threads: int | None = None
    ) -> list[str]:
        """The texts of several lists of ids."""

    def decode_text_batch(
        self, ids: _IdLists, *, skip_special_tokens: bool = False, num_threads: int | None = None
    ) -> TextBatch:
        """As `decode_batch`, with all texts in one piece of memory instead of a str for each."""

    def stream_decoder(self, skip_special_tokens: bool = True, prefill: _Ids | None = None) -> StreamDecoder:
        """A decoder for ids that arrive one after the other.

        `prefill` holds ids that were shown before: they are the context of those to come, and none of
        their text comes out again. By the rules of a `tokenizer.json`, a run of byte pieces comes out when
        it has ended.

        Raises `TokenizerError` for a `tokenizer.json` with another decoder than Llama's files have.
        """

    def id_to_piece(self, id: SupportsIndex) -> str:
        """The piece of an id, as it stands in the model ("▁" for a space, "<0x0A>" for a byte)."""

    def piece_to_id(self, piece: str) -> int | None:
        """The id of a piece, or None."""

    def score(self, id: SupportsIndex) -> float:
        """The score of a piece: the higher, the earlier it is merged.

        Raises `TokenizerError` for a `tokenizer.json`, which has merges instead.
        """

    def kind(
        self, id: SupportsIndex
    ) -> Literal["NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED", "BYTE"]:
        """The kind of a piece. Of a `tokenizer.json`: special added tokens are "CONTROL", other added ones
        "USER_DEFINED", and ids that no token has "UNUSED"."""

    def pieces(self) -> list[str]:
        """All pieces, in the order of their ids; "" where a `tokenizer.json` leaves an id out."""

    @property
    def vocab_size(self) -> int:
        """The number of pieces; one more than the highest id."""

    @property
    def bos_id(self) -> int | None:
        """The id of the beginning-of-sequence token, or None."""

    @property
    def eos_id(self) -> int | None:
        """The id of the end-of-sequence token, or None."""

    @property
    def unk_id(self) -> int | None:
        """The id of the unknown piece; None where a `tokenizer.json` has none."""

    @property
    def pad_id(self) -> int | None:
        """The id of the padding token, or None."""

    @property
    def settings(self) -> _Settings:
        """What the model file says, and which engine serves it, for people to look at.

        "engine" is "fast", or else "general", which gives the same ids more slowly; "engine_reason" then says
        what in the vocabulary asks for it. What a `tokenizer.json` does not say in these words is None.
        """

    def cache_info(self) -> _CacheInfo:
        """The memory of the word caches."""

    def __len__(self) -> int: ...
    def __copy__(self) -> Tokenizer: ...
    def __deepcopy__(self, _memo: Any) -> Tokenizer: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class TextBatch:
    """Several texts: the UTF-8 of text `i` is `bytes[offsets[i]:offsets[i + 1]]`."""

    def __new__(cls, bytes: bytes | npt.NDArray[np.uint8], offsets: _Ids) -> TextBatch: ...
    @property
    def bytes(self) -> npt.NDArray[np.uint8]:
        """The UTF-8 of all texts, one after the other: a read-only array over the batch's memory."""

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each text begins, and at last where the last one ends: a read-only array."""

    def to_list(self) -> list[str]:
        """The texts as str."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> str: ...
    @overload
    def __getitem__(self, index: slice, /) -> TextBatch: ...
    def __iter__(self) -> Iterator[str]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[CapsuleType, CapsuleType]:
        """The batch as Arrow's large_utf8, over the same memory.

        A schema that is asked for is not heeded, as the protocol allows: the consumer casts.
        """

@final
class TokenBatch:
    """The ids of several texts: those of text `i` are `ids[offsets[i]:offsets[i + 1]]`."""

    def __new__(cls, ids: _Ids, offsets: _Ids, *, pad_id: int | None = None) -> TokenBatch: ...
    @property
    def ids(self) -> npt.NDArray[np.uint32]:
        """All ids, one text after the other: a read-only array over the batch's memory."""

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each text begins, and at last where the last one ends: a read-only array."""

    @property
    def pad_id(self) -> int | None:
        """The padding id of the tokenizer that made the batch, if it has one."""

    def to_lists(self) -> list[list[int]]:
        """The ids as lists of int, one a text."""

    def to_padded(
        self,
        max_length: int | None = None,
        side: Literal["left", "right"] = "right",
        pad_id: int | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The ids as a rectangle: `(ids, mask)`, of the same shape.

        The mask is 1 where an id stands and 0 where padding does. Rows are as long as the longest
        text, or exactly `max_length`: then longer texts lose ids at their end. `side` is the side
        that padding goes to. On Linux, arrays from 2 MB on are views of longer ones, in large pages.
        """

    def to_torch(self) -> tuple[Any, Any]:
        """The ids and the offsets as tensors of int64, on the CPU."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> npt.NDArray[np.uint32]: ...
    @overload
    def __getitem__(self, index: slice, /) -> TokenBatch: ...
    def __iter__(self) -> Iterator[npt.NDArray[np.uint32]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[CapsuleType, CapsuleType]:
        """The batch as Arrow's large_list<uint32>, over the same memory.

        A schema that is asked for is not heeded, as the protocol allows: the consumer casts.
        """

@final
class StreamDecoder:
    """Turns ids into text as they arrive; only complete characters come out."""

    def push(self, ids: SupportsIndex | _Ids) -> str:
        """Takes an id or several and returns the text that is complete by now, often ""."""

    def finish(self) -> str:
        """Ends the stream and returns what was held back. The decoder may be used again, as new."""

# (id, content, single_word, lstrip, rstrip, normalized, special)
_AddedToken: TypeAlias = tuple[int, str, bool, bool, bool, bool, bool]
# ("A" or "B", None, type id) for a sequence; (token, its id, type id) for a token.
_TemplateItem: TypeAlias = tuple[str, int | None, int]
_Truncation: TypeAlias = Literal["longest_first", "only_first", "only_second"]
_Side: TypeAlias = Literal["left", "right"]
_Column: TypeAlias = Literal["input_ids", "token_type_ids", "attention_mask", "special_tokens_mask"]

@final
class Pipeline:
    """Text to ids and back by the rules of Hugging Face's Llama tokenizers: added tokens, templates, pairs,
    truncation, offsets.

    Made from a `tokenizer.json`, it follows the pipeline in that file as the tokenizers library does; made
    from a `Tokenizer`, the rules of transformers' SentencePiece-backed class. Immutable; any number of
    threads may use it at once. The `with_...` methods give another pipeline that shares the tables.
    """

    @staticmethod
    def from_tokenizer_json(data: bytes, *, cache_bytes: int | None = None) -> Pipeline:
        """Reads a `tokenizer.json` from memory; added tokens and templates are those of the file."""

    @staticmethod
    def from_tokenizer(
        tokenizer: Tokenizer, *, legacy: bool = True, add_prefix_space: bool = True
    ) -> Pipeline:
        """The rules of the SentencePiece-backed class over `tokenizer`'s model. There are no added tokens
        yet, and the templates add none."""

    @property
    def mode(self) -> Literal["sentencepiece", "tokenizer_json"]:
        """Whose rules are followed."""

    @property
    def legacy(self) -> bool:
        """Whether every chunk of text gets a prefix space ("sentencepiece"; else False)."""

    @property
    def add_prefix_space(self) -> bool:
        """Whether the text gets a prefix space ("sentencepiece"; else False)."""

    def with_added_tokens(self, tokens: Iterable[_AddedToken]) -> Pipeline:
        """The same with these added tokens, instead of those before."""

    def with_special_ids(
        self, special_ids: Iterable[int], additional_special_ids: Iterable[int] | None = None
    ) -> Pipeline:
        """The same with these for the ids of `all_special_tokens` and of `additional_special_tokens`, which
        the rules of the SentencePiece-backed class ask for. In the mode "tokenizer_json" the flag `special`
        of the added tokens counts alone."""

    def with_template(self, single: Iterable[_TemplateItem], pair: Iterable[_TemplateItem]) -> Pipeline:
        """The same with these templates for one sequence and for two."""

    def with_settings(self, *, legacy: bool | None = None, add_prefix_space: bool | None = None) -> Pipeline:
        """The same with these settings changed; "sentencepiece" only."""

    @property
    def added_tokens(self) -> list[_AddedToken]:
        """The added tokens, by id."""

    @property
    def template(self) -> tuple[list[_TemplateItem], list[_TemplateItem]]:
        """The templates for one sequence and for two."""

    @property
    def truncation(self) -> dict[str, Any] | None:
        """The section `truncation` of the `tokenizer.json`: direction, max_length, strategy, stride."""

    @property
    def padding(self) -> dict[str, Any] | None:
        """The section `padding` of the `tokenizer.json`: length (None for that of the longest row),
        direction, pad_to_multiple_of, pad_id, pad_type_id, pad_token."""

    @property
    def unk_token(self) -> str | None:
        """The model's unknown token."""

    def num_special_tokens(self, pair: bool = False) -> int:
        """How many tokens the template adds."""

    def vocab_size(self, with_added: bool = True) -> int:
        """The number of tokens."""

    def vocab(self, with_added: bool = True) -> dict[str, int]:
        """The ids of all tokens."""

    def token_to_id(self, token: str) -> int | None:
        """The id of a token."""

    def id_to_token(self, id: SupportsIndex) -> str | None:
        """The token of an id."""

    def tokens_to_ids(self, tokens: Iterable[str], default: int | None = None) -> list[int | None]:
        """The ids of tokens, `default` for those that there are not."""

    def ids_to_tokens(self, ids: _Ids, *, skip_special_tokens: bool = False) -> list[str]:
        """The tokens of ids. Ids that there are not: IndexError ("sentencepiece"), or left out
        ("tokenizer_json"). `skip_special_tokens` leaves out those of `with_special_ids`."""

    def encode_batch(
        self,
        texts: Iterable[str] | Iterable[Iterable[str]],
        pairs: Iterable[str] | Iterable[Iterable[str]] | None = None,
        *,
        add_special_tokens: bool = True,
        split_special_tokens: bool = False,
        is_split_into_words: bool = False,
        truncation: _Truncation | None = None,
        max_length: int | None = None,
        stride: int = 0,
        truncation_side: _Side = "right",
        overflow: bool = False,
        offsets: bool = False,
        dropout: float | None = None,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> EncodingBatch:
        """Encodes several texts, or pairs of texts.

        With `is_split_into_words`, each text is a list of words. `overflow` keeps what truncation cuts off,
        as windows that overlap by `stride` ("tokenizer_json") or in `overflowing_ids` ("sentencepiece").
        `offsets` asks for `char_offsets` and `word_ids`. With `dropout`, each merge is left out with that
        probability; `seed` makes it repeatable.

        Raises `UnicodeEncodeError` (a `ValueError`) for a text with lone surrogates; `ValueError` where
        `stride` leaves no room, or a text is too short to be cut as asked ("tokenizer_json").
        """

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        split_special_tokens: bool = False,
    ) -> list[int]:
        """The ids of one text or one pair, whole: the shortest way."""

    def tokenize(
        self,
        text: str,
        pair: str | None = None,
        *,
        add_special_tokens: bool = False,
        split_special_tokens: bool = False,
        dropout: float | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """The tokens of one text or one pair."""

    def decode(
        self,
        ids: _Ids,
        *,
        skip_special_tokens: bool = False,
        spaces_between_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """The text of ids. `spaces_between_special_tokens` has a meaning for "sentencepiece" only.

        Raises `IndexError` for an id that there is not ("sentencepiece"; else it is left out).
        """

    def decode_batch(
        self,
        ids: _IdLists,
        *,
        skip_special_tokens: bool = False,
        spaces_between_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool = False,
        num_threads: int | None = None,
    ) -> list[str]:
        """The texts of several lists of ids."""

    def tokens_to_string(self, tokens: Iterable[str]) -> str:
        """The text of tokens; "" for none."""

    def to_json(self) -> bytes:
        """The pipeline as a `tokenizer.json`, with its added tokens and templates. Of a SentencePiece model,
        what transformers 4.57's converter makes."""

    def __copy__(self) -> Pipeline: ...
    def __deepcopy__(self, _memo: Any) -> Pipeline: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class EncodingBatch:
    """Encoded texts: row after row of tokens, and what is known of each token.

    There is a row for each text, or several where a text has overflowed. Row `i` is at
    `row_offsets[i]:row_offsets[i + 1]` in each of the flat columns, which are read-only.
    """

    def __len__(self) -> int: ...
    @property
    def ids(self) -> npt.NDArray[np.uint32]:
        """All ids, one row after the other: an array over the batch's memory."""

    @property
    def row_offsets(self) -> npt.NDArray[np.int64]:
        """Where each row begins, and at last where the last one ends."""

    @property
    def type_ids(self) -> npt.NDArray[np.int32]:
        """The type id of each token, by the template."""

    @property
    def special_tokens_mask(self) -> npt.NDArray[np.int32]:
        """1 for the tokens that the template added, else 0."""

    @property
    def sequence_ids(self) -> npt.NDArray[np.int32]:
        """0 for the tokens of a text, 1 for those of its pair, -1 for those of the template."""

    @property
    def word_ids(self) -> npt.NDArray[np.int32] | None:
        """The number of each token's word, -1 for those of the template; None unless asked for."""

    @property
    def char_offsets(self) -> npt.NDArray[np.int32] | None:
        """Of shape (n, 2): each token's range of code points in its text (its word, where text is split
        into words), (0, 0) for those of the template; None unless asked for."""

    @property
    def sample_mapping(self) -> npt.NDArray[np.int64]:
        """The number of each row's text."""

    @property
    def overflowing_ids(self) -> list[list[int]] | None:
        """For each row, what was cut off, with `stride` ids more; "sentencepiece" with `overflow` only."""

    @property
    def num_truncated(self) -> npt.NDArray[np.int64] | None:
        """For each row, the number of its ids less `max_length`: negative where there is room left;
        "sentencepiece" with `overflow` only."""

    @property
    def unmet_rows(self) -> list[int]:
        """Rows that are left whole, since more would have to be cut off than there is; "sentencepiece"
        only."""

    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each row."""

    def tokens(self, row: SupportsIndex) -> list[str]:
        """The tokens of a row."""

    def lists(
        self,
        column: _Column | Literal["offset_mapping", "word_ids", "sequence_ids"],
        *,
        length: int | None = None,
        side: _Side = "right",
        pad_value: int = 0,
    ) -> list[list[Any]]:
        """A column as lists, one a row; rows shorter than `length` are filled up at `side`.

        Offsets are tuples of two, (0, 0) where a row is filled up; "word_ids" and "sequence_ids" have None
        for what is no word's or sequence's.
        """

    def padded(
        self, column: _Column, length: int | None = None, side: _Side = "right", pad_value: int = 0
    ) -> npt.NDArray[np.int64]:
        """A column as a rectangle; rows are as long as the longest one, or `length`, if that is not less."""

    def __getitem__(self, rows: slice, /) -> EncodingBatch: ...

def linear(
    x: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float16] | npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32] | None,
    out: npt.NDArray[np.float32],
    num_threads: int,
    gomp_parallel: int | None = None,
) -> None:
    """Writes `x @ weight.T + bias` to `out`, each sum in an order of its own, float32.

    `x` is (rows, inputs), `weight` (outputs, inputs), `bias` (outputs,), `out` (rows, outputs), all
    contiguous. The threads are the core's own, or those of the OpenMP runtime of whose function
    `GOMP_parallel` the address is given; any other address ends the process.

    Raises:
        ValueError: shapes that do not fit, or an array that is not contiguous.
        TypeError: another dtype.
    """

_Float32: TypeAlias = npt.NDArray[np.float32]
_Linear: TypeAlias = tuple[npt.NDArray[np.float32] | npt.NDArray[np.float16], _Float32 | None]

def decoder_step(
    x: _Float32,
    out: _Float32,
    sizes: tuple[int, int, int],
    eps: float,
    scale: float,
    norms: tuple[_Float32, _Float32],
    qkv: _Linear,
    output: _Linear,
    gate_up: _Linear,
    down: _Linear,
    cos: _Float32,
    sin: _Float32,
    bias: _Float32 | None,
    keys: _Float32,
    values: _Float32,
    length: int,
    num_threads: int,
    gomp_parallel: int | None = None,
) -> None:
    """Runs a Llama decoder layer for one new token of each row.

    `sizes`: H heads, K heads of keys and values, and D elements of a head. `x` and `out` are (rows, hidden);
    `norms` the weights of the two norms, (hidden,); `qkv` (H * D + 2 * K * D, hidden), `output`
    (hidden, H * D), `gate_up` (2 * inner, hidden) and `down` (hidden, inner) are weights with their biases.
    `cos` and `sin` are (1, D) or (rows, D), and `bias`, which is added to scores, (1, length + 1) or
    (rows, length + 1). `keys` and `values`, (rows, K, room, D), hold `length` tokens, and take the new one.
    All are contiguous. For the threads see `linear`.

    Raises:
        ValueError: shapes that do not fit, or an array that is not contiguous.
        TypeError: another dtype.
    """
