"""`llamatok inspect`: what a model file says, and what becomes of a text."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from llamatok import Tokenizer
from llamatok.cli import options
from llamatok.cli.errors import UsageError
from llamatok.cli.io import open_output

EXAMPLES = """\
  llamatok inspect tokenizer.model
  llamatok inspect --text "Hello  world"
  llamatok inspect tokenizer.model --text - < notes.txt

Without --text: the settings found in the model file, and which engine serves it. With --text: each token's
id, kind and piece, spaces shown as in the vocabulary and characters without a piece as their bytes.
"""

#: Two backgrounds, taken by turns, under black.
COLOURS = ("\x1b[30;48;5;152m", "\x1b[30;48;5;223m")
FAINT = "\x1b[2m"
RESET = "\x1b[0m"


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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.file is not None and arguments.model is not None:
        raise UsageError("the model is named twice", "give either MODEL or --model")
    tokenizer = options.load_model(arguments.file or arguments.model)
    if arguments.text is None:
        settings = tokenizer.settings
        shown = [json.dumps(settings, ensure_ascii=False)] if arguments.json else settings_table(settings)
    else:
        text = sys.stdin.buffer.read() if arguments.text == "-" else os.fsencode(arguments.text)
        ids = tokenizer.encode_batch(
            [text],
            add_bos=arguments.add_bos,
            add_eos=arguments.add_eos,
            parse_special=arguments.parse_special,
        ).ids.tolist()
        if arguments.json:
            # A tokenizer.json lists merges; its pieces have no scores.
            has_scores = tokenizer.settings["format"] != "tokenizer.json"
            tokens = [_token(tokenizer, id, has_scores) for id in ids]
            shown = [json.dumps({"tokens": tokens}, ensure_ascii=False)]
        else:
            shown = list(token_view(tokenizer, ids, len(text), _coloured(arguments.color)))
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


def token_view(tokenizer: Tokenizer, ids: list[int], size: int, coloured: bool) -> Iterator[str]:
    """The text in pieces, a line a token, and the totals."""
    pieces = [printable(tokenizer.id_to_piece(id)) for id in ids]
    faint, reset = (FAINT, RESET) if coloured else ("", "")
    if coloured:
        yield "".join(f"{COLOURS[i % 2]}{piece}{RESET}" for i, piece in enumerate(pieces))
    else:
        yield "|".join(pieces)
    yield ""
    width = max([len(str(id)) for id in ids], default=0)
    kinds = [tokenizer.kind(id).lower() for id in ids]
    kind_width = max([len(kind) for kind in kinds], default=0)
    for i, (id, kind, piece) in enumerate(zip(ids, kinds, pieces, strict=True)):
        shown = f"{COLOURS[i % 2]}{piece}{RESET}" if coloured else piece
        yield f"{id:>{width}}  {faint}{kind:<{kind_width}}{reset}  {shown}"
    if ids:
        yield ""
    yield f"{len(ids)} tokens, {size} bytes"


def printable(text: str) -> str:
    """The text with controls and other invisible characters escaped, which a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
