"""`llamatok corpus`: corpora to token shards."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import sys
from typing import Any

from llamatok.cli import options
from llamatok.cli.errors import CommandError

FORMATS = ("megatron", "nanogpt", "datatrove", "litdata", "mds", "parquet", "arrow", "npy")
#: The parameter of glibc's `mallopt` that limits the number of heaps (malloc.h).
M_ARENA_MAX = -8
KINDS = ("auto", "text", "lines", "jsonl", "parquet", "arrow", "csv")

EXAMPLES = """\
  llamatok corpus --model tokenizer.model --add-eos -o tokens data/*.jsonl.zst
  llamatok corpus --format nanogpt --add-eos --val-fraction 0.0005 -o tokens books/
  llamatok corpus --format mds --pack 2048 --shuffle --seed 7 --dedup -o tokens corpus.parquet
  llamatok corpus --resume --add-eos -o tokens data/*.jsonl.zst      # after an interruption

Needs the extra `corpus`: pip install 'llamatok[corpus]'
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = options.add_command(commands, "corpus", "Turn corpora into token shards.", EXAMPLES)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="files, folders, globs or URLs; .gz, .zst, .bz2 and .xz too",
    )
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="where the shards go")
    options.add_model(parser)
    parser.add_argument(
        "--format", choices=FORMATS, default="megatron", help="the format of the shards (default: megatron)"
    )

    reading = parser.add_argument_group("reading")
    reading.add_argument(
        "--kind", choices=KINDS, default="auto", help="what the inputs are (default: by name)"
    )
    reading.add_argument(
        "--text-key", metavar="KEY", default="text", help="the field or column of the text; a.b is b of a"
    )
    reading.add_argument("--id-key", metavar="KEY", help="the field or column of a document's id")
    reading.add_argument(
        "--separator",
        metavar="TEXT",
        help=r"what stands between the documents of text files; \n is a line break",
    )
    reading.add_argument(
        "--delimiter", metavar="CHAR", help=r"what stands between the fields of CSV; \t is a tab"
    )
    reading.add_argument(
        "--invalid-utf8", choices=("reject", "replace"), default="reject", help="documents that are not UTF-8"
    )
    reading.add_argument(
        "--strict", action="store_true", help="stop at the first document that cannot be used"
    )
    reading.add_argument(
        "--skip-damaged", action="store_true", help="go on with the next input where one is damaged"
    )

    documents = parser.add_argument_group("documents")
    documents.add_argument(
        "--add-bos", action="store_true", help="put the beginning-of-sequence token in front"
    )
    documents.add_argument("--add-eos", action="store_true", help="put the end-of-sequence token behind")
    documents.add_argument(
        "--min-tokens", type=int, default=0, metavar="N", help="leave out shorter documents"
    )
    documents.add_argument(
        "--max-tokens", type=options.positive, metavar="N", help="leave out longer documents"
    )
    documents.add_argument("--truncate", action="store_true", help="cut longer documents instead")
    documents.add_argument(
        "--dedup", action="store_true", help="keep the first of documents with the same text"
    )
    documents.add_argument(
        "--columns", metavar="A,B", help="the columns that parquet and arrow keep (default: all but the text)"
    )

    writing = parser.add_argument_group("writing")
    writing.add_argument(
        "--val-fraction",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="the share of documents of the split `val`",
    )
    writing.add_argument("--shuffle", action="store_true", help="put documents in a random order")
    writing.add_argument("--seed", type=int, default=0, metavar="N", help="decides that order (default: 0)")
    writing.add_argument("--pack", type=options.positive, metavar="N", help="cut into sequences of N tokens")
    writing.add_argument(
        "--pad-last", action="store_true", help="pad the last sequence instead of leaving it out"
    )
    writing.add_argument(
        "--no-position-ids", action="store_true", help="write no position ids of packed sequences"
    )
    writing.add_argument(
        "--shard-size", metavar="SIZE", help="bytes of tokens in a shard, such as 500MB or 1GiB"
    )

    running = parser.add_argument_group("running")
    running.add_argument(
        "--workers", type=options.positive, metavar="N", help="threads (default: one a processor)"
    )
    running.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    running.add_argument(
        "--overwrite", action="store_true", help="remove what an earlier run left, and begin anew"
    )
    running.add_argument("--block-size", default="4MiB", metavar="SIZE", help="input worked on at a time")
    running.add_argument(
        "--ray", metavar="ADDRESS", help="run on this Ray cluster (`auto`: the one this machine is in)"
    )
    running.add_argument("--json", action="store_true", help="report as JSON on standard output")
    running.add_argument("--quiet", action="store_true", help="show no progress and no report")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    _use_one_heap()
    try:
        from llamatok.corpus import CorpusError, tokenize
    except ImportError as error:
        raise CommandError(
            str(error).partition(": pip install")[0], "pip install 'llamatok[corpus]'"
        ) from None
    logging.getLogger("datasets").setLevel(logging.ERROR)
    try:
        if arguments.ray is not None:
            report = _on_ray(arguments)
        else:
            progress = not arguments.quiet
            report = tokenize(
                arguments.inputs,
                arguments.output,
                workers=arguments.workers,
                progress=progress,
                **_settings(arguments),
            )
    except CorpusError as error:
        raise CommandError(error.message, *error.hints) from None
    if arguments.json:
        print(json.dumps(report.to_json()))
    elif not arguments.quiet:
        print("\n".join(report.lines()), file=sys.stderr)
    return 0


def _use_one_heap() -> None:
    """Lets all threads take memory from one heap, with glibc.

    It gives a thread a heap of its own by default. A run allocates and frees a few large blocks in each of
    its threads, and what lies free in one heap is lost to the others: peak memory then grows by a tenth
    between 100 MB and 1 GB of input. So seldom does anybody allocate that the threads hardly wait. The limit
    counts only until the first thread (one of Arrow's, mostly) has asked for a heap.
    """
    # Other C libraries have other allocators, and Windows gives no handle of the program.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _on_ray(arguments: argparse.Namespace) -> Any:
    try:
        from llamatok.corpus import ray
    except ImportError as error:
        raise CommandError(str(error).partition(": pip install")[0], "pip install 'llamatok[ray]'") from None
    return ray.tokenize(
        arguments.inputs,
        arguments.output,
        address=arguments.ray,
        workers=arguments.workers,
        **_settings(arguments),
    )


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that every runner takes."""
    names = (
        "format", "kind", "text_key", "id_key", "invalid_utf8", "strict", "skip_damaged", "add_bos",
        "add_eos", "min_tokens", "max_tokens", "dedup", "val_fraction", "shuffle", "seed", "pack",
        "shard_size", "resume", "overwrite", "block_size",
    )  # fmt: skip
    return {
        **{name: getattr(arguments, name) for name in names},
        "tokenizer": arguments.model,
        "separator": _unescaped(arguments.separator),
        "delimiter": _unescaped(arguments.delimiter),
        "columns": None
        if arguments.columns is None
        else [name for name in arguments.columns.split(",") if name],
        "long_documents": "truncate" if arguments.truncate else "drop",
        "pack_remainder": "pad" if arguments.pad_last else "drop",
        "position_ids": not arguments.no_position_ids,
    }


def _unescaped(text: str | None) -> str | None:
    r"""Text of the command line with \n, \r, \t and \\ for what they stand for."""
    if text is None:
        return None
    for escape, character in ((r"\\", "\0"), (r"\n", "\n"), (r"\r", "\r"), (r"\t", "\t"), ("\0", "\\")):
        text = text.replace(escape, character)
    return text
