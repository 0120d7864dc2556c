"""Inputs that are tables: Parquet, Arrow (Feather), CSV and Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from llamatok.corpus.compression import DECOMPRESSION_ERRORS
from llamatok.corpus.documents import Parsed, RawBlock, Reject, excerpt
from llamatok.corpus.errors import CorpusError, DamagedInputError
from llamatok.corpus.inputs import Input
from llamatok.corpus.settings import Settings
from llamatok.corpus.sources.columns import as_id_strings, missing_column, text_column, without_text
from llamatok.corpus.sources.text import read_error
from llamatok.corpus.sources.utf8 import checked_texts

__all__ = [
    "arrow_parts", "dataset_parts", "parquet_parts", "read_arrow", "read_csv", "read_dataset", "read_parquet",
]  # fmt: skip

Part = tuple[int, int | None, int]

#: What Arrow raises where a file is not as it should be, or has what Arrow cannot read.
_ARROW_ERRORS = (pa.lib.ArrowException, OSError)

#: Types of values whose lengths are known without going through them.
_BINARY = ("string", "large_string", "binary", "large_binary")

DATASET_UNIT_ROWS = 1 << 14
DATASET_READ_ROWS = 1 << 10


@dataclass
class TableBlock:
    """Rows of a table."""

    table: Any
    path: str
    text_key: str
    stored: int
    #: Rows that the reader itself found to be bad.
    rejects: list[Reject] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.size = self.table.nbytes
        # The sizes of two contents rarely agree to the byte.
        self.signature = (self.table.num_rows << 40) ^ self.size

    def parse(self, settings: Settings) -> Parsed:
        """The documents of the block."""
        rows = self.table.num_rows
        texts = as_texts(self.table, settings.text_key, self.path)
        parsed = Parsed(texts, lines=rows, rejects=list(self.rejects))
        if settings.id_key is not None:
            try:
                parsed.ids = as_id_strings(text_column(self.table, settings.id_key))
            except KeyError:
                raise missing_column(self.path, settings.id_key, self.table.schema.names) from None
        if settings.keeps_columns:
            parsed.columns = without_text(self.table, settings)
        numbers = np.arange(rows)
        if texts.null_count:
            present = pc.is_valid(texts)
            mask = (
                present.to_numpy(zero_copy_only=False)
                if isinstance(present, pa.Array)
                else present.to_numpy()
            )
            parsed.rejects += [
                Reject(row, f"`{settings.text_key}` is null") for row in np.flatnonzero(~mask).tolist()
            ]
            numbers = numbers[mask]
            parsed.texts = texts.filter(present)
            parsed.ids = None if parsed.ids is None else parsed.ids.filter(present)
            parsed.columns = None if parsed.columns is None else parsed.columns.filter(present)
        return checked_texts(parsed, numbers, settings.invalid_utf8)


def as_texts(table: Any, key: str, path: str) -> Any:
    """The text column as Arrow strings; their UTF-8 is not checked. Raises `CorpusError`."""
    try:
        column = text_column(table, key)
    except KeyError:
        raise missing_column(path, key, table.schema.names) from None
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        text = pa.large_string() if pa.types.is_large_binary(kind) else pa.string()
        if isinstance(column, pa.ChunkedArray):
            return pa.chunked_array([chunk.view(text) for chunk in column.chunks], text)
        return column.view(text)
    if str(kind) == "string_view":
        return column.cast(pa.large_string())
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    raise CorpusError(
        f"`{path}`: the column `{key}` holds {kind}, not text", "name another one with --text-key"
    )


def _lengths(table: Any, key: str, path: str) -> Any:
    """The bytes of each row's text, as a NumPy array. Raises `CorpusError`."""
    try:
        texts = text_column(table, key)
    except KeyError:
        raise missing_column(path, key, table.schema.names) from None
    if not pa.types.is_dictionary(texts.type) or str(texts.type.value_type) not in _BINARY:
        texts = as_texts(table, key, path)
        lengths = [pc.binary_length(texts)]
    else:
        # Without the texts: one of the dictionary may stand in any number of rows.
        chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
        lengths = [pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in chunks]
    filled = [pc.fill_null(length, 0) for length in lengths]
    return np.concatenate([np.asarray(length) for length in filled] or [np.zeros(0, np.int64)])


def _sliced(table: Any, settings: Settings, path: str) -> Iterator[tuple[Any, bool]]:
    """Parts of `table` with about a block of text each, and whether each is the last."""
    ends = np.cumsum(_lengths(table, settings.text_key, path), dtype=np.int64)
    rows = len(ends)
    start = 0
    while start < rows:
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + settings.block_bytes, "right")))
        yield table.slice(start, stop - start), stop >= rows
        start = stop


def _blocks(tables: Iterable[tuple[Any, int]], item: Input, settings: Settings) -> Iterator[RawBlock]:
    """Blocks of tables, each with the number of stored bytes that were read with it."""
    for table, stored in tables:
        if table.num_rows:
            for part, _ in _sliced(table, settings, item.path):
                yield TableBlock(part, item.path, settings.text_key, stored)


def _wanted(schema: pa.Schema, settings: Settings, item: Input) -> list[str] | None:
    """The columns to read, or None for all. Raises `CorpusError` where one is missing or there twice."""
    present = _names(schema, item)
    if settings.keeps_columns and settings.columns is None:
        _check_single(present, present, item)
        return None
    names = [settings.text_key, *([settings.id_key] if settings.id_key is not None else [])]
    if settings.keeps_columns:
        names += settings.columns or ()
    for name in names:
        if name not in present and name.split(".")[0] not in present:
            raise missing_column(item.path, name, present)
    wanted = list(dict.fromkeys(name if name in present else name.split(".")[0] for name in names))
    _check_single(wanted, present, item)
    return wanted


def _unreadable_names(item: Input) -> DamagedInputError:
    return DamagedInputError(f"`{item.path}`: the names of the columns are not UTF-8")


def _names(schema: pa.Schema, item: Input) -> list[str]:
    """The names of the columns. Raises `DamagedInputError` where a name, or one inside, is not UTF-8."""
    waiting = list(schema)
    try:
        for field_ in waiting:
            _ = field_.name
            waiting += [field_.type.field(index) for index in range(field_.type.num_fields)]
    except UnicodeDecodeError:
        raise _unreadable_names(item) from None
    return list(schema.names)


def _check_single(names: list[str], present: list[str], item: Input) -> None:
    for name in names:
        if present.count(name) > 1:
            raise CorpusError(
                f"`{item.path}` has {present.count(name)} columns `{name}`", "give them names of their own"
            )


def parquet_parts(item: Input, settings: Settings) -> list[Part]:
    """Runs of row groups with about a unit's bytes each."""
    metadata = _parquet(item).metadata
    parts: list[Part] = []
    start = size = 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= settings.unit_bytes:
            parts.append((start, group + 1, size))
            start, size = group + 1, 0
    if start < metadata.num_row_groups or not parts:
        parts.append((start, metadata.num_row_groups, size))
    return parts


def _parquet(item: Input) -> Any:
    try:
        return pq.ParquetFile(item.open_arrow(), pre_buffer=False)
    except UnicodeDecodeError:
        raise _unreadable_names(item) from None
    except _ARROW_ERRORS as error:
        if isinstance(error, FileNotFoundError):
            raise item.vanished() from None
        raise _damaged(item, "Parquet", error) from error


def _damaged(item: Input, name: str, error: Exception) -> Exception:
    if isinstance(error, CorpusError):
        return error
    return DamagedInputError(
        f"`{item.path}`: the {name} data is damaged: {str(error).splitlines()[0]}",
        "put a sound copy in its place and resume, or pass --skip-damaged to go on without the rest of it",
    )


def read_parquet(item: Input, start: int, stop: int, settings: Settings) -> Iterator[RawBlock]:
    """The blocks of row groups `start` to `stop`."""
    file = _parquet(item)
    wanted = _wanted(file.schema_arrow, settings, item)
    try:
        yield from _blocks(_row_groups(file, start, stop, wanted, settings), item, settings)
    except _ARROW_ERRORS as error:
        raise _damaged(item, "Parquet", error) from error
    finally:
        file.close(force=True)


def _row_groups(
    file: Any, start: int, stop: int, wanted: list[str] | None, settings: Settings
) -> Iterator[tuple[Any, int]]:
    stored = 0
    for group in range(start, stop):
        metadata = file.metadata.row_group(group)
        stored += metadata.total_byte_size
        average = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
        rows = max(1, settings.block_bytes // average)
        for batch in file.iter_batches(rows, [group], wanted, use_threads=False):
            yield batch, stored


def arrow_parts(item: Input, settings: Settings) -> list[Part]:
    """Runs of record batches of a file; a stream is one part."""
    reader = _arrow(item)
    size = item.size or 0
    if not hasattr(reader, "num_record_batches"):
        return [(0, None, size)]
    count = reader.num_record_batches
    step = max(1, count * settings.unit_bytes // max(1, size))
    starts = range(0, max(1, count), step)
    return [(start, min(count, start + step), size // max(1, len(starts))) for start in starts]


def _arrow(item: Input) -> Any:
    source = item.open_arrow()
    try:
        magic = source.read(6)
        source.seek(0)
        if magic == b"ARROW1":
            return pa.ipc.open_file(source)
        if magic[:4] == b"FEA1":
            raise CorpusError(
                f"`{item.path}` is a Feather file of version 1",
                "write it again with pyarrow.feather.write_feather",
            )
        return pa.ipc.open_stream(source)
    except _ARROW_ERRORS as error:
        raise _damaged(item, "Arrow", error) from error


def read_arrow(item: Input, start: int, stop: int | None, settings: Settings) -> Iterator[RawBlock]:
    """The blocks of record batches `start` to `stop` of a file, or of all of a stream."""
    reader = _arrow(item)
    share = (item.size or 0) // max(1, (stop or 1) - start)
    batches: Iterable[Any] = reader if stop is None else map(reader.get_batch, range(start, stop))
    wanted = _wanted(reader.schema, settings, item)
    try:
        tables = ((_checked(_selected(batch, wanted)), share) for batch in batches)
        yield from _blocks(tables, item, settings)
    except _ARROW_ERRORS as error:
        raise _damaged(item, "Arrow", error) from error


def _selected(batch: Any, wanted: list[str] | None) -> Any:
    return batch if wanted is None else batch.select(wanted)


def _checked(batch: Any) -> Any:
    """The batch, if its offsets and indices stay within its buffers. Raises `ArrowInvalid`.

    Arrow's reader takes them as the file has them, and whatever reads the values then reads outside the file.
    """
    for column in batch.columns:
        column.view(_as_binary(column.type)).validate(full=True)
    return batch


def _as_binary(kind: Any) -> Any:
    """The type with bytes for strings, of which validation would ask that they be UTF-8."""
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if str(kind) == "string_view":
        return pa.binary_view()
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _as_binary(kind.value_type), kind.ordered)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_binary(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_as_binary(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_as_binary(kind.value_type)))
    return kind


def dataset_parts(item: Input) -> list[Part]:
    """Ranges of rows."""
    rows = item.size or 0
    starts = range(0, max(rows, 1), DATASET_UNIT_ROWS)
    return [
        (start, min(rows, start + DATASET_UNIT_ROWS), min(rows - start, DATASET_UNIT_ROWS))
        for start in starts
    ]


def read_dataset(item: Input, start: int, stop: int, settings: Settings) -> Iterator[RawBlock]:
    """The blocks of rows `start` to `stop` of a Hugging Face dataset."""
    if item.dataset is None:
        raise CorpusError(
            f"the run reads a dataset of Python: `{item.path}`", "resume it with llamatok.corpus.tokenize"
        )
    dataset = item.dataset.with_format("arrow")
    wanted = _wanted(dataset.features.arrow_schema, settings, item)

    def tables() -> Iterator[tuple[Any, int]]:
        for row in range(start, stop, DATASET_READ_ROWS):
            end = min(stop, row + DATASET_READ_ROWS)
            yield _selected(dataset[row:end], wanted), end - start

    yield from _blocks(tables(), item, settings)


def read_csv(item: Input, settings: Settings) -> Iterator[RawBlock]:
    """The blocks of a CSV file with a header. Values are text as it stands there."""
    delimiter = settings.delimiter or ("\t" if item.tabs else ",")
    names = _csv_header(item, delimiter, settings)
    wanted = _wanted(pa.schema([(name, pa.binary()) for name in names]), settings, item) or names
    bad: list[Reject] = []

    def handle(row: Any) -> str:
        reason = f"{row.actual_columns} fields instead of {row.expected_columns}"
        bad.append(Reject((row.number or 1) - 1, reason, excerpt(row.text)))
        return "skip"

    stored, stream = item.open_decompressed()
    try:
        reader = csv.open_csv(
            _as_arrow(stream),
            csv.ReadOptions(use_threads=False, block_size=settings.block_bytes),
            csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=handle),
            csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.binary() for name in wanted},
                check_utf8=False,
                strings_can_be_null=False,
            ),
        )
        schema = pa.schema(
            [(name, pa.binary() if name == settings.text_key else pa.string()) for name in wanted]
        )
        last: TableBlock | None = None
        for batch in reader:
            table = pa.table(batch.columns, names=wanted)
            for part, _ in _sliced(table, settings, item.path):
                if last is not None:
                    yield last
                part = _csv_strings(part, schema)
                last = TableBlock(part, item.path, settings.text_key, stored.tell())
        # Which block a bad row was read with depends on how far ahead Arrow reads: all go with the last one.
        if last is None and bad:
            last = TableBlock(schema.empty_table(), item.path, settings.text_key, stored.tell())
        if last is not None:
            last.rejects = [Reject(reject.line, reject.reason, reject.excerpt) for reject in bad]
            yield last
    except pa.ArrowInvalid as error:
        raise _csv_error(item, error) from error
    except DECOMPRESSION_ERRORS as error:
        raise read_error(item, error) from error
    finally:
        stored.close()


def _csv_header(item: Input, delimiter: str, settings: Settings) -> list[str]:
    stored, stream = item.open_decompressed()
    try:
        reader = csv.open_csv(
            _as_arrow(stream),
            csv.ReadOptions(use_threads=False, block_size=settings.block_bytes),
            csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=lambda row: "skip"
            ),
            csv.ConvertOptions(check_utf8=False),
        )
        return list(reader.schema.names)
    except UnicodeDecodeError:
        raise _unreadable_names(item) from None
    except pa.ArrowInvalid as error:
        raise _csv_error(item, error) from error
    except DECOMPRESSION_ERRORS as error:
        raise read_error(item, error) from error
    finally:
        stored.close()


def _csv_strings(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Columns other than the text as strings; their bytes that are not UTF-8 become U+FFFD."""
    try:
        return table.cast(schema)
    except pa.ArrowInvalid:
        columns = [
            column
            if pa.types.is_binary(kind)
            else pa.chunked_array(
                [[value.as_py().decode("utf-8", "replace") for value in column]], pa.string()
            )
            for kind, column in zip(schema.types, table.columns, strict=True)
        ]
        return pa.table(columns, schema=schema)


def _csv_error(item: Input, error: Exception) -> CorpusError:
    message = str(error).splitlines()[0]
    if "straddling" in message:
        return DamagedInputError(
            f"`{item.path}`: a row is larger than a block",
            "pass a larger --block-size; or is a quotation mark left open?",
        )
    if "Empty CSV file" in message:
        return DamagedInputError(f"`{item.path}`: an empty CSV file has no header")
    return DamagedInputError(f"`{item.path}`: {message}")


def _as_arrow(stream: Any) -> Any:
    return stream if isinstance(stream, pa.NativeFile) else pa.PythonFile(stream, mode="r")
