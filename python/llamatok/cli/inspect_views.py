"""What `llamatok inspect` writes for people to look at: tokens as a page, side by side, and vocabularies."""

from __future__ import annotations

import argparse
import json
import os
import sys

from llamatok import Tokenizer
from llamatok.cli import options
from llamatok.cli.errors import UsageError
from llamatok.cli.io import Inputs, open_output
from llamatok.inspect import tokens_html
from llamatok.inspect.tokens import TokenView, legacy_views, side_by_side, token_view
from llamatok.inspect.vocabulary import compare, vocabulary_report

EMBEDDED = "the embedded tokenizer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of these views."""
    parser.add_argument(
        "--html", metavar="FILE", help="write the tokens of --text as a page of its own; `-`: standard output"
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write what is in the vocabulary as a page (with --json as JSON); `-`: standard output",
    )
    parser.add_argument(
        "--measure",
        nargs="+",
        metavar="TEXTFILE",
        help="files to measure bytes per token over, for --report (default: sentences in several languages)",
    )
    beside = parser.add_mutually_exclusive_group()
    beside.add_argument(
        "--beside", metavar="MODEL2", help="show another model's tokens, or its vocabulary, beside"
    )
    beside.add_argument(
        "--compare-legacy",
        action="store_true",
        help="show the text as Hugging Face's interface encodes it, with legacy=True beside legacy=False",
    )


def asked_for(arguments: argparse.Namespace) -> bool:
    """Whether one of these views is asked for."""
    names = ("html", "report", "measure", "beside")
    return arguments.compare_legacy or any(getattr(arguments, name) is not None for name in names)


def run(arguments: argparse.Namespace, tokenizer: Tokenizer, coloured: bool) -> int:
    """Writes the view that the arguments ask for."""
    if arguments.report is not None:
        return _run_report(arguments, tokenizer)
    if arguments.measure is not None:
        raise UsageError("--measure is for --report", "give --report FILE")
    if arguments.text is None:
        raise UsageError("there is no text to show the tokens of", "give --text TEXT, or --text - to read it")
    if arguments.html is not None and arguments.json:
        raise UsageError("--html writes a page, and --json writes JSON", "give one of them")
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
        if tokenizer.settings["format"] == "tokenizer.json":
            raise UsageError(
                "a tokenizer.json settles by itself what legacy=True and legacy=False would",
                "name a tokenizer.model or a GGUF file, or show two tokenizer.json files by --beside",
            )
        return list(legacy_views(tokenizer, text))
    names = model_names(arguments)
    view = token_view(tokenizer, text, title=names[0], **flags)
    if arguments.beside is None:
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


def _run_report(arguments: argparse.Namespace, tokenizer: Tokenizer) -> int:
    for name in ("text", "html"):
        if getattr(arguments, name) is not None:
            raise UsageError(
                f"--report is of a vocabulary, and --{name} of a text",
                "write them one after the other; --measure names files to measure the vocabulary over",
            )
    if arguments.compare_legacy:
        raise UsageError("--compare-legacy is of a text: a vocabulary has nothing of it")
    texts = None
    if arguments.measure is not None:
        texts = {name: content.read() for name, content in Inputs(arguments.measure).open_each()}
    models = [tokenizer] if arguments.beside is None else [tokenizer, options.load_model(arguments.beside)]
    reports = [
        vocabulary_report(model, texts, name=name)
        for model, name in zip(models, model_names(arguments), strict=False)
    ]
    beside = reports[1] if len(reports) > 1 else None
    if arguments.json:
        found = reports[0].to_dict()
        if beside is not None:
            compared = compare(reports[0], beside)
            found = {"reports": [found, beside.to_dict()], "common": compared.common} | {
                name: [{"id": id, "piece": report.pieces[id].piece} for id in ids]
                for name, report, ids in (
                    ("only_in_first", reports[0], compared.only_left),
                    ("only_in_second", beside, compared.only_right),
                )
            }
        shown = json.dumps(found, ensure_ascii=False) + "\n"
    else:
        shown = reports[0].to_html(beside)
    with open_output(arguments.report) as output:
        output.write(shown.encode())
    return 0
