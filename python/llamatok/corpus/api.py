"""`llamatok.corpus.tokenize`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any

from llamatok.corpus.errors import CorpusError
from llamatok.corpus.inputs import as_list
from llamatok.corpus.local import default_workers, token_blocks
from llamatok.corpus.progress import Progress, progress_for
from llamatok.corpus.report import Report
from llamatok.corpus.run import Run
from llamatok.corpus.settings import Settings, parse_size
from llamatok.corpus.tokenizers import TokenizerSource
from llamatok.corpus.work import Worker

__all__ = ["make_settings", "tokenize", "tokenize_arguments"]


def tokenize(
    inputs: Any,
    output: str | os.PathLike[str],
    *,
    tokenizer: Any = None,
    format: str = "megatron",
    text_key: str = "text",
    id_key: str | None = None,
    kind: str = "auto",
    separator: str | None = None,
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
    add_bos: bool = False,
    add_eos: bool = False,
    min_tokens: int = 0,
    max_tokens: int | None = None,
    long_documents: str = "drop",
    dedup: bool = False,
    val_fraction: float = 0.0,
    shuffle: bool = False,
    seed: int = 0,
    pack: int | None = None,
    pack_remainder: str = "drop",
    position_ids: bool = True,
    shard_size: int | str | None = None,
    invalid_utf8: str = "reject",
    strict: bool = False,
    skip_damaged: bool = False,
    workers: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: bool | Progress | None = None,
    checkpoint_seconds: float = 5.0,
    block_size: int | str = 4 << 20,
) -> Report:
    """Tokenize corpora into shards that trainers read.

    The same call gives the same bytes, whatever the number of workers and however often it was interrupted.

    Args:
        inputs: A path, URL, glob, folder or ``datasets.Dataset``, or several. Endings tell the kind (text,
            JSON lines, Parquet, Arrow, CSV) and the compression (``.gz``, ``.zst``, ``.bz2``, ``.xz``).
        output: A local folder, new or empty unless a run is resumed.
        tokenizer: A path to a model file, a `llamatok.Tokenizer`, or a `llamatok.LlamaTokenizer`, which puts
            its own bos and eos around each document, too; the embedded one if not given.
        format: "megatron", "nanogpt", "datatrove", "litdata", "mds", "parquet", "arrow" or "npy".
        text_key: The field or column of the text; ``a.b`` is the field ``b`` of ``a``, unless there is a
            field ``a.b``.
        id_key: The field or column of a document's id, which decides its split; table formats keep it.
        kind: Reads all inputs as "text", "lines", "jsonl", "parquet", "arrow" or "csv" whatever their names.
        separator: What stands between the documents of a text file; without it, a file is a document.
        delimiter: What stands between the fields of CSV; a comma, or a tab in ``.tsv``, if not given.
        columns: The source columns that the formats "parquet" and "arrow" keep; all but the text if not
            given.
        add_bos: Put the beginning-of-sequence token before each document that has text.
        add_eos: Put the end-of-sequence token behind each document that has text.
        min_tokens: Leave out documents with fewer tokens, bos and eos counted.
        max_tokens: Leave out documents with more tokens, or cut them.
        long_documents: "drop" or "truncate" those; a cut document still ends with its eos.
        dedup: Keep only the first of documents with the same text.
        val_fraction: The share of documents, by a hash of the id or the text, that goes to the split ``val``.
        shuffle: Put documents in a random order.
        seed: Decides that order.
        pack: Cut the stream of documents into sequences of so many tokens, with position ids that begin anew
            at each document and each sequence.
        pack_remainder: "drop" or "pad" the last sequence of a split.
        position_ids: Write position ids of packed sequences.
        shard_size: Bytes of tokens at which a shard ends: a number, or "500MB", "1GiB". By default no limit;
            64 MiB for "litdata" and "mds", 256 MiB for "parquet" and "arrow".
        invalid_utf8: "reject" documents that are not UTF-8, or "replace" what is wrong by U+FFFD.
        strict: Stop at the first document that cannot be used, instead of putting it into the reject file.
        skip_damaged: Go on with the next input where one is damaged, and count its rest as one reject.
        workers: Threads that tokenize; by default one a processor.
        resume: Go on where an earlier call with the same settings was interrupted. Without it, that is an
            error.
        overwrite: Remove what an earlier run has left in the output folder, and begin anew.
        progress: Show progress on standard error: always, never, or (by default) on a terminal only.
            Elsewhere the logger "llamatok.corpus" gets a line every ten seconds.
        checkpoint_seconds: How often the state is saved.
        block_size: Bytes of input that are worked on at a time; part of the settings.

    Returns:
        A report, which also lies in the folder as ``summary.json`` and ``report.html``.

    Raises:
        CorpusError: Settings, an input or the output are not usable; subclasses tell which. The state that is
            left can be resumed.
        llamatok.ModelFormatError: The tokenizer's file is damaged.
    """
    settings = make_settings(dict(locals()))
    source = TokenizerSource.of(tokenizer)
    count = default_workers() if workers is None else workers
    if count < 1:
        raise CorpusError(f"workers must be at least 1: {count}")
    worker = Worker(source, settings)
    view = progress if isinstance(progress, Progress) else progress_for(progress)
    run = Run(
        as_list(inputs), os.fspath(output), source, settings, resume, overwrite, checkpoint_seconds, view
    )
    with run:
        if run.report is None:
            run.consume(token_blocks(run.plan, worker, run.skip, count))
    assert run.report is not None
    return run.report


def tokenize_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `tokenize`, those that are not given at their defaults. Raises `TypeError`."""
    parameters = inspect.signature(tokenize).parameters
    for name in given:
        if name not in parameters:
            raise TypeError(f"unexpected argument: {name}")
    return {**{name: parameter.default for name, parameter in parameters.items()}, **given}


def make_settings(arguments: dict[str, Any]) -> Settings:
    """The settings among the arguments of a call."""
    columns = arguments["columns"]
    shard_size = arguments["shard_size"]
    names = (
        "format", "text_key", "id_key", "kind", "separator", "delimiter", "add_bos", "add_eos", "min_tokens",
        "max_tokens", "long_documents", "dedup", "val_fraction", "shuffle", "seed", "pack", "pack_remainder",
        "position_ids", "invalid_utf8", "strict", "skip_damaged",
    )  # fmt: skip
    return Settings(
        columns=None if columns is None else tuple(columns),
        shard_bytes=None if shard_size is None else parse_size(shard_size, "shard_size"),
        block_bytes=parse_size(arguments["block_size"], "block_size"),
        **{name: arguments[name] for name in names},
    )
