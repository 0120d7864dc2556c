"""The command line: `llamatok COMMAND ...`, one module a command.

A command module has `add_parser(commands)`, which declares its arguments, and `run(arguments)`, which does
the work and returns the exit status: 0 done, 1 the input was bad, 2 the call was wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import llamatok
from llamatok.cli import chat, convert, corpus, count, decode, encode, generate, inspect, train
from llamatok.cli.errors import CommandError

__all__ = ["main"]

# What a shell reports for a process that was ended by these signals.
STATUS_INTERRUPTED = 128 + 2
STATUS_BROKEN_PIPE = 128 + 13

EPILOG = """\
examples:
  echo "Hello world" | llamatok encode
  llamatok count --text-key text corpus.jsonl.zst
  llamatok inspect tokenizer.model

`llamatok COMMAND --help` tells about a command.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="llamatok",
        description="Exact, fast tokenization for the Llama family.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"llamatok {llamatok.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for module in (encode, decode, count, inspect, corpus, train, convert, generate, chat):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return 2
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except CommandError as error:
        return _fail(str(error), *error.hints, status=error.status)
    except llamatok.TokenizerError as error:
        return _fail(str(error))
    except UnicodeEncodeError as error:
        # Python keeps bytes of the command line that are not UTF-8 as halves of surrogate pairs.
        return _fail(f"the text {error.object[:40]!a} is not UTF-8", status=2)
    except BrokenPipeError:
        # The reader has gone, as `head` does. Python flushes standard output once more at its exit:
        # give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STATUS_BROKEN_PIPE
    except OSError as error:
        name = f"`{error.filename}`: " if error.filename is not None else ""
        return _fail(f"{name}{error.strerror or error}")
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED


def _fail(message: str, *hints: str, status: int = 1) -> int:
    lines = [f"llamatok: error: {message}", *(f"hint: {hint}" for hint in hints)]
    print("\n".join(lines), file=sys.stderr)
    return status
