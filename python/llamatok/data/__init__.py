"""Token shards as torch datasets, and a collator: from `llamatok corpus` to a training loop.

    dataset = StreamingTokenDataset("tokens", sequence_length=2048, batch_size=8)
    loader = DataLoader(dataset, batch_size=8, collate_fn=Collator(), num_workers=2)
    for batch in loader:
        loss = model(**batch).loss

Needs torch, and pyarrow for the formats "parquet" and "arrow".

(This folder also holds the embedded tokenizer.)
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise ImportError(f"llamatok.data needs torch ({_error}): pip install 'llamatok[torch]'") from _error

from llamatok.data.collate import Collator
from llamatok.data.datasets import StreamingTokenDataset, TokenDataset

__all__ = ["Collator", "StreamingTokenDataset", "TokenDataset"]
