"""Pairs of a small transformers model and ours with the same random weights."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import transformers

from llamatok import models

VOCABULARY = 61
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
THETA = {"rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    **THETA,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, **THETA}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.6],
    "long_factor": [1.5, 2.5, 4.0, 7.0],
    "original_max_position_embeddings": 12,
    "factor": 4.0,
    **THETA,
}


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights large enough that a wrong position or a missing norm weight shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 and not name.endswith("bias"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.normal_(0.0, 0.25, generator=generator)
    return model.eval()


def pair(head: str = "ForCausalLM", dtype: torch.dtype = torch.float32, **settings: Any) -> tuple[Any, Any]:
    """(transformers' model, ours), in evaluation mode, with the same weights."""
    arguments = {**SMALL, **settings}
    before = torch.get_default_dtype()
    # Cast by `to`, transformers' model would round its inverse frequencies too.
    torch.set_default_dtype(dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = getattr(transformers, f"Llama{head}")(transformers.LlamaConfig(**arguments))
        ours = getattr(models, f"Llama{head}")(models.LlamaConfig(**arguments))
    finally:
        torch.set_default_dtype(before)
    randomize(theirs)
    copy_weights(theirs, ours)
    return theirs, ours.eval()


def copy_weights(theirs: torch.nn.Module, ours: torch.nn.Module) -> None:
    """Load one model's weights into the other: the names must be the same, to the last."""
    result = ours.load_state_dict(theirs.state_dict(), strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys


def some_ids(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    """Random token ids, (rows, length), none of them 0."""
    return torch.randint(1, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, limit: float = 1e-5) -> None:
    """The greatest difference is at most `limit` times the greatest magnitude."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert torch.isfinite(ours).all()
    scale = theirs.float().abs().max().clamp_min(1e-30)
    difference = (ours.float() - theirs.float()).abs().max()
    assert difference <= limit * scale, (
        f"{float(difference / scale):.2e} of the greatest, {limit:.0e} allowed"
    )
