"""What `llamatok inspect` writes for people to look at: tokens as a page, side by side, and vocabularies."""

from __future__ import annotations

import argparse
import json
import os
import sys

from llamatok import Tokenizer
from llamatok.cli import options
from llamatok.cli.errors import UsageError
from llamatok.cli.io import open_output
from llamatok.inspect import tokens_html
from llamatok.inspect.tokens import TokenView, legacy_views, side_by_side, token_view

EMBEDDED = "the embedded tokenizer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of these views."""
    parser.add_argument(
        "--html", metavar="FILE", help="write the tokens of --text as a page of its own; `-`: standard output"
    )
    beside = parser.add_mutually_exclusive_group()
    beside.add_argument("--beside", metavar="MODEL2", help="show another model's tokens beside")
    beside.add_argument(
        "--compare-legacy",
        action="store_true",
        help="show the text as Hugging Face's interface encodes it, with legacy=True beside legacy=False",
    )


def asked_for(arguments: argparse.Namespace) -> bool:
    """Whether one of these views is asked for."""
    return bool(arguments.html or arguments.beside or arguments.compare_legacy)


def run(arguments: argparse.Namespace, tokenizer: Tokenizer, coloured: bool) -> int:
    """Writes the view that the arguments ask for."""
    if arguments.text is None:
        raise UsageError("there is no text to show the tokens of", "give --text TEXT, or --text - to read it")
    views = _token_views(arguments, tokenizer)
    if arguments.json:
        dicts = [view.to_dict() for view in views]
        shown = json.dumps(dicts[0] if len(dicts) == 1 else {"views": dicts}, ensure_ascii=False) + "\n"
    elif arguments.html is not None:
        shown = tokens_html.page(views)
    else:
        shown = "\n".join(view.to_text(coloured=coloured) for view in views)
    with open_output(arguments.html) as output:
        output.write(shown.encode())
    return 0


def given_text(arguments: argparse.Namespace) -> bytes:
    """The text of `--text`."""
    return sys.stdin.buffer.read() if arguments.text == "-" else os.fsencode(arguments.text)


def _token_views(arguments: argparse.Namespace, tokenizer: Tokenizer) -> list[TokenView]:
    text = given_text(arguments)
    flags = {name: getattr(arguments, name) for name in ("add_bos", "add_eos", "parse_special")}
    if arguments.compare_legacy:
        if any(flags.values()):
            raise UsageError(
                "--compare-legacy has Hugging Face's rules for special tokens",
                "leave out --add-bos, --add-eos and --parse-special",
            )
        return list(legacy_views(tokenizer, text.decode(errors="replace")))
    names = model_names(arguments)
    view = token_view(tokenizer, text, title=names[0], **flags)
    if not arguments.beside:
        return [view]
    other = token_view(options.load_model(arguments.beside), text, title=names[1], **flags)
    return list(side_by_side(view, other))


def model_names(arguments: argparse.Namespace) -> tuple[str, str]:
    """What to call the model and the one beside: by their files, with folders where the names are equal."""
    paths = [arguments.file or arguments.model or "", arguments.beside or ""]
    short = [os.path.basename(path) or EMBEDDED for path in paths]
    if short[0] == short[1]:
        short = [path or EMBEDDED for path in paths]
    return short[0], short[1]
