"""Packing: documents back to back, cut into sequences of one length."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from llamatok.corpus.documents import Documents, Tokens
from llamatok.corpus.sinks.flat import position_dtype

__all__ = ["Packer"]


class Packer:
    """Turns documents into sequences of `length` tokens, and remembers what is left over.

    A token's position id counts from where its document begins in its sequence; so a 0 marks the beginning of
    a document, or of the part of one that the sequence before did not hold.
    """

    def __init__(self, length: int, dtype: np.dtype[Any], positions: bool) -> None:
        self.length = length
        self._dtype = dtype
        self._position_dtype = position_dtype(length)
        self._positions = positions
        self._tokens: Tokens = np.zeros(0, dtype)
        self._places: Tokens = np.zeros(0, self._position_dtype)

    @property
    def left_over(self) -> int:
        """Tokens that do not fill a sequence yet."""
        return len(self._tokens)

    def pack(self, documents: Documents) -> Documents:
        """The sequences that are full with these documents."""
        tokens = np.concatenate((self._tokens, documents.tokens))
        sequences = len(tokens) // self.length
        used = sequences * self.length
        self._tokens = tokens[used:].copy()
        places = None
        if self._positions:
            places = np.arange(len(self._tokens) + used, dtype=np.int64)
            in_sequence = places % self.length
            starts = documents.offsets[:-1] + len(self._places)
            # In the part that was left over, the positions are known.
            in_document = places - np.concatenate(
                (np.zeros(len(self._places), np.int64), np.repeat(starts, documents.lengths))
            )
            in_document[: len(self._places)] = self._places
            places = np.minimum(in_sequence, in_document).astype(self._position_dtype)
            self._places = places[used:].copy()
            places = places[:used]
        offsets = np.arange(sequences + 1, dtype=np.int64) * self.length
        return Documents(tokens[:used], offsets, None, places)

    def pad(self, pad_id: int) -> Documents:
        """The last sequence, filled up with `pad_id` as one more document."""
        missing = self.length - len(self._tokens)
        if missing == self.length:
            return Documents(np.zeros(0, self._dtype), np.zeros(1, np.int64))
        padding = np.full(missing, pad_id, self._dtype)
        return self.pack(Documents(padding, np.array([0, missing], np.int64)))

    def state(self) -> dict[str, Any]:
        """What is left over."""
        return {name: base64.b64encode(part.tobytes()).decode() for name, part in (
            ("tokens", self._tokens), ("places", self._places),
        )}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up what `state` gave."""
        self._tokens = np.frombuffer(base64.b64decode(state["tokens"]), self._dtype)
        self._places = np.frombuffer(base64.b64decode(state["places"]), self._position_dtype)
