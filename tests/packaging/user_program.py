"""A program of a user, for mypy --strict: what the public interface takes and gives, by its types alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

import llamatok
from llamatok import (
    AddedToken,
    BatchEncoding,
    LlamaTokenizer,
    ModelFormatError,
    StreamDecoder,
    TokenBatch,
    Tokenizer,
    TokenizerError,
)


def plain(path: str, texts: list[str]) -> npt.NDArray[np.int64]:
    """Text to ids and back."""
    try:
        tok = Tokenizer.from_file(path, cache_bytes=0)
    except ModelFormatError as error:
        failed: TokenizerError = error
        raise SystemExit(str(failed)) from error
    ids = assert_type(tok.encode("Hello", add_bos=True), list[int])
    assert_type(tok.decode(ids, skip_special_tokens=True), str)
    assert_type(tok.decode_bytes(ids), bytes)
    batch = assert_type(tok.encode_batch(texts, num_threads=2), TokenBatch)
    assert_type(batch.to_lists(), list[list[int]])
    assert_type(tok.decode_batch(batch), list[str])
    assert_type(tok.bos_id, "int | None")
    assert_type(tok.vocab_size, int)
    rows, mask = batch.to_padded(pad_id=0)
    return rows * mask


def streamed(tok: Tokenizer, ids: Iterator[int]) -> Iterator[str]:
    """Text as it comes."""
    decoder = assert_type(tok.stream_decoder(), StreamDecoder)
    for id in ids:
        yield assert_type(decoder.push(id), str)
    yield decoder.finish()


def drop_in(folder: str) -> str:
    """Hugging Face's interface."""
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    assert_type(tokenizer, LlamaTokenizer)
    assert_type(tokenizer.add_tokens([AddedToken("<name>", normalized=False)]), int)
    encoding = assert_type(tokenizer(["Hello", "world"], padding=True), BatchEncoding)
    ids: list[int] = encoding["input_ids"][0]
    assert_type(tokenizer.tokenize("Hello"), list[str])
    assert_type(tokenizer.vocab_size, int)
    print(tokenizer.decode(ids), llamatok.__version__)
    return llamatok.demo_checkpoint()
