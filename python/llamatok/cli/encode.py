"""`llamatok encode`: text to ids."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from llamatok import TokenBatch, Tokenizer
from llamatok.cli import options
from llamatok.cli.errors import UsageError
from llamatok.cli.io import Inputs, open_output
from llamatok.cli.pieces import shown_pieces
from llamatok.cli.progress import Progress, to_terminal

FORMATS = ("ids", "json", "u16", "u32", "pieces")

#: How many ids of a document are turned into words in one go.
BLOCK = 1 << 20

EXAMPLES = """\
  echo "Hello world" | llamatok encode
  llamatok encode --pieces --lines notes.txt
  llamatok encode --text-key text --add-eos --format u16 -o corpus.bin corpus.jsonl.zst

formats:
  ids     a line of ids a document
  json    a line {"ids": [...]} a document
  u16     raw little-endian numbers, documents back to back; for vocabularies up to 65536 pieces
  u32     the same, for any vocabulary
  pieces  a line of pieces a document, separated by spaces
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = options.add_command(commands, "encode", "Turn text into token ids.", EXAMPLES)
    options.add_inputs(parser)
    options.add_model(parser)
    options.add_document_format(
        parser,
        whole="each input is one document",
        lines="each line is a document",
        jsonl="each line is a JSON object that holds a document",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--format", choices=FORMATS, default="ids", help="how to write ids (default: ids)")
    form.add_argument("--pieces", action="store_const", const="pieces", dest="format", help="--format pieces")
    options.add_encoding(parser)
    options.add_output(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    tokenizer = options.load_model(arguments.model)
    write = writer(arguments.format, tokenizer)
    form = options.document_format(arguments)
    how = options.encode_options(arguments)
    inputs = Inputs(arguments.inputs)
    with (
        Progress(inputs, to_terminal(arguments.output)) as progress,
        open_output(arguments.output) as output,
    ):
        for batch in inputs.batches(form):
            write(output, tokenizer.encode_batch(batch.texts, **how))
            if inputs.interactive:
                output.flush()
            progress.add(len(batch), batch.size)
    return 0


def writer(form: str, tokenizer: Tokenizer) -> Callable[[BinaryIO, TokenBatch], None]:
    """What writes a batch in the given format."""
    if form == "u16":
        if tokenizer.vocab_size > 1 << 16:
            raise UsageError(
                f"--format u16 cannot hold the ids of a vocabulary of {tokenizer.vocab_size} pieces",
                "use --format u32",
            )
        return lambda output, batch: _write(output, batch.ids.astype("<u2"))
    if form == "u32":
        return lambda output, batch: _write(output, batch.ids.astype("<u4", copy=False))
    if form == "pieces":
        return _LineWriter([piece.encode() for piece in shown_pieces(tokenizer)], b" ", b"", b"\n")
    numbers = [b"%d" % id for id in range(tokenizer.vocab_size)]
    if form == "json":
        return _LineWriter(numbers, b", ", b'{"ids": [', b"]}\n")
    return _LineWriter(numbers, b" ", b"", b"\n")


def _write(output: BinaryIO, numbers: npt.NDArray[np.unsignedinteger[Any]]) -> None:
    output.write(numbers.tobytes())


class _LineWriter:
    """Writes a line for each document, with a word for each id."""

    def __init__(self, words: list[bytes], between: bytes, before: bytes, after: bytes) -> None:
        self._words = np.array(words, dtype=object)
        self._between = between
        self._before = before
        self._after = after

    def __call__(self, output: BinaryIO, batch: TokenBatch) -> None:
        for start, end in pairwise(batch.offsets.tolist()):
            output.write(self._before)
            for at in range(start, end, BLOCK):
                if at > start:
                    output.write(self._between)
                ids = batch.ids[at : min(at + BLOCK, end)]
                output.write(self._between.join(self._words[ids].tolist()))
            output.write(self._after)
