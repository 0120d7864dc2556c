"""`llamatok train`: a new vocabulary from text."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence

from llamatok.cli import options
from llamatok.cli.errors import CommandError
from llamatok.cli.inspect import settings_table
from llamatok.cli.io import STANDARD_INPUT

EXAMPLES = """\
  llamatok train --vocab-size 8000 -o tokenizer.model books/*.txt
  llamatok train --text-key text -o tokenizer.model corpus.jsonl.zst

Writes a SentencePiece BPE model in Llama's layout: <unk>, <s>, </s>, 256 bytes, merges, characters.
Needs the extra `train`: pip install 'llamatok[train]'
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = options.add_command(commands, "train", "Train a vocabulary.", EXAMPLES)
    options.add_inputs(parser)
    parser.add_argument(
        "--vocab-size",
        type=options.positive,
        default=32000,
        metavar="N",
        help="the number of pieces (default: 32000)",
    )
    parser.add_argument(
        "--text-key",
        metavar="KEY",
        help="inputs are JSON lines with the text under this key"
        " (default: `text` for files named .jsonl; other files are plain text)",
    )
    parser.add_argument(
        "--character-coverage",
        type=_share,
        metavar="SHARE",
        help="the share of the text's characters that get a piece of their own; the others become bytes",
    )
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output")
    options.add_threads(parser)
    options.add_output(parser, required=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from llamatok.train import train

    given = {
        name: value
        for name, value in (
            ("character_coverage", arguments.character_coverage),
            ("num_threads", arguments.threads),
        )
        if value is not None
    }
    with _as_files(arguments.inputs, arguments.text_key) as files:
        try:
            report = train(
                files,
                arguments.output,
                vocab_size=arguments.vocab_size,
                text_key=arguments.text_key,
                **given,
            )
        except ImportError:
            raise CommandError(
                "training needs the packages sentencepiece and protobuf", "pip install 'llamatok[train]'"
            ) from None
        except ValueError as error:
            raise CommandError(str(error)) from None
    if arguments.json:
        print(json.dumps(report, default=str))
    else:
        print("\n".join(settings_table(report)), file=sys.stderr)
    return 0


@contextlib.contextmanager
def _as_files(inputs: Sequence[str], text_key: str | None) -> Iterator[list[str]]:
    """The inputs with standard input copied to a file: training reads its inputs more than once."""
    if inputs and STANDARD_INPUT not in inputs:
        yield list(inputs)
        return
    suffix = ".txt" if text_key is None else ".jsonl"
    with tempfile.TemporaryDirectory(prefix="llamatok-") as folder:
        copy = os.path.join(folder, f"stdin{suffix}")
        with open(copy, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [copy if path == STANDARD_INPUT else path for path in inputs] or [copy]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.0 < share <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and up to 1, got `{text}`")
    return share
