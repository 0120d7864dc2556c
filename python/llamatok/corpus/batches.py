"""Tokenizing as a function from batch to batch, for jobs that people have already: Ray, Dask, Daft, Spark."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa

from llamatok.corpus.tokenizers import TokenizerSource

__all__ = ["BatchTokenizer"]


class BatchTokenizer:
    """A callable that adds a column of token ids to a batch, and gives the batch in the type it came in.

    Batches are `pyarrow.Table` and `pyarrow.RecordBatch` (no copies of rows), `pandas.DataFrame`, and dicts
    of NumPy arrays. `arrays` does the same for a bare column. The object pickles small where the tokenizer is
    named by a path: each process loads it once, at its first batch.

    Args:
        tokenizer: As for `llamatok.corpus.tokenize`.
        text_column: The column of texts, without nulls.
        output_column: The column of ids to add: lists of int32.
        add_bos, add_eos: Put these tokens around each text.
        num_threads: Threads a batch; by default one, since such engines run one task a core.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        *,
        text_column: str = "text",
        output_column: str = "input_ids",
        add_bos: bool = False,
        add_eos: bool = False,
        num_threads: int | None = 1,
    ) -> None:
        self._source = tokenizer
        self.text_column = text_column
        self.output_column = output_column
        self.add_bos = add_bos
        self.add_eos = add_eos
        self.num_threads = num_threads
        self._loaded: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loaded": None}

    def arrays(self, texts: Any) -> pa.ListArray:
        """The ids of a column of texts (Arrow array, list, NumPy array or pandas series) as list<int32>."""
        if self._loaded is None:
            source = self._source
            path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else source
            self._loaded = TokenizerSource.of(path).tokenizer
        if not hasattr(texts, "__arrow_c_stream__") and not hasattr(texts, "__arrow_c_array__"):
            texts = list(texts)
        batch = self._loaded.encode_batch(
            texts, add_bos=self.add_bos, add_eos=self.add_eos, num_threads=self.num_threads
        )
        ids = pa.array(batch.ids.view(np.int32))
        return pa.ListArray.from_arrays(pa.array(batch.offsets.astype(np.int32)), ids)

    def __call__(self, batch: Any) -> Any:
        """The batch with the column of ids."""
        if isinstance(batch, (pa.Table, pa.RecordBatch)):
            ids = self.arrays(batch.column(self.text_column))
            if isinstance(batch, pa.Table):
                return batch.append_column(self.output_column, ids)
            columns = [*batch.columns, ids]
            return pa.record_batch(columns, names=[*batch.schema.names, self.output_column])
        ids = self.arrays(batch[self.text_column])
        offsets = ids.offsets.to_numpy()
        rows = np.split(ids.values.to_numpy(), offsets[1:-1]) if len(ids) else []
        column = np.empty(len(rows), object)
        column[:] = rows
        if isinstance(batch, dict):
            return {**batch, self.output_column: column}
        return batch.assign(**{self.output_column: column})
