"""From shards to a training loop: pip install 'llamatok[corpus,torch]'.

llamatok corpus --format nanogpt --add-eos -o tokens corpus.jsonl.zst
python examples/corpus_training.py tokens/
"""

from __future__ import annotations

import sys

import torch
from torch.utils.data import DataLoader

from llamatok.data import Collator, StreamingTokenDataset


def main(folder: str, steps: int = 20) -> float:
    """Train a model that sees one token, and return its last loss."""
    model = torch.nn.Sequential(torch.nn.Embedding(32_000, 64), torch.nn.Linear(64, 32_000))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    dataset = StreamingTokenDataset(folder, sequence_length=128, batch_size=4)
    loss = torch.tensor(0.0)
    for step, batch in enumerate(DataLoader(dataset, batch_size=4, collate_fn=Collator())):
        logits = model(batch["input_ids"][:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == steps:
            break
    return float(loss)


if __name__ == "__main__":
    print(f"loss: {main(sys.argv[1]):.3f}")
