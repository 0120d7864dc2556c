"""`llamatok decode`: ids to text."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from llamatok import Tokenizer
from llamatok.cli import options
from llamatok.cli.encode import FORMATS
from llamatok.cli.errors import InputError
from llamatok.cli.io import Inputs, open_output, parse_json, place
from llamatok.cli.pieces import shown_pieces
from llamatok.cli.progress import Progress, to_terminal

EXAMPLES = """\
  echo "Hello world" | llamatok encode | llamatok decode
  llamatok decode --format json --jsonl -o texts.jsonl ids.jsonl.gz
  llamatok decode --format u16 corpus.bin | less

The formats are those of `llamatok encode`; raw numbers (u16, u32) are one document. Texts are written back
to back, unless --lines, --jsonl or --text-key says otherwise: with the options it was encoded with, a text
comes back as it was.
"""

#: At most this much of a document is looked at in one go.
CHUNK_BYTES = 4 << 20

Ids = npt.NDArray[np.uint32]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = options.add_command(commands, "decode", "Turn token ids into text.", EXAMPLES)
    options.add_inputs(parser)
    options.add_model(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--format", choices=FORMATS, default="ids", help="how ids are written (default: ids)")
    form.add_argument("--pieces", action="store_const", const="pieces", dest="format", help="--format pieces")
    options.add_document_format(
        parser,
        whole="write texts back to back",
        lines="end each text with a line break",
        jsonl="write each text as a JSON object",
    )
    parser.add_argument(
        "--skip-special-tokens", action="store_true", help="leave out control and unknown tokens first"
    )
    options.add_output(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    tokenizer = options.load_model(arguments.model)
    read = _Reader(tokenizer, arguments.format)
    form = options.document_format(arguments)
    decoder = tokenizer.stream_decoder(skip_special_tokens=arguments.skip_special_tokens)
    inputs = Inputs(arguments.inputs)
    with (
        Progress(inputs, to_terminal(arguments.output)) as progress,
        open_output(arguments.output) as output,
    ):
        parts: list[str] = []
        last = b""
        for ids, ends in read.chunks(inputs):
            text = decoder.push(ids)
            if ends:
                text += decoder.finish()
            if form.text_key is not None:
                parts.append(text)
                text = ""
                if ends:
                    text = _json_line(form.text_key, "".join(parts))
                    parts.clear()
            elif form.lines and ends:
                text += "\n"
            data = text.encode()
            output.write(data)
            last = data or last
            if inputs.interactive:
                output.flush()
            progress.add(int(ends), len(data))
        if to_terminal(arguments.output) and not last.endswith(b"\n"):
            output.write(b"\n")  # for the prompt of the shell
    return 0


def _json_line(key: str, text: str) -> str:
    record: object = text
    for part in reversed(key.split(".")):
        record = {part: record}
    return json.dumps(record, ensure_ascii=False) + "\n"


class _Reader:
    """Reads ids in one of the formats of `llamatok encode`."""

    def __init__(self, tokenizer: Tokenizer, form: str) -> None:
        self._vocab_size = tokenizer.vocab_size
        self._form = form
        self._pieces: dict[bytes, int] = {}
        if form == "pieces":
            self._pieces = {piece.encode(): id for id, piece in enumerate(shown_pieces(tokenizer))}

    def chunks(self, inputs: Inputs) -> Iterator[tuple[Ids, bool]]:
        """Ids, and whether a document ends with them."""
        for name, content in inputs.open_each():
            if self._form == "json":
                yield from self._json(name, content)
            elif self._form in ("u16", "u32"):
                yield from self._numbers(name, content)
            else:
                yield from self._words(name, content)

    def _numbers(self, name: str, content: BinaryIO) -> Iterator[tuple[Ids, bool]]:
        width = 2 if self._form == "u16" else 4
        seen = 0
        rest = b""
        while data := content.read(CHUNK_BYTES):
            data = rest + data
            whole = len(data) - len(data) % width
            rest = data[whole:]
            numbers = np.frombuffer(data[:whole], dtype=f"<u{width}")
            yield self._checked(numbers, name, seen), False
            seen += len(numbers)
        if rest:
            size = seen * width + len(rest)
            raise InputError(f"{name}: {size} bytes are no whole number of {self._form} ids")
        yield np.empty(0, dtype=np.uint32), True

    def _words(self, name: str, content: BinaryIO) -> Iterator[tuple[Ids, bool]]:
        number = 1
        seen = 0
        rest = b""
        while line := content.readline(CHUNK_BYTES):
            ends = line.endswith(b"\n")
            line = rest + line
            rest = b""
            if not ends:
                cut = line.rfind(b" ") + 1
                line, rest = line[:cut], line[cut:]
            where = place(name, number)
            numbers = self._numbers_of(line.split(), where, seen)
            yield self._checked(numbers, where, seen), ends
            seen = 0 if ends else seen + len(numbers)
            number += ends
        if rest or seen:  # a last line without a line break
            where = place(name, number)
            yield self._checked(self._numbers_of(rest.split(), where, seen), where, seen), True

    def _numbers_of(self, words: list[bytes], where: str, seen: int) -> npt.NDArray[np.int64]:
        try:
            if self._pieces:
                return np.array([self._pieces[word] for word in words], dtype=np.int64)
            return np.array(list(map(int, words)), dtype=np.int64)
        except KeyError as error:
            word: bytes = error.args[0]
            shown = word.decode(errors="replace")
            raise InputError(
                f"{where}: `{shown}` at index {seen + words.index(word)} is no piece of the vocabulary"
            ) from None
        except (ValueError, OverflowError):
            index, word = next((i, word) for i, word in enumerate(words) if not _is_id(word))
            shown = word.decode(errors="replace")[:40]
            raise InputError(
                f"{where}: `{shown}` at index {seen + index} is no token id",
                "--format names the format of the input: " + ", ".join(FORMATS),
            ) from None

    def _json(self, name: str, content: BinaryIO) -> Iterator[tuple[Ids, bool]]:
        for number, line in enumerate(content, 1):
            if not line.strip():
                continue
            where = place(name, number)
            value = parse_json(line, where)
            ids = value.get("ids") if isinstance(value, dict) else value
            try:
                numbers = np.array(ids, dtype=np.int64 if ids == [] else None)
            except ValueError:  # lists of different lengths
                numbers = np.empty((0, 0))
            if not isinstance(ids, list) or numbers.ndim != 1 or numbers.dtype.kind not in "iu":
                raise InputError(f'{where}: neither a list of ids nor an object like {{"ids": [1, 2]}}')
            yield self._checked(numbers, where, 0), True

    def _checked(self, numbers: npt.NDArray[np.integer[Any]], where: str, seen: int) -> Ids:
        """The numbers as ids; `seen` ids of the document came before them."""
        outside = (numbers < 0) | (numbers >= self._vocab_size)
        if outside.any():
            index = int(outside.argmax())
            raise InputError(
                f"{where}: id {numbers[index]} at index {seen + index} is out of range:"
                f" the vocabulary has {self._vocab_size} pieces"
            )
        return numbers.astype(np.uint32)


def _is_id(word: bytes) -> bool:
    return word.isdigit() and len(word) < 19
