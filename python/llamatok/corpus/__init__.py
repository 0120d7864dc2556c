"""Corpora to token shards: files, folders, globs, URLs and datasets in; what trainers read out.

    >>> from llamatok.corpus import tokenize
    >>> report = tokenize("data/*.jsonl.zst", "tokens", format="megatron", add_eos=True)  # doctest: +SKIP

Needs the extra ``llamatok[corpus]``. `docs/corpus.md` tells how it works and what it promises.
"""

from __future__ import annotations

try:
    import pyarrow as _pyarrow  # noqa: F401
except ImportError as _error:
    raise ImportError(f"llamatok.corpus needs pyarrow ({_error}): pip install 'llamatok[corpus]'") from _error

from llamatok.corpus.api import tokenize
from llamatok.corpus.batches import BatchTokenizer
from llamatok.corpus.errors import (
    CorpusError,
    DamagedInputError,
    InputChangedError,
    MissingInputError,
    OutputError,
    RejectedError,
)
from llamatok.corpus.report import Report

__all__ = [
    "BatchTokenizer",
    "CorpusError",
    "DamagedInputError",
    "InputChangedError",
    "MissingInputError",
    "OutputError",
    "RejectedError",
    "Report",
    "tokenize",
]
