"""Finding the text, the id and the other columns of a table, nested keys included."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llamatok.corpus.errors import CorpusError
from llamatok.corpus.settings import Settings

__all__ = ["as_id_strings", "json_schema", "missing_column", "text_column", "without_text"]


def json_schema(
    settings: Settings, kept: pa.Schema | None = None, id_type: pa.DataType | None = None
) -> pa.Schema:
    """The fields to read of a JSON object, and their types.

    A key with dots may be the name of a field, or a path into objects: both are read, and the name has
    precedence, as in the other commands.
    """
    fields: dict[str, pa.DataType] = {} if kept is None else {field.name: field.type for field in kept}
    _add_path(fields, settings.text_key, pa.string())
    if settings.id_key is not None:
        _add_path(fields, settings.id_key, id_type or pa.string())
    return pa.schema(list(fields.items()))


def _add_path(fields: dict[str, pa.DataType], key: str, kind: pa.DataType) -> None:
    parts = key.split(".")
    if len(parts) == 1 or key not in fields:
        fields[key] = kind
    if len(parts) > 1:
        known = fields.get(parts[0])
        nested = (
            {field.name: field.type for field in known}
            if known is not None and pa.types.is_struct(known)
            else {}
        )
        _add_nested(nested, parts[1:], kind)
        fields[parts[0]] = pa.struct(list(nested.items()))


def _add_nested(fields: dict[str, pa.DataType], parts: list[str], kind: pa.DataType) -> None:
    if len(parts) == 1:
        fields[parts[0]] = kind
        return
    known = fields.get(parts[0])
    nested = (
        {field.name: field.type for field in known} if known is not None and pa.types.is_struct(known) else {}
    )
    _add_nested(nested, parts[1:], kind)
    fields[parts[0]] = pa.struct(list(nested.items()))


def text_column(table: Any, key: str) -> Any:
    """The column `key` of a table or record batch, or the field that its path leads to. Raises `KeyError`."""
    named = table.column(key) if key in table.schema.names else None
    path = key.split(".")
    nested = None
    if len(path) > 1 and path[0] in table.schema.names:
        column = table.column(path[0])
        try:
            nested = pc.struct_field(column, path[1:])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, NotImplementedError, pa.ArrowTypeError):
            nested = None
    if named is None and nested is None:
        raise KeyError(key)
    if named is None:
        return nested
    if nested is None or named.type != nested.type:
        return named
    return pc.coalesce(named, nested)


def as_id_strings(column: Any) -> Any:
    """Ids as strings: text, numbers, times. Raises `CorpusError` where they are of another kind."""
    if pa.types.is_large_string(column.type):
        return column
    try:
        return column.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CorpusError(
            f"ids of the type {column.type} cannot be read as text: {str(error).splitlines()[0]}",
            "name another column with --id-key",
        ) from None


def without_text(table: Any, settings: Settings) -> pa.Table:
    """The columns to keep: those that were named, or all but the text."""
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    if settings.columns is not None:
        return table.select(list(settings.columns))
    dropped = {settings.text_key}
    if settings.id_key is not None and "." in settings.id_key:
        dropped.add(settings.id_key)  # in the schema only so that a field of that name is found
    return table.select([name for name in table.schema.names if name not in dropped])


def missing_column(path: str, key: str, names: list[str]) -> CorpusError:
    """The error of an input that has no column `key`."""
    shown = ", ".join(f"`{name}`" for name in names)
    return CorpusError(
        f"`{path}` has no column `{key}`", f"its columns are: {shown}; name the text with --text-key"
    )
