"""The losses of the heads, as transformers 5.23.0 computes them; labels of -100 do not count."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .config import PretrainedConfig

IGNORED = -100


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    ignore_index: int = IGNORED,
) -> torch.Tensor:
    """The mean over the labels; with `num_items_in_batch` their sum divided by it."""
    labels = labels.to(logits.device)
    if num_items_in_batch is None:
        return F.cross_entropy(logits, labels, ignore_index=ignore_index)
    if isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(logits.device)
    return F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum") / num_items_in_batch


def causal_lm_loss(
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    num_items_in_batch: torch.Tensor | int | None = None,
    ignore_index: int = IGNORED,
    shift_labels: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy of each next token, in float32; `shift_labels` are labels that are shifted already."""
    if shift_labels is None:
        assert labels is not None
        shift_labels = F.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    flat = logits.to(torch.float32).flatten(0, -2)
    return cross_entropy(flat, shift_labels.flatten(), num_items_in_batch, ignore_index)


def sequence_classification_loss(
    logits: torch.Tensor, labels: torch.Tensor, config: PretrainedConfig
) -> torch.Tensor:
    """Squared error, cross entropy or binary cross entropy, by `config.problem_type`.

    Where that is None it is told from the labels, and remembered: one label is regression, whole numbers are
    classes, anything else is several labels at once.
    """
    labels = labels.to(logits.device)
    if config.problem_type is None:
        if config.num_labels == 1:
            config.problem_type = "regression"
        elif labels.dtype in (torch.int64, torch.int32):
            config.problem_type = "single_label_classification"
        else:
            config.problem_type = "multi_label_classification"
    if config.problem_type == "regression":
        if config.num_labels == 1:
            return F.mse_loss(logits.squeeze(), labels.squeeze())
        return F.mse_loss(logits, labels)
    if config.problem_type == "single_label_classification":
        return cross_entropy(logits.view(-1, config.num_labels), labels.view(-1))
    if config.problem_type == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels)
    raise ValueError(
        "`problem_type` must be `regression`, `single_label_classification` or "
        "`multi_label_classification`, "
        f"got {config.problem_type!r}"
    )


def question_answering_loss(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    start_positions: torch.Tensor,
    end_positions: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """The mean of the two cross entropies; positions past the end do not count."""
    length = start_logits.shape[1]

    def one(logits: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        positions = positions.squeeze(-1) if positions.dim() > 1 else positions
        return cross_entropy(logits, positions.clamp(0, length), num_items_in_batch, ignore_index=length)

    return (one(start_logits, start_positions) + one(end_logits, end_positions)) / 2
