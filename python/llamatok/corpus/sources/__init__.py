"""Sources: how each kind of input is divided into units of work, and how a unit is read as blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.json as pj

from llamatok.corpus.compression import DECOMPRESSION_ERRORS
from llamatok.corpus.documents import RawBlock, Unit
from llamatok.corpus.errors import CorpusError
from llamatok.corpus.inputs import Input
from llamatok.corpus.settings import Settings
from llamatok.corpus.sources import tables, text
from llamatok.corpus.sources.columns import json_schema
from llamatok.corpus.sources.cut import cut_stream
from llamatok.corpus.sources.jsonl import JsonBlock
from llamatok.corpus.sources.utf8 import valid_utf8

__all__ = ["json_fields", "read_unit", "split_input"]

SAMPLE_BYTES = 1 << 20
SAMPLE_INPUTS = 16


def split_input(number: int, item: Input, settings: Settings, first: int) -> list[Unit]:
    """The units of input `number`, counted from `first`."""
    if item.kind in ("jsonl", "lines"):
        parts = text.byte_ranges(item, settings)
    elif item.kind == "parquet":
        parts = tables.parquet_parts(item, settings)
    elif item.kind == "arrow":
        parts = tables.arrow_parts(item, settings)
    elif item.kind == "dataset":
        parts = tables.dataset_parts(item)
    else:
        parts = [(0, None, item.size or 0)]
    return [Unit(first + i, number, start, stop, stored) for i, (start, stop, stored) in enumerate(parts)]


def read_unit(
    item: Input, unit: Unit, settings: Settings, schema: pa.Schema | None = None
) -> Iterator[RawBlock]:
    """The blocks of a unit, in order. `schema` is what the fields of JSON are read as."""
    if item.kind == "jsonl":
        for block in text.read_blocks(item, unit.start, unit.stop, settings, b"\n", JsonBlock):
            block.schema = schema  # type: ignore[attr-defined]
            yield block
    elif item.kind == "lines":
        yield from text.read_blocks(item, unit.start, unit.stop, settings, b"\n", text.SeparatedBlock)
    elif item.kind == "text" and settings.separator is not None:
        separator = settings.separator.encode()
        yield from text.read_blocks(item, unit.start, unit.stop, settings, separator, text.SeparatedBlock)
    elif item.kind == "text":
        yield from text.read_whole(item, settings)
    elif item.kind == "parquet":
        yield from tables.read_parquet(item, unit.start, unit.stop or 0, settings)
    elif item.kind == "arrow":
        yield from tables.read_arrow(item, unit.start, unit.stop, settings)
    elif item.kind == "csv":
        yield from tables.read_csv(item, settings)
    elif item.kind == "dataset":
        yield from tables.read_dataset(item, unit.start, unit.stop or 0, settings)
    else:
        raise CorpusError(f"`{item.path}`: unknown kind of input: {item.kind}")


def json_fields(inputs: list[Input], settings: Settings) -> pa.Schema | None:
    """What the fields of JSON lines are read as: the text, the id, and the columns to keep.

    Types are those of the first megabyte of up to 16 inputs, spread over all. None where no input is JSON.
    """
    items = [item for item in inputs if item.kind == "jsonl"]
    if not items:
        return None
    if not settings.keeps_columns and settings.id_key is None:
        return json_schema(settings)
    step = -(-len(items) // SAMPLE_INPUTS)
    found = [schema for item in items[::step] if (schema := _sampled_schema(item)) is not None]
    try:
        schema = pa.unify_schemas(found, promote_options="permissive") if found else pa.schema([])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise CorpusError(
            f"the inputs disagree on the type of a field: {error}", "name the columns to keep with --columns"
        ) from None
    id_type = None
    if settings.id_key is not None:
        id_type = _type_at(schema, settings.id_key)
    kept = None
    if settings.keeps_columns:
        names = schema.names if settings.columns is None else list(settings.columns)
        for name in names:
            if name not in schema.names:
                known = ", ".join(f"`{known}`" for known in schema.names)
                raise CorpusError(
                    f"no JSON line of the sample has the field `{name}`", f"its fields are: {known}"
                )
        kept = pa.schema([(name, _as_written(schema.field(name).type)) for name in names])
    return json_schema(settings, kept, id_type)


def _sampled_schema(item: Input) -> pa.Schema | None:
    """The fields of the first lines of an input, those that are JSON objects."""
    stored, stream = item.open_decompressed()
    try:
        content = next(cut_stream(stream, SAMPLE_BYTES, b"\n", item.path), memoryview(b""))
    except DECOMPRESSION_ERRORS:
        return None  # the run itself will meet the damage, and say so
    finally:
        stored.close()
    try:
        if valid_utf8(content):
            return _inferred(bytes(content))
    except pa.ArrowInvalid:
        pass
    sound = [line for line in bytes(content).splitlines() if valid_utf8(line) and _is_object(line)]
    try:
        return _inferred(b"\n".join(sound))
    except pa.ArrowInvalid:
        return None


def _inferred(content: bytes) -> pa.Schema:
    options = pj.ReadOptions(use_threads=False, block_size=len(content) + 1)
    return pj.read_json(pa.BufferReader(content), read_options=options).schema


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _as_written(kind: pa.DataType) -> pa.DataType:
    """The type to read a field as: Arrow infers times from text, but text is to stay as it is written."""
    if pa.types.is_timestamp(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _as_written(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    return kind


def _type_at(schema: pa.Schema, key: str) -> pa.DataType:
    found: Any = None
    if key in schema.names:
        found = schema.field(key).type
    elif key.split(".")[0] in schema.names:
        found = schema.field(key.split(".")[0]).type
        for part in key.split(".")[1:]:
            if not pa.types.is_struct(found) or found.get_field_index(part) < 0:
                return pa.string()
            found = found.field(part).type
    return pa.string() if found is None else _as_written(found)
