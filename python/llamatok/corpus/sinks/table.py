"""Parquet and Arrow files: a row a document, its tokens a list column, source columns beside it."""

from __future__ import annotations

import base64
import os
from abc import abstractmethod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llamatok.corpus.documents import Documents
from llamatok.corpus.errors import CorpusError
from llamatok.corpus.files import digest_of, writing
from llamatok.corpus.sinks.base import FinishedFile, Place, Sink

__all__ = ["ArrowSink", "ParquetSink", "TableSink"]

TOKENS = "input_ids"
POSITIONS = "position_ids"
#: Tokens of a row group or record batch.
GROUP_TOKENS = 4 << 20


class TableSink(Sink):
    """Rows in an Arrow stream, which can be cut back to where a batch ends, and at last in one file.

    Tokens are int32, which every reader of the two formats knows; packed or compressed they take no more room
    than narrower ones.
    """

    spools = ("rows",)
    suffix = ""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._schema: Any = None

    def write(self, documents: Documents) -> None:
        """Appends record batches."""
        start = 0
        while start < len(documents):
            goal = documents.offsets[start] + GROUP_TOKENS
            stop = max(start + 1, int(np.searchsorted(documents.offsets, goal, "right")) - 1)
            self._write_batch(documents.slice(start, stop))
            start = stop

    def _write_batch(self, documents: Documents) -> None:
        offsets = pa.array(documents.offsets.astype(np.int32))
        columns = (
            {}
            if documents.columns is None
            else dict(zip(documents.columns.schema.names, documents.columns.columns, strict=True))
        )
        for name in (TOKENS, POSITIONS):
            if name in columns:
                raise CorpusError(
                    f"a source column is named `{name}`, as the output's own", "leave it out by --columns"
                )
        columns[TOKENS] = pa.ListArray.from_arrays(offsets, pa.array(documents.tokens.astype(np.int32)))
        if documents.positions is not None:
            columns[POSITIONS] = pa.ListArray.from_arrays(
                offsets, pa.array(documents.positions.astype(np.int32))
            )
        table = pa.table(columns)
        if self._schema is None:
            self._schema = table.schema
        if not self.spool("rows").length:
            self.spool("rows").write(self._schema.serialize())
        for batch in self._as_before(table).combine_chunks().to_batches():
            self.spool("rows").write(batch.serialize())

    def _as_before(self, table: pa.Table) -> pa.Table:
        """The table with the columns of the first one; columns that are missing hold nulls."""
        schema = self._schema
        if table.schema.equals(schema):
            return table
        unknown = [name for name in table.schema.names if name not in schema.names]
        if unknown:
            raise CorpusError(
                f"an input has columns that the first one has not: {', '.join(unknown)}",
                "name the columns to keep with --columns",
            )
        try:
            columns = [
                table.column(field.name).cast(field.type)
                if field.name in table.schema.names
                else pa.nulls(table.num_rows, field.type)
                for field in schema
            ]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise CorpusError(
                f"the inputs disagree on the type of a column: {error}",
                "name the columns to keep with --columns",
            ) from None
        return pa.table(columns, schema=schema)

    def finish_files(self) -> list[FinishedFile]:
        """`train-00000.parquet` and so on."""
        stem = "-".join(filter(None, (self.place.split, self.number)))
        path = self.temporary(f"{self.shard:05d}.made")
        schema = self._schema or pa.schema([(TOKENS, pa.list_(pa.int32()))])
        with writing(path):
            self._convert(path, schema)
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        name = f"{stem}{self.suffix}"
        return [FinishedFile(path, name, os.path.getsize(path), digest_of(path).hexdigest())]

    def _convert(self, path: str, schema: pa.Schema) -> None:
        with self._writer(path, schema) as writer:
            if not os.path.getsize(self.spool_path("rows")):
                return
            with pa.OSFile(self.spool_path("rows"), "r") as source, pa.ipc.open_stream(source) as batches:
                group: list[Any] = []
                tokens = 0
                for batch in batches:
                    group.append(batch)
                    tokens += len(batch.column(TOKENS).values)
                    if tokens >= GROUP_TOKENS:
                        writer.write_table(pa.Table.from_batches(group))
                        group, tokens = [], 0
                if group:
                    writer.write_table(pa.Table.from_batches(group))

    @abstractmethod
    def _writer(self, path: str, schema: pa.Schema) -> Any:
        """A writer of tables into a new file, to be used as a context."""

    def format_state(self) -> dict[str, Any]:
        """The columns, which the first documents decide."""
        if self._schema is None:
            return {}
        return {"schema": base64.b64encode(self._schema.serialize().to_pybytes()).decode()}

    def restore_format(self, state: dict[str, Any]) -> None:
        """Takes the columns up again."""
        if "schema" in state:
            self._schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(state["schema"])))


class ParquetSink(TableSink):
    """Parquet, compressed with Zstandard."""

    suffix = ".parquet"

    def _writer(self, path: str, schema: pa.Schema) -> Any:
        return pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=False)


class ArrowSink(TableSink):
    """Arrow's file format, also known as Feather version 2, not compressed: it can be mapped into memory."""

    suffix = ".arrow"

    def _writer(self, path: str, schema: pa.Schema) -> Any:
        return pa.ipc.new_file(path, schema)
