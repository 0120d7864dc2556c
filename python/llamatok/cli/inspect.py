"""`llamatok inspect`: what a model file says, and what becomes of a text."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from llamatok import Tokenizer
from llamatok.cli import inspect_views, options
from llamatok.cli.errors import UsageError
from llamatok.cli.io import open_output
from llamatok.inspect.tokens import printable, token_view

EXAMPLES = """\
  llamatok inspect tokenizer.model
  llamatok inspect --text "Hello  world"
  llamatok inspect tokenizer.model --text - < notes.txt
  llamatok inspect --text "Hello  world" --beside tokenizer.model --html tokens.html
  llamatok inspect tokenizer.model --report vocabulary.html

Without --text: the settings found in the model file, and which engine serves it. With --text: each token's
id, kind, piece and range of characters, spaces shown as in the vocabulary and characters without a piece as
their bytes.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = options.add_command(
        commands, "inspect", "Show a model's settings, or the tokens of a text.", EXAMPLES
    )
    parser.add_argument("file", nargs="?", metavar="MODEL", help="the same as --model MODEL")
    options.add_model(parser)
    parser.add_argument("--text", help="the text to show the tokens of; `-`: standard input")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="whether to colour (default: auto, where the terminal allows and NO_COLOR is not set)",
    )
    for name, meaning in (
        ("--add-bos", "put the beginning-of-sequence token in front"),
        ("--add-eos", "put the end-of-sequence token behind"),
        ("--parse-special", "turn the text of control tokens such as <s> into the tokens"),
    ):
        parser.add_argument(name, action="store_true", help=meaning)
    inspect_views.add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.file is not None and arguments.model is not None:
        raise UsageError("the model is named twice", "give either MODEL or --model")
    tokenizer = options.load_model(arguments.file or arguments.model)
    if inspect_views.asked_for(arguments):
        return inspect_views.run(arguments, tokenizer, _coloured(arguments.color))
    if arguments.text is None:
        settings = tokenizer.settings
        shown = [json.dumps(settings, ensure_ascii=False)] if arguments.json else settings_table(settings)
    else:
        view = token_view(
            tokenizer,
            inspect_views.given_text(arguments),
            add_bos=arguments.add_bos,
            add_eos=arguments.add_eos,
            parse_special=arguments.parse_special,
        )
        if arguments.json:
            # A tokenizer.json lists merges; its pieces have no scores.
            has_scores = tokenizer.settings["format"] != "tokenizer.json"
            tokens = [_token(tokenizer, token.id, has_scores) for token in view.tokens]
            shown = [json.dumps({"tokens": tokens}, ensure_ascii=False)]
        else:
            shown = [view.to_text(coloured=_coloured(arguments.color)).removesuffix("\n")]
    with open_output(None) as output:
        output.write("".join(f"{line}\n" for line in shown).encode())
    return 0


def _coloured(choice: str) -> bool:
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def settings_table(settings: Mapping[str, object]) -> list[str]:
    """Settings as aligned lines; what is nested is indented under its name."""
    rows = list(_rows(settings, ""))
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{name:<{width}}  {value}".rstrip() for name, value in rows]


def _rows(settings: Mapping[str, object], indent: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            if value:
                yield indent + name, ""
                yield from _rows(value, indent + "  ")
        else:
            yield indent + name, _shown_value(value)


def _shown_value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return (
            json.dumps(value, ensure_ascii=False) if value != value.strip() or not value else printable(value)
        )
    return str(value)


def _token(tokenizer: Tokenizer, id: int, has_scores: bool) -> dict[str, Any]:
    return {
        "id": id,
        "piece": tokenizer.id_to_piece(id),
        "kind": tokenizer.kind(id),
        "score": tokenizer.score(id) if has_scores else None,
    }
