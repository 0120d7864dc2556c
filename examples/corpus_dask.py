"""Tokenize inside a Dask job of your own: pip install 'llamatok[corpus]' 'dask[dataframe]'.

python examples/corpus_dask.py corpus.jsonl tokens/
"""

from __future__ import annotations

import sys

import dask.dataframe as dd
import pandas as pd
import pyarrow as pa

from llamatok.corpus import BatchTokenizer


def main(source: str, target: str) -> None:
    """Read JSON lines, add a column of ids, write Parquet."""
    frame = dd.read_json(source, lines=True)[["id", "text"]]
    ids = pa.list_(pa.int32())
    meta = frame._meta.assign(input_ids=pd.Series(dtype=pd.ArrowDtype(ids)))
    tokens = frame.map_partitions(BatchTokenizer(add_eos=True), meta=meta)
    tokens.to_parquet(target, schema={"input_ids": ids})


if __name__ == "__main__":
    main(*sys.argv[1:3])
