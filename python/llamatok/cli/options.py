"""The options that several commands share."""

from __future__ import annotations

import argparse
import os
from typing import TypedDict

from llamatok import Tokenizer
from llamatok.cli.io import DocumentFormat


class EncodeOptions(TypedDict):
    """The keyword arguments that `Tokenizer.encode_batch` and `Tokenizer.count` share."""

    add_bos: bool
    add_eos: bool
    parse_special: bool
    num_threads: int | None


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, examples: str
) -> argparse.ArgumentParser:
    """A parser for a command; `summary` is its help, `examples` follow its options."""
    return commands.add_parser(
        name,
        help=summary[0].lower() + summary[1:].partition(".")[0],
        description=summary,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model`."""
    parser.add_argument(
        "--model",
        metavar="FILE",
        help="a tokenizer.model, tokenizer.json or GGUF file (default: the embedded tokenizer)",
    )


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """`FILE ...`."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="FILE",
        help="files to read, .gz and .zst too; none, or `-`: standard input",
    )


def add_document_format(parser: argparse.ArgumentParser, whole: str, lines: str, jsonl: str) -> None:
    """`--lines`, `--jsonl` and `--text-key`, with a command's own words for them."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--lines", action="store_true", help=f"{lines} (default: {whole})")
    group.add_argument("--jsonl", action="store_true", help=f"{jsonl}, under the key `text`")
    group.add_argument(
        "--text-key", metavar="KEY", help="as --jsonl, under this key; a.b is the key b of the object a"
    )


def document_format(arguments: argparse.Namespace) -> DocumentFormat:
    """What `add_document_format` was given."""
    if arguments.text_key is not None:
        return DocumentFormat(text_key=arguments.text_key)
    return DocumentFormat(lines=arguments.lines, text_key="text" if arguments.jsonl else None)


def add_encoding(parser: argparse.ArgumentParser) -> None:
    """`--add-bos`, `--add-eos`, `--parse-special` and `--threads`."""
    parser.add_argument("--add-bos", action="store_true", help="put the beginning-of-sequence token in front")
    parser.add_argument("--add-eos", action="store_true", help="put the end-of-sequence token behind")
    parser.add_argument(
        "--parse-special",
        action="store_true",
        help="turn the text of control tokens such as <s> into the tokens (default: it is mere text)",
    )
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """`--threads`."""
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="the number of threads (default: one a core)"
    )


def encode_options(arguments: argparse.Namespace) -> EncodeOptions:
    """What `add_encoding` was given."""
    return {
        "add_bos": arguments.add_bos,
        "add_eos": arguments.add_eos,
        "parse_special": arguments.parse_special,
        "num_threads": arguments.threads,
    }


def add_output(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """`--output`."""
    default = "" if required else " (default: standard output)"
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=required,
        help=f"where to write; a file appears only when it is complete{default}",
    )


def positive(text: str) -> int:
    """An argument that is a whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got `{text}`")
    return number


def load_model(path: str | os.PathLike[str] | None) -> Tokenizer:
    """The tokenizer that `--model` names."""
    return Tokenizer.default() if path is None else Tokenizer.from_file(path)
