"""From items to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["Collator"]

IGNORED_LABEL = -100


class Collator:
    """Makes a batch of items: what a causal language model takes, whose loss shifts labels by itself.

    The batch has `input_ids`, `labels` and `attention_mask`, int64 of shape ``(batch, longest)``; of packed
    items also `position_ids`, and `document_ids`, which number the documents of each row from 0. Labels are
    -100 on padding and, with `mask_first`, where a document begins within a row: no token predicts it.

    Args:
        pad_id: The id that fills up shorter items.
        mask_first: Whether the first token of each document has no label. Needs position ids.
    """

    def __init__(self, pad_id: int = 0, *, mask_first: bool = True) -> None:
        self.pad_id = pad_id
        self.mask_first = mask_first

    def __call__(self, items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The batch. Raises `ValueError` where there are no items."""
        if not items:
            raise ValueError("a batch needs at least one item")
        longest = max(len(item["input_ids"]) for item in items)
        ids = torch.full((len(items), longest), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, item in enumerate(items):
            length = len(item["input_ids"])
            ids[row, :length] = item["input_ids"]
            mask[row, :length] = 1
        labels = ids.masked_fill(mask == 0, IGNORED_LABEL)
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        if all("position_ids" in item for item in items):
            positions = torch.zeros_like(ids)
            for row, item in enumerate(items):
                positions[row, : len(item["position_ids"])] = item["position_ids"]
            begins = (positions == 0) & (mask == 1)
            batch["position_ids"] = positions
            batch["document_ids"] = begins.cumsum(1) - 1
            if self.mask_first:
                batch["labels"] = labels.masked_fill(begins, IGNORED_LABEL)
        return batch
