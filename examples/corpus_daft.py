"""Tokenize inside a Daft job of your own: pip install 'llamatok[corpus]' daft.

python examples/corpus_daft.py corpus.jsonl tokens/
"""

from __future__ import annotations

import sys

import daft

from llamatok.corpus import BatchTokenizer

tokenizer = BatchTokenizer(add_eos=True)


@daft.func.batch(return_dtype=daft.DataType.list(daft.DataType.int32()))
def token_ids(texts: daft.Series) -> daft.Series:
    """The ids of a column of texts."""
    return daft.Series.from_arrow(tokenizer.arrays(texts.to_arrow()))


def main(source: str, target: str) -> None:
    """Read JSON lines, add a column of ids, write Parquet."""
    frame = daft.read_json(source)
    frame.with_column("input_ids", token_ids(frame["text"])).write_parquet(target)


if __name__ == "__main__":
    main(*sys.argv[1:3])
