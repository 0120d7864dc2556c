"""The names and the layout of Meta's checkpoints, which GGUF and llama2.c share in part, against
Hugging Face's."""

from __future__ import annotations

import torch

#: Meta's names of a layer's tensors -> Hugging Face's.
LAYER_NAMES = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
MODEL_NAMES = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}


def halves_from_pairs(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorders the rows of a query or key projection (weight or bias) from Meta's order to Hugging Face's.

    Within a head, RoPE turns rows (2i, 2i+1) together in Meta's layout and rows (i, i + head_dim/2) in
    Hugging Face's. `tensor` is (heads * head_dim, ...).
    """
    rest = tensor.shape[1:]
    pairs = tensor.reshape(heads, tensor.shape[0] // heads // 2, 2, *rest)
    return pairs.transpose(1, 2).reshape(tensor.shape)


def pairs_from_halves(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of `halves_from_pairs`."""
    rest = tensor.shape[1:]
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *rest)
    return halves.transpose(1, 2).reshape(tensor.shape)
