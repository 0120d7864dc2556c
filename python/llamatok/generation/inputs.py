"""What `generate` is given, checked and brought into one form."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llamatok.generation.config import GenerationConfig, GenerationConfigError

__all__ = ["Prompt", "text_length"]

#: Without `max_new_tokens` and `max_length`, as in transformers 5.x.
DEFAULT_NEW_TOKENS = 20


@dataclass
class Prompt:
    """The prompts of a batch.

    Attributes:
        ids: int64 of shape (rows, length), on the model's device; zeros where only embeddings are given.
        mask: int64 of shape (rows, length), or None where nothing is padded.
        embeds: (rows, length, hidden size), or None.
        has_ids: whether the ids were given, so that they are part of the result.
    """

    ids: Tensor
    mask: Tensor | None
    embeds: Tensor | None
    has_ids: bool

    @classmethod
    def of(
        cls,
        model: Any,
        config: GenerationConfig,
        ids: Tensor | Sequence[int] | Sequence[Sequence[int]] | None,
        mask: Tensor | None,
        embeds: Tensor | None,
        cached: int,
    ) -> Prompt:
        """Checks the arguments of `generate`; `cached` is how many tokens the given cache holds.

        Raises:
            ValueError: nothing is given, or shapes do not fit, or an id is outside the vocabulary.
        """
        device = model.device
        if ids is not None:
            ids = _as_ids(ids, device)
        if embeds is not None:
            if embeds.dim() != 3 or embeds.shape[1] == 0:
                raise ValueError(
                    f"`inputs_embeds`: expected the shape (rows, length, hidden size),"
                    f" got {tuple(embeds.shape)}"
                )
            if ids is not None and ids.shape != embeds.shape[:2]:
                raise ValueError(
                    f"`input_ids` {tuple(ids.shape)} and `inputs_embeds` {tuple(embeds.shape)}"
                    " differ in their rows or length"
                )
        has_ids = ids is not None
        if ids is None:
            if embeds is None:
                bos = config.bos_token_id
                if bos is None:
                    raise ValueError("give `input_ids` or `inputs_embeds`: the model has no `bos_token_id`")
                ids, has_ids = torch.tensor([[bos]], device=device), True
            else:
                ids = torch.zeros(embeds.shape[:2], dtype=torch.int64, device=device)
        if ids.numel() == 0:
            raise ValueError("`input_ids`: a prompt needs at least one token")
        size = model.config.vocab_size
        if has_ids and bool(((ids < 0) | (ids >= size)).any()):
            worst = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
            raise ValueError(f"`input_ids`: id {worst} is out of range: the model has {size} tokens")
        return cls(
            ids, _mask(config, ids if has_ids else None, ids.shape, mask, cached, device), embeds, has_ids
        )


def _as_ids(ids: Any, device: torch.device) -> Tensor:
    try:
        ids = torch.as_tensor(ids, device=device)
    except ValueError:
        raise ValueError("`input_ids`: the rows differ in length; pad them on the left") from None
    if ids.dim() == 1:
        ids = ids[None]
    if ids.dim() != 2 or ((ids.is_floating_point() or ids.is_complex()) and ids.numel()):
        raise ValueError(
            f"`input_ids`: expected whole numbers of shape (rows, length),"
            f" got {ids.dtype} of {tuple(ids.shape)}"
        )
    tensor: Tensor = ids.long()
    return tensor


def _mask(
    config: GenerationConfig,
    ids: Tensor | None,
    shape: torch.Size,
    mask: Tensor | None,
    cached: int,
    device: torch.device,
) -> Tensor | None:
    """The attention mask, or None where nothing is padded."""
    if mask is None:
        pad = config.pad_token_id
        # As transformers: a padding token that also ends texts says nothing.
        if ids is None or pad is None or pad in config.eos_token_ids:
            return None
        mask = (ids != pad).long()
    else:
        mask = torch.as_tensor(mask, device=device).long()
        if mask.dim() == 1 and shape[0] == 1:
            mask = mask[None]
        if mask.dim() != 2 or mask.shape[0] != shape[0] or mask.shape[1] not in (shape[1], shape[1] + cached):
            raise ValueError(
                f"`attention_mask`: expected the shape {tuple(shape)} of the prompt, got {tuple(mask.shape)}"
            )
    if bool((mask != 0).all()):
        return None
    if not bool(mask.any(dim=1).all()):
        raise ValueError("`attention_mask`: a row has nothing but padding")
    if bool((mask[:, -1] == 0).any()):
        warnings.warn(
            "a prompt is padded on the right; the text goes on after the padding, which models"
            " are not trained for: pad on the left (`padding_side='left'`)",
            stacklevel=4,
        )
    return (mask != 0).long()


def text_length(model: Any, config: GenerationConfig, given: int, unseen: int = 0) -> int:
    """The greatest length of a text, after `given` tokens of a prompt and `unseen` ones of a cache.

    `max_length` counts the prompt as given.

    Raises:
        ValueError: the prompt alone is longer than `max_length`, or than the model's context.
    """
    context = getattr(model.config, "max_position_embeddings", None)
    prompt_length = given + unseen
    if config.max_new_tokens is not None:
        length = prompt_length + config.max_new_tokens
    elif config.max_length is not None:
        length = unseen + config.max_length
        if length <= prompt_length:
            raise GenerationConfigError(
                f"`max_length` ({config.max_length}) leaves no room after a prompt of {given} tokens:"
                " raise it, or give `max_new_tokens`"
            )
    else:
        length = prompt_length + DEFAULT_NEW_TOKENS
        if context is not None:
            length = max(min(length, context), prompt_length + 1)
    if context is not None and length > context and not _goes_beyond(model.config):
        if prompt_length > context:
            raise ValueError(
                f"the prompt has {prompt_length} tokens, the model was made for {context}"
                " (`max_position_embeddings`): shorten it"
            )
        warnings.warn(
            f"the text may get {length} tokens long, the model was made for {context}"
            " (`max_position_embeddings`): it may lose its thread",
            stacklevel=3,
        )
    return length


def _goes_beyond(config: Any) -> bool:
    """Whether a model is made for texts beyond `max_position_embeddings`."""
    if getattr(config, "sliding_window", None):
        return True
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return bool(rope.get("rope_type", rope.get("type")) == "dynamic")
