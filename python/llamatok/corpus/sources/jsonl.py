"""JSON lines, by Arrow's block reader, which takes only the fields that are wanted.

Arrow refuses a block for one bad line. Such a block is halved until the bad lines stand alone; the lines that
are accepted are those that Arrow accepts alone, so what is accepted depends on nothing but the line.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from llamatok.corpus.documents import Parsed, Reject, excerpt, signature_of
from llamatok.corpus.settings import Settings
from llamatok.corpus.sources.columns import as_id_strings, json_schema, text_column, without_text
from llamatok.corpus.sources.utf8 import first_fault, valid_utf8

__all__ = ["JsonBlock"]

LINE_BREAK, CARRIAGE_RETURN, OPENING, CLOSING = b"\n\r{}"
BLANK = b" \t\r\n"


@dataclass
class JsonBlock:
    """Lines of JSON."""

    content: memoryview
    separator: bytes
    stored: int
    #: What to read the fields as; set by the reader, which knows the input.
    schema: pa.Schema | None = None

    def __post_init__(self) -> None:
        self.size = len(self.content)
        self.signature = signature_of(self.content)

    def parse(self, settings: Settings) -> Parsed:
        """The documents of the block."""
        data = np.frombuffer(self.content, np.uint8)
        is_break = data == LINE_BREAK
        lines = int(np.count_nonzero(is_break)) + int(len(data) > 0 and data[-1] != LINE_BREAK)
        schema = self.schema or json_schema(settings)
        places = _Lines(self.content, data, is_break)
        table, places, rejects, dropped = _Careful(places, schema, settings).read()
        texts = text_column(table, settings.text_key)
        parsed = Parsed(texts, lines=lines, rejects=rejects, dropped_fields=dropped)
        if settings.id_key is not None:
            parsed.ids = as_id_strings(text_column(table, settings.id_key))
        if settings.keeps_columns:
            parsed.columns = without_text(table, settings)
        if texts.null_count:
            self._reject_nulls(parsed, places, settings)
        return parsed

    def _reject_nulls(self, parsed: Parsed, places: _Lines, settings: Settings) -> None:
        """Takes out the documents without a text."""
        present = pc.is_valid(parsed.texts)
        for row in np.flatnonzero(~present.to_numpy()).tolist():
            line = places.line(row)
            reason = _missing(line, settings.text_key)
            parsed.rejects.append(Reject(int(places.numbers[row]), reason, excerpt(line)))
        parsed.texts = parsed.texts.filter(present)
        parsed.ids = None if parsed.ids is None else parsed.ids.filter(present)
        parsed.columns = None if parsed.columns is None else parsed.columns.filter(present)


class _Lines:
    """Where the lines of a block are, empty ones left out."""

    def __init__(
        self, content: memoryview, data: npt.NDArray[np.uint8], is_break: npt.NDArray[np.bool_]
    ) -> None:
        breaks = np.flatnonzero(is_break)
        starts = np.concatenate(([0], breaks + 1))
        ends = np.concatenate((breaks, [len(data)]))
        # A carriage return belongs to the break.
        last = data[np.maximum(ends - 1, 0)] if len(data) else np.zeros(1, np.uint8)
        ends = ends - ((last == CARRIAGE_RETURN) & (ends > starts))
        numbers = np.flatnonzero(ends > starts)
        self.content = content
        self.starts = starts[numbers]
        self.ends = ends[numbers]
        self.numbers = numbers
        self.braced = (data[self.starts] == OPENING) & (data[self.ends - 1] == CLOSING)
        for index in np.flatnonzero(~self.braced).tolist():
            self._strip(index)

    def _strip(self, index: int) -> None:
        """Takes white space, and a byte-order mark at the beginning of the block, off a line."""
        line = self.line(index)
        start = len(line) - len(line.removeprefix(codecs.BOM_UTF8).lstrip(BLANK))
        stripped = line[start:].rstrip(BLANK)
        self.starts[index] += start
        self.ends[index] = self.starts[index] + len(stripped)
        self.braced[index] = stripped.startswith(b"{") and stripped.endswith(b"}")

    def are_braced(self, low: int, high: int) -> bool:
        """Whether each of the lines begins with `{` and ends with `}`.

        Only such lines go to Arrow, which does not ask that values be apart by line breaks, and which ends
        the process where the first value is a bare `null` (apache/arrow issue 47409). In such lines, no value
        goes over a break: inside a value, a `}` is never followed by a `{`, and a string has no raw line
        break. So each line holds one whole value or more; and if there are as many rows as lines, then one.
        """
        return bool(self.braced[low:high].all())

    def __len__(self) -> int:
        return len(self.numbers)

    def line(self, index: int) -> bytes:
        """The bytes of a line, without its break."""
        return bytes(self.content[self.starts[index] : self.ends[index]])

    def between(self, low: int, high: int) -> memoryview:
        """The bytes of lines `low` to `high`."""
        return self.content[self.starts[low] : self.ends[high - 1]]

    def only(self, indices: npt.NDArray[np.int64]) -> _Lines:
        """These lines alone."""
        some = object.__new__(_Lines)
        some.content = self.content
        some.starts, some.ends = self.starts[indices], self.ends[indices]
        some.numbers, some.braced = self.numbers[indices], self.braced[indices]
        return some


def _unexpected(settings: Settings) -> str:
    """What a field outside the schema means: nothing, unless all fields are to be kept."""
    return "error" if settings.keeps_columns and settings.columns is None else "ignore"


def _read(content: memoryview | bytes, schema: pa.Schema, unexpected: str) -> pa.Table | None:
    """The rows of `content`, or None where Arrow refuses it."""
    try:
        table = pj.read_json(
            pa.BufferReader(content),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(content) + 1),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
        ).select(schema.names)
        # Lists with nulls in them have come out broken (apache/arrow issue 51305).
        table.validate()
        return table
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None


class _Careful:
    """Reads lines by halving what Arrow refuses."""

    def __init__(self, places: _Lines, schema: pa.Schema, settings: Settings) -> None:
        self.places = places
        self.schema = schema
        self.settings = settings
        self.tables: list[pa.Table] = []
        self.accepted: list[range] = []
        self.rejects: list[Reject] = []
        self.dropped = 0

    def read(self) -> tuple[pa.Table, _Lines, list[Reject], int]:
        """The rows, the lines they come from, the rejects, and how many lines lost a field."""
        # Depth first and from left to right, so that rows stay in order. Mostly, the first try is the last.
        stack = [(0, len(self.places))] if len(self.places) else []
        while stack:
            low, high = stack.pop()
            if high - low == 1:
                self._line(low)
                continue
            table = self._read(self.places.between(low, high)) if self.places.are_braced(low, high) else None
            if table is not None and table.num_rows == high - low:
                self._accept(table, range(low, high))
                continue
            middle = (low + high) // 2
            stack += [(middle, high), (low, middle)]
        table = pa.concat_tables(self.tables) if self.tables else self.schema.empty_table()
        rows = np.concatenate([np.arange(r.start, r.stop) for r in self.accepted] or [np.zeros(0, np.int64)])
        return table, self.places.only(rows), self.rejects, self.dropped

    def _read(self, content: memoryview) -> pa.Table | None:
        return _read(content, self.schema, _unexpected(self.settings)) if valid_utf8(content) else None

    def _line(self, index: int) -> None:
        line = self.places.line(index)
        if not line:
            return
        fault = first_fault(line)
        if fault is not None and self.settings.invalid_utf8 == "replace":
            line, fault = line.decode("utf-8", "replace").encode(), None
        if fault is None:
            braced = self.places.are_braced(index, index + 1)
            table = _read(line, self.schema, _unexpected(self.settings)) if braced else None
            if table is None and braced:
                table = _read(line, self.schema, "ignore")
                self.dropped += table is not None
            if table is not None and table.num_rows == 1:
                self._accept(table, range(index, index + 1))
                return
            fault = _fault(line, self.schema, table)
        self.rejects.append(Reject(int(self.places.numbers[index]), fault, excerpt(line)))

    def _accept(self, table: pa.Table, rows: range) -> None:
        self.tables.append(table)
        self.accepted.append(rows)


def _fault(line: bytes, schema: pa.Schema, table: pa.Table | None) -> str:
    """Why Arrow does not take `line` for one document."""
    if table is not None:
        return "not one JSON object, but several"
    try:
        value = json.loads(line.decode("utf-8-sig").strip())
    except json.JSONDecodeError as error:
        return f"not valid JSON: {error.msg} at column {error.colno}"
    except RecursionError:
        return "not valid JSON: nested too deeply"
    except ValueError as error:
        return f"not valid JSON: {error}"
    if not isinstance(value, dict):
        return f"not a JSON object but {_json_type(value)}"
    try:
        pj.read_json(
            pa.BufferReader(line),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(line) + 1),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        return _plain(str(error))
    return "not valid JSON"


def _plain(message: str) -> str:
    """Arrow's message in the words of the other ones."""
    message = message.removeprefix("JSON parse error: ")
    message = message.partition(" in row ")[0].rstrip(".")
    if message.startswith("Column(/") and " changed from " in message:
        name, _, types = message.removeprefix("Column(/").partition(") changed from ")
        wanted, _, found = types.partition(" to ")
        return f"`{name.replace('/', '.')}` is not a {wanted} but a {found}"
    if message.startswith("Column(/") and message.endswith(" was specified twice"):
        return f"`{message.removeprefix('Column(/').partition(')')[0].replace('/', '.')}` stands there twice"
    if "surrogate" in message:
        return "a string has a lone surrogate"
    return message[:1].lower() + message[1:]


def _missing(line: bytes, key: str) -> str:
    """Why there is no text: no such key, or null."""
    try:
        value = json.loads(line.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return f"no key `{key}`"
    if isinstance(value, dict) and key not in value:
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                return f"no key `{key}`"
            value = value[part]
    return f"`{key}` is null"


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", list: "an array", str: "a string"}
    return names[type(value)]
