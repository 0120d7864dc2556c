"""Tokenize a dataset of Hugging Face: pip install llamatok datasets.

python examples/datasets_map.py corpus.jsonl tokens/

Each batch of rows is one call; the threads are the tokenizer's, so `num_proc` is not needed.
"""

from __future__ import annotations

import sys

import datasets

from llamatok import Tokenizer

tokenizer = Tokenizer.default()


def with_ids(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
    """The ids of a batch of rows."""
    return {"input_ids": tokenizer.encode_batch(rows["text"], add_bos=True, add_eos=True).to_lists()}


def main(source: str, target: str) -> None:
    """Read JSON lines, add a column of ids, save the dataset."""
    dataset = datasets.load_dataset("json", data_files=source, split="train")
    tokens = dataset.map(with_ids, batched=True, batch_size=1000)
    tokens.save_to_disk(target)
    print(f"{len(tokens)} documents, {sum(map(len, tokens['input_ids']))} tokens")


if __name__ == "__main__":
    main(*sys.argv[1:3])
