"""A worker's part: a raw block goes in, a block of tokens comes out. Workers share only the tokenizer."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llamatok.corpus.documents import Documents, Offsets, Parsed, RawBlock, TokenBlock, Tokens, keep_rows
from llamatok.corpus.errors import CorpusError
from llamatok.corpus.settings import TABLE_FORMATS, Settings
from llamatok.corpus.tokenizers import TokenizerSource

__all__ = ["Worker", "token_dtype"]

#: From this size on, a block is a single large document, and all cores may share it.
LARGE_BLOCK = 32 << 20


def token_dtype(form: str, vocab_size: int) -> np.dtype[Any]:
    """The type of a token in the format, little-endian.

    Megatron's `DType.optimal_dtype` takes int32 from 65,500 pieces on; the others take uint32 where ids do
    not fit 16 bits.
    """
    if form == "megatron":
        return np.dtype("<u2" if vocab_size < 65500 else "<i4")
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class Worker:
    """Parses blocks and tokenizes them. One object serves any number of threads."""

    def __init__(self, source: TokenizerSource, settings: Settings) -> None:
        self.tokenizer = source.tokenizer
        self.settings = settings
        self._ends_with_eos = settings.add_eos or source.ends_with_eos
        self.dtype = token_dtype(settings.format, source.tokenizer.vocab_size)
        for wanted, id, name in (
            (settings.add_bos, self.tokenizer.bos_id, "beginning-of-sequence"),
            (settings.add_eos, self.tokenizer.eos_id, "end-of-sequence"),
        ):
            if wanted and id is None:
                raise CorpusError(f"the tokenizer has no {name} token")

    def __call__(self, unit: int, index: int, raw: RawBlock, read_seconds: float) -> TokenBlock:
        """The documents of a block as tokens, those too short or too long left out."""
        clock = _Clock({"read": read_seconds})
        parsed = raw.parse(self.settings)
        clock.lap("parse")
        text_bytes = _byte_lengths(parsed.texts)
        tokens, offsets = self._encode(parsed.texts, text_bytes, raw.size)
        clock.lap("tokenize")
        text_hashes, split_hashes = self._hashes(parsed)
        columns = self._columns(parsed)
        counts = {
            "documents_read": len(text_bytes),
            "bytes_read": int(text_bytes.sum()),
            "tokens_read": len(tokens),
            "empty": int(np.count_nonzero(text_bytes == 0)),
            "rejected": len(parsed.rejects),
            "dropped_fields": parsed.dropped_fields,
            "too_short": 0,
            "too_long": 0,
            "truncated": 0,
        }
        documents = Documents(tokens, offsets, columns)
        keep = self._within_limits(documents, counts)
        if keep is not None and not keep.all():
            documents = documents.where(keep)
            text_hashes = None if text_hashes is None else text_hashes[keep]
            split_hashes = None if split_hashes is None else split_hashes[keep]
        clock.lap("other")
        return TokenBlock(
            unit, index, documents, text_hashes, split_hashes, parsed.rejects, parsed.lines, counts,
            raw.signature, raw.stored, clock.seconds,
        )  # fmt: skip

    def _encode(self, texts: Any, text_bytes: Offsets, size: int) -> tuple[Tokens, Offsets]:
        if not len(text_bytes):
            return np.zeros(0, self.dtype), np.zeros(1, np.int64)
        batch = self.tokenizer.encode_batch(
            texts,
            add_bos=self.settings.add_bos,
            add_eos=self.settings.add_eos,
            num_threads=None if size >= LARGE_BLOCK else 1,
        )
        tokens: Tokens = batch.ids.astype(self.dtype)
        offsets: Offsets = batch.offsets
        # An empty text is a document without tokens: none are put around it (Megatron's preprocess_data.py).
        full = text_bytes > 0
        if len(tokens) and not full.all():
            tokens, _ = keep_rows(tokens, offsets, full)
            offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.diff(offsets) * full)))
        return tokens, offsets

    def _within_limits(self, documents: Documents, counts: dict[str, int]) -> npt.NDArray[np.bool_] | None:
        least, most = self.settings.min_tokens, self.settings.max_tokens
        if not least and most is None:
            return None
        lengths = documents.lengths
        keep = lengths >= least
        counts["too_short"] = int(np.count_nonzero(~keep))
        if most is not None:
            long = lengths > most
            if self.settings.long_documents == "truncate":
                counts["truncated"] = int(np.count_nonzero(long))
                self._truncate(documents, most)
            else:
                counts["too_long"] = int(np.count_nonzero(long))
                keep &= ~long
        return keep

    def _truncate(self, documents: Documents, most: int) -> None:
        """Cuts documents to `most` tokens; one that ends with an end-of-sequence token still does."""
        lengths = documents.lengths
        long = np.flatnonzero(lengths > most)
        if not len(long):
            return
        place = np.arange(documents.offsets[-1]) - np.repeat(documents.offsets[:-1], lengths)
        tokens = documents.tokens[place < most]
        lengths = np.minimum(lengths, most)
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
        eos_id = self.tokenizer.eos_id
        if self._ends_with_eos and eos_id is not None:
            tokens[offsets[1:][long] - 1] = eos_id
        documents.tokens, documents.offsets = tokens, offsets

    def _hashes(self, parsed: Parsed) -> tuple[npt.NDArray[np.uint64] | None, npt.NDArray[np.uint64] | None]:
        by_id = parsed.ids is not None
        text_hashes = None
        if self.settings.dedup or (self.settings.val_fraction and not by_id):
            text_hashes = _hashed(parsed.texts)
        split_hashes = None
        if self.settings.val_fraction:
            split_hashes = _hashed(pc.fill_null(parsed.ids, "")) if by_id else text_hashes
        return (text_hashes if self.settings.dedup else None), split_hashes

    def _columns(self, parsed: Parsed) -> pa.Table | None:
        columns = parsed.columns
        if parsed.ids is None or self.settings.format not in TABLE_FORMATS or self.settings.pack is not None:
            return columns
        key = self.settings.id_key or ""
        if columns is None:
            return pa.table({key: parsed.ids})
        return columns if key in columns.schema.names else columns.append_column(key, parsed.ids)


class _Clock:
    """Processor time of this thread by stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self._last = time.thread_time()

    def lap(self, stage: str) -> None:
        """Counts the time since the last lap for `stage`."""
        now = time.thread_time()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _byte_lengths(texts: Any) -> Offsets:
    lengths = pc.binary_length(texts)
    plain = (
        lengths.to_numpy() if isinstance(lengths, pa.ChunkedArray) else lengths.to_numpy(zero_copy_only=False)
    )
    return np.asarray(plain, np.int64)


def _hashed(texts: Any) -> npt.NDArray[np.uint64]:
    """128 bits of BLAKE2b of each text, as two columns of 64 bits."""
    digests = bytearray()
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        if not len(chunk):
            continue
        wide = pa.types.is_large_string(chunk.type)
        _, places, data = chunk.buffers()
        offsets = np.frombuffer(places, np.int64 if wide else np.int32)[
            chunk.offset : chunk.offset + len(chunk) + 1
        ]
        content = memoryview(data) if data is not None else memoryview(b"")
        start, *ends = offsets.tolist()
        for end in ends:
            digests += hashlib.blake2b(content[start:end], digest_size=16).digest()
            start = end
    return np.frombuffer(bytes(digests), "<u8").reshape(-1, 2)
