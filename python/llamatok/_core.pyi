"""The compiled core of llamatok."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, Protocol, SupportsIndex, TypeAlias, TypedDict, final, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import CapsuleType

__all__ = [
    "ModelFormatError",
    "StreamDecoder",
    "TextBatch",
    "TokenBatch",
    "Tokenizer",
    "TokenizerError",
    "UnsupportedModelError",
    "__version__",
]

__version__: Final[str]

class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[CapsuleType, CapsuleType]: ...

class _ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: Any = None) -> CapsuleType: ...

class _Array(Protocol):
    def __array__(self) -> npt.NDArray[Any]: ...

_Texts: TypeAlias = Iterable[str] | Iterable[bytes] | Iterable[str | bytes] | _ArrowArray | _ArrowStream
_Ids: TypeAlias = Iterable[SupportsIndex] | npt.NDArray[np.integer] | _Array
_IdLists: TypeAlias = TokenBatch | Iterable[_Ids] | npt.NDArray[np.integer] | _ArrowArray | _ArrowStream

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
    normalizer: str
    has_charsmap: bool
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool
    treat_whitespace_as_suffix: bool
    unk_surface: str
    bos_id: int | None
    eos_id: int | None
    unk_id: int
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
        """Reads a `tokenizer.model` or a GGUF file; the content tells which it is."""

    @classmethod
    def from_bytes(cls, data: bytes, *, cache_bytes: int | None = None) -> Tokenizer:
        """Reads a model from memory."""

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
        """The text of ids, as SentencePiece decodes them."""

    def decode_bytes(self, ids: _Ids, *, skip_special_tokens: bool = False) -> bytes:
        """The bytes of ids: as `decode`, but byte pieces give their bytes as they are."""

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
        their text comes out again.
        """

    def id_to_piece(self, id: SupportsIndex) -> str:
        """The piece of an id, as it stands in the model ("▁" for a space, "<0x0A>" for a byte)."""

    def piece_to_id(self, piece: str) -> int | None:
        """The id of a piece, or None."""

    def score(self, id: SupportsIndex) -> float:
        """The score of a piece: the higher, the earlier it is merged."""

    def kind(
        self, id: SupportsIndex
    ) -> Literal["NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED", "BYTE"]:
        """The kind of a piece."""

    def pieces(self) -> list[str]:
        """All pieces, in the order of their ids."""

    @property
    def vocab_size(self) -> int:
        """The number of pieces."""

    @property
    def bos_id(self) -> int | None:
        """The id of the beginning-of-sequence token, or None."""

    @property
    def eos_id(self) -> int | None:
        """The id of the end-of-sequence token, or None."""

    @property
    def unk_id(self) -> int:
        """The id of the unknown piece."""

    @property
    def pad_id(self) -> int | None:
        """The id of the padding token, or None."""

    @property
    def settings(self) -> _Settings:
        """What the model file says, and which engine serves it, for people to look at.

        "engine" is "fast", or else "general", which gives the same ids more slowly; "engine_reason" then says
        what in the vocabulary asks for it.
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
        that padding goes to.
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
