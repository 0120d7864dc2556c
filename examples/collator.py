"""A DataLoader that tokenizes its batches: pip install 'llamatok[torch]'.

python examples/collator.py book.txt

Each line of the file is a text. For data that is read many times, make shards first: `corpus_training.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from llamatok import LlamaTokenizer


class Collator:
    """Texts to what a causal language model takes; padding has no label."""

    def __init__(self, tokenizer: LlamaTokenizer, max_length: int = 128) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length

    def __call__(self, texts: list[str]) -> dict[str, torch.Tensor]:
        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        return {**batch, "labels": labels}


def main(path: str) -> None:
    """Print the shape of each batch and how much of it is text."""
    tokenizer = LlamaTokenizer.default()
    tokenizer.pad_token = tokenizer.eos_token
    texts = [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    # Sorted by length, rows of a batch are nearly alike, and little is padding.
    texts.sort(key=len)
    for batch in DataLoader(texts, batch_size=8, collate_fn=Collator(tokenizer)):
        rows, columns = batch["input_ids"].shape
        print(f"{rows} x {columns}, {batch['attention_mask'].float().mean():.0%} text")


if __name__ == "__main__":
    main(sys.argv[1])
