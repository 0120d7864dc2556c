"""Tokenize inside a Ray Data job of your own: pip install 'llamatok[ray]'.

python examples/corpus_ray.py corpus.jsonl tokens/
"""

from __future__ import annotations

import sys

import ray

from llamatok.corpus import BatchTokenizer


def main(source: str, target: str) -> None:
    """Read JSON lines, add a column of ids, write Parquet."""
    dataset = ray.data.read_json(source, lines=True)
    # A callable object goes to each task as it is; the tokenizer is loaded once a process.
    tokens = dataset.map_batches(BatchTokenizer(add_eos=True), batch_format="pyarrow")
    tokens.write_parquet(target)


if __name__ == "__main__":
    main(*sys.argv[1:3])
