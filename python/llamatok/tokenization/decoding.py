"""Ids and tokens back to text, and the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, overload

import numpy as np

from llamatok.tokenization.prepare import Preparing

_CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class Decoding(Preparing):
    """The methods that give text, tokens and ids for ids and tokens."""

    clean_up_tokenization_spaces: bool

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        spaces_between_special_tokens: bool = True,
        **kwargs: Any,
    ) -> Any:
        """The text of ids.

        >>> from llamatok import LlamaTokenizer
        >>> tokenizer = LlamaTokenizer.default()
        >>> tokenizer.decode(tokenizer.encode("Hello world"), skip_special_tokens=True)
        'Hello world'

        Args:
            token_ids: Ids of one text: an int, a list, an array or a tensor. For a list of lists, or what has
                two dimensions, a list of texts is returned. Of a mapping (a `BatchEncoding`) the `input_ids`
                are taken.
            skip_special_tokens: Whether to leave out special tokens.
            clean_up_tokenization_spaces: Whether to remove spaces before punctuation and the like; by default
                the attribute of this name.
            spaces_between_special_tokens: Whether added tokens are set off by spaces; for a tokenizer from
                `tokenizer.model` only.

        Raises:
            IndexError: An id that there is not, for a tokenizer from `tokenizer.model`; one from
                `tokenizer.json` leaves it out.
        """
        ids = _ids(token_ids)
        if isinstance(ids, int):
            ids = [ids]
        clean = (
            self.clean_up_tokenization_spaces
            if clean_up_tokenization_spaces is None
            else clean_up_tokenization_spaces
        )
        pipeline = self._pipeline or self._ready()
        if _is_nested(ids):
            return pipeline.decode_batch(
                ids,
                skip_special_tokens=skip_special_tokens,
                spaces_between_special_tokens=spaces_between_special_tokens,
                clean_up_tokenization_spaces=clean,
            )
        return pipeline.decode(
            ids,
            skip_special_tokens=skip_special_tokens,
            spaces_between_special_tokens=spaces_between_special_tokens,
            clean_up_tokenization_spaces=clean,
        )

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """The texts of several lists of ids; of a flat list, the text of each id by itself.

        A flat list is one text in transformers 5; in 4 it is as here.

        The arguments are those of `decode`.
        """
        ids = _ids(sequences)
        if isinstance(ids, int):
            raise TypeError("`sequences` must be lists of ids, not a single id")
        if not _is_nested(ids):
            ids = [item if isinstance(item, (list, tuple)) else [item] for item in ids]
        texts: list[str] = self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces, **kwargs)
        return [] if len(ids) == 0 else texts

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of tokens; "" for none."""
        return self._ready().tokens_to_string(tokens)

    @staticmethod
    def clean_up_tokenization(out_string: str) -> str:
        """A text without the spaces before punctuation and English contractions.

        >>> from llamatok import LlamaTokenizer
        >>> LlamaTokenizer.clean_up_tokenization("it 's a test .")
        "it's a test."
        """
        for spaced, cleaned in _CLEANED:
            out_string = out_string.replace(spaced, cleaned)
        return out_string

    # Between ids and tokens

    # A str is an iterable of str, too; the more special signature comes first.
    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int: ...  # type: ignore[overload-overlap]
    @overload
    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]: ...
    @overload
    def convert_tokens_to_ids(self, tokens: None) -> None: ...
    def convert_tokens_to_ids(self, tokens: str | Iterable[str] | None) -> int | list[int] | None:
        """The id of a token, or the ids of several; that of `unk_token` for what is no token."""
        if tokens is None:
            return None
        if isinstance(tokens, str):
            return self._id_of(tokens)
        unknown = self._id_of(str(self.unk_token)) if self.unk_token is not None else None
        # With no unknown token, what is unknown has no id either.
        ids: list[Any] = self._ready().tokens_to_ids(tokens, default=unknown)
        return ids

    @overload
    def convert_ids_to_tokens(self, ids: int, skip_special_tokens: bool = False) -> str: ...
    @overload
    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> list[str]: ...
    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or the tokens of several.

        Args:
            ids: An id, or a list, array or tensor of ids.
            skip_special_tokens: Whether to leave out the ids of `all_special_ids`.

        Raises:
            IndexError: An id that there is not, for a tokenizer from `tokenizer.model`; one from
                `tokenizer.json` gives None for it.
        """
        ids = _ids(ids)
        if isinstance(ids, int):
            token = self._token_of(ids)
            if token is None and self._slow():
                raise IndexError(f"there is no id {ids}: the ids are from 0 to {len(self) - 1}")
            return token
        if isinstance(ids, np.ndarray):
            ids = ids.tolist()
        if skip_special_tokens:
            special = set(self.all_special_ids)
            ids = [id for id in ids if id not in special]
        tokens: list[Any] = self._ready().ids_to_tokens(ids)
        return tokens if len(tokens) == len(ids) else [self._token_of(id) for id in ids]

    # The vocabulary

    @property
    def vocab_size(self) -> int:
        """The number of pieces of the model, added tokens not counted."""
        return self._core.vocab_size(with_added=False)

    def __len__(self) -> int:
        """The number of tokens, added ones counted."""
        return self.vocab_size + self._beyond

    def __bool__(self) -> bool:
        return True

    def get_vocab(self) -> dict[str, int]:
        """The ids of all tokens, added ones among them."""
        return self._ready().vocab(with_added=True)

    @property
    def vocab(self) -> dict[str, int]:
        """The ids of all tokens, added ones among them."""
        return self.get_vocab()


def _ids(value: Any) -> Any:
    """Ids as an int, a list or an array of numpy: tensors are brought to the processor's memory.

    Raises:
        TypeError: It is None, text, or a mapping without `input_ids`.
    """
    if isinstance(value, Mapping) and "input_ids" in value:
        return _ids(value["input_ids"])
    if value is None or isinstance(value, (str, bytes, Mapping)):
        raise TypeError(f"ids must be an int, a list, an array or a tensor, not {type(value).__name__}")
    if isinstance(value, (int, list, tuple, np.ndarray)):
        if isinstance(value, np.ndarray) and value.ndim == 0:
            return int(value)
        if isinstance(value, (list, tuple)) and value and hasattr(value[0], "tolist"):
            return [item.tolist() for item in value]
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__iter__"):
        return list(value)
    return int(value)


def _is_nested(ids: Any) -> bool:
    if isinstance(ids, np.ndarray):
        return ids.ndim > 1
    return len(ids) > 0 and isinstance(ids[0], (list, tuple, np.ndarray))
