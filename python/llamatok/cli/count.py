"""`llamatok count`: how many tokens texts have."""

from __future__ import annotations

import argparse
import json

from llamatok.cli import options
from llamatok.cli.io import Batch, Inputs, open_output, place
from llamatok.cli.progress import Progress, to_terminal

EXAMPLES = """\
  llamatok count book.txt
  llamatok count --text-key text corpus.jsonl.zst
  llamatok count --per-document src/*.py

Prints the documents, bytes and tokens in total; with --per-document a line a document instead: tokens, bytes
and the document's place, separated by tabs. Bytes are those of the texts, after decompression.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = options.add_command(commands, "count", "Count the tokens of text.", EXAMPLES)
    options.add_inputs(parser)
    options.add_model(parser)
    options.add_document_format(
        parser,
        whole="each input is one document",
        lines="each line is a document",
        jsonl="each line is a JSON object that holds a document",
    )
    parser.add_argument("--per-document", action="store_true", help="a line a document instead of totals")
    parser.add_argument("--json", action="store_true", help="write JSON")
    options.add_encoding(parser)
    options.add_output(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    tokenizer = options.load_model(arguments.model)
    form = options.document_format(arguments)
    how = options.encode_options(arguments)
    inputs = Inputs(arguments.inputs)
    total = 0
    with (
        Progress(inputs, arguments.per_document and to_terminal(arguments.output)) as progress,
        open_output(arguments.output) as output,
    ):
        for batch in inputs.batches(form):
            counts = tokenizer.count(batch.texts, **how)
            total += int(counts.sum())
            if arguments.per_document:
                output.write("".join(_lines(batch, counts.tolist(), arguments.json)).encode())
                if inputs.interactive:
                    output.flush()
            progress.add(len(batch), batch.size)
        if not arguments.per_document:
            output.write(_totals(progress.documents, progress.size, total, arguments.json).encode())
    return 0


def _lines(batch: Batch, counts: list[int], as_json: bool) -> list[str]:
    documents = zip(batch.places, batch.texts, counts, strict=True)
    if as_json:
        return [
            json.dumps({"document": place(*where), "bytes": len(text), "tokens": count}) + "\n"
            for where, text, count in documents
        ]
    return [f"{count}\t{len(text)}\t{place(*where)}\n" for where, text, count in documents]


def _totals(documents: int, size: int, tokens: int, as_json: bool) -> str:
    if as_json:
        return json.dumps({"documents": documents, "bytes": size, "tokens": tokens}) + "\n"
    numbers = [("documents", str(documents)), ("bytes", str(size)), ("tokens", str(tokens))]
    if tokens:
        numbers.append(("bytes per token", f"{size / tokens:.2f}"))
    width = max(len(value) for _, value in numbers)
    return "".join(f"{name:<15}  {value:>{width}}\n" for name, value in numbers)
