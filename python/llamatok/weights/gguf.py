"""GGUF files of llama.cpp: tensors dequantized when asked for, the configuration from the metadata.

Names and keys: the GGUF specification (ggml, docs/gguf.md) as the package `gguf` has it; the order of query
and key rows, which llama.cpp keeps as Meta does: its `convert_hf_to_gguf.py`. The file is parsed and the
blocks are decoded by the package `gguf` (extra `gguf`).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from llamatok.weights.checkpoint import Checkpoint, LazyTensor
from llamatok.weights.errors import WeightsError
from llamatok.weights.gguf_header import check_header
from llamatok.weights.layout import halves_from_pairs

LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
MODEL_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

#: Divisors of the rotary frequencies, one a pair of dimensions; part of the configuration elsewhere.
ROPE_FACTORS = "rope_freqs.weight"

_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
#: The quantized types of the reference documents and their relatives, which the package decodes as well.
QUANTIZED = ("Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q5_K")


def read_gguf(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a GGUF file. Quantized tensors are read as float32.

    Raises:
        WeightsError: the package `gguf` is missing, the file is damaged, is no Llama, or is quantized
            in a way that is not supported.
    """
    try:
        import gguf
    except ImportError:
        raise WeightsError(
            f"reading `{path}` needs the package gguf: pip install 'llamatok[torch,gguf]'"
        ) from None
    check_header(path)
    try:
        reader = gguf.GGUFReader(os.fspath(path))
    # The package checks little: what a damaged file leads to is an error of numpy, struct or the enums.
    except Exception as error:
        raise WeightsError(f"`{path}` is no GGUF file, or is damaged: {error}") from None
    metadata = _Metadata(reader, os.fspath(path))
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise WeightsError(f"`{path}` holds the architecture `{architecture}`; only `llama` is read")
    heads = metadata.count("attention.head_count")
    kv_heads = metadata.count("attention.head_count_kv", heads)
    tensors: dict[str, LazyTensor] = {}
    rope_factors: torch.Tensor | None = None
    for entry in reader.tensors:
        lazy = _lazy(entry, os.fspath(path))
        if entry.name == ROPE_FACTORS:
            if len(lazy.shape) != 1 or not lazy.shape[0]:
                raise WeightsError(f"`{path}`: tensor `{entry.name}` is no list of numbers, but {lazy.shape}")
            rope_factors = lazy.read().clone()
            continue
        name = _renamed(entry.name, os.fspath(path))
        if ".q_proj." in name:
            lazy = _reordered(lazy, heads, entry.name, os.fspath(path))
        elif ".k_proj." in name:
            lazy = _reordered(lazy, kv_heads, entry.name, os.fspath(path))
        tensors[name] = lazy
    if "model.embed_tokens.weight" not in tensors:
        raise WeightsError(f"`{path}` holds no tensor `token_embd.weight`; a file with a vocabulary only?")
    if len(tensors["model.embed_tokens.weight"].shape) != 2:
        raise WeightsError(f"`{path}`: tensor `token_embd.weight` has not two dimensions")
    return Checkpoint(
        path=os.fspath(path),
        config=_config(metadata, tensors, heads, kv_heads, rope_factors),
        tensors=tensors,
    )


class _Metadata:
    """Values of the file's metadata; keys without a dot prefix are those of the architecture."""

    def __init__(self, reader: Any, path: str) -> None:
        self._reader = reader
        self.path = path

    def get(self, key: str, default: Any = None) -> Any:
        field = self._reader.fields.get(key)
        if field is None:
            return default
        try:
            return field.contents()
        except (IndexError, ValueError, UnicodeDecodeError) as error:
            raise WeightsError(f"`{self.path}`: the metadata `{key}` is damaged: {error}") from None

    def own(self, key: str, default: Any = None) -> Any:
        return self.get(f"llama.{key}", default)

    def number(self, key: str, default: float | None = None) -> float | None:
        value = self.own(key, default)
        if value is None:
            return None
        # NaN is not below infinity either.
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not -1e300 < value < 1e300:
            raise WeightsError(f"`{self.path}`: the metadata `llama.{key}` must be a number, found {value!r}")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        value = self.own(key, default)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise WeightsError(
                f"`{self.path}`: the metadata `llama.{key}` must be one whole number above 0, found {value!r}"
            )
        return value


def _renamed(name: str, path: str) -> str:
    stem, _, leaf = name.rpartition(".")
    parts = stem.split(".", 2)
    if stem in MODEL_NAMES:
        return f"{MODEL_NAMES[stem]}.{leaf}"
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in LAYER_NAMES:
        return f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.{leaf}"
    raise WeightsError(f"`{path}` holds a tensor that no dense Llama has: `{name}`")


def _lazy(entry: Any, path: str) -> LazyTensor:
    # ggml counts dimensions from the innermost one.
    shape = tuple(int(size) for size in reversed(entry.shape))
    kind = entry.tensor_type.name
    start, size = int(entry.data_offset), int(entry.n_bytes)

    def stored() -> np.ndarray[Any, np.dtype[np.uint8]]:
        # A mapping of its own, which ends with the tensor: the reader's would hold every page that was read.
        return np.memmap(path, dtype=np.uint8, mode="c", offset=start, shape=(size,))

    if kind in _TYPES:
        dtype = _TYPES[kind]
        return LazyTensor(shape, dtype, lambda: torch.from_numpy(stored()).view(dtype).reshape(shape))
    if 0 in shape:
        return LazyTensor(shape, torch.float32, lambda: torch.empty(shape))
    if kind not in QUANTIZED:
        raise WeightsError(
            f"`{path}`: tensor `{entry.name}` is stored as {kind}; supported are"
            f" {', '.join([*_TYPES, *QUANTIZED])}"
        )

    def dequantized() -> torch.Tensor:
        import gguf

        try:
            rows = stored().reshape(-1, size // max(shape[0], 1)) if len(shape) > 1 else stored()
            return torch.from_numpy(gguf.dequantize(rows, entry.tensor_type)).reshape(shape)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(
                f"`{path}`: tensor `{entry.name}` of {shape} is no whole blocks of {kind}: {error}"
            ) from None

    return LazyTensor(shape, torch.float32, dequantized)


def _reordered(lazy: LazyTensor, heads: int, name: str, path: str) -> LazyTensor:
    if not lazy.shape or lazy.shape[0] % (2 * heads):
        raise WeightsError(f"`{path}`: tensor `{name}` of {lazy.shape} does not fall into {heads} heads")
    return LazyTensor(lazy.shape, lazy.dtype, lambda: halves_from_pairs(lazy.read(), heads))


def _config(
    metadata: _Metadata,
    tensors: dict[str, LazyTensor],
    heads: int,
    kv_heads: int,
    rope_factors: torch.Tensor | None,
) -> dict[str, Any]:
    vocabulary, width = tensors["model.embed_tokens.weight"].shape
    context = metadata.count("context_length", 2048)
    head_dim = metadata.count("attention.key_length", max(width // heads, 1))
    theta = float(metadata.number("rope.freq_base", 10000.0) or 0.0)
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": metadata.count("embedding_length", width),
        "intermediate_size": metadata.count("feed_forward_length"),
        "num_hidden_layers": metadata.count("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": float(metadata.number("attention.layer_norm_rms_epsilon", 1e-5) or 0.0),
        "rope_theta": theta,
        "rope_scaling": _rope_scaling(metadata, context, theta, head_dim, rope_factors),
        "attention_bias": "model.layers.0.self_attn.o_proj.bias" in tensors,
        "mlp_bias": "model.layers.0.mlp.gate_proj.bias" in tensors,
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id", 1),
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id", 2),
    }
    padding = metadata.get("tokenizer.ggml.padding_token_id")
    if padding is not None:
        config["pad_token_id"] = padding
    window = metadata.own("attention.sliding_window")
    if window:
        config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": window}
    return config


def _rope_scaling(
    metadata: _Metadata, context: int, theta: float, head_dim: int, factors: torch.Tensor | None
) -> dict[str, Any] | None:
    if factors is not None:
        if 2 * len(factors) != head_dim:
            count = len(factors)
            raise WeightsError(
                f"`{metadata.path}`: `{ROPE_FACTORS}` has {count} numbers for heads of {head_dim}"
            )
        return _scaling_of_factors(factors, context, theta, head_dim)
    kind = metadata.own("rope.scaling.type")
    factor = metadata.number("rope.scaling.factor", metadata.number("rope.scale_linear"))
    if kind in (None, "none") or not factor or factor == 1.0:
        return None
    original = metadata.number("rope.scaling.original_context_length")
    if kind == "linear":
        return {"rope_type": "linear", "factor": float(factor)}
    if kind == "yarn":
        scaling = {"rope_type": "yarn", "factor": float(factor)}
        scaling["original_max_position_embeddings"] = original or max(int(context / factor), 1)
        for key in ("beta_fast", "beta_slow"):
            value = metadata.number(f"rope.scaling.yarn_{key}")
            if value is not None:
                scaling[key] = float(value)
        return scaling
    raise WeightsError(
        f"`{metadata.path}`: the metadata `llama.rope.scaling.type` is `{kind}`;"
        " known are none, linear and yarn"
    )


def _scaling_of_factors(factors: torch.Tensor, context: int, theta: float, head_dim: int) -> dict[str, Any]:
    """Llama 3.1's scaling where its constants give these factors; else longrope, which holds any factors."""
    periods = 2 * torch.pi * theta ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    scale, original, low, high = float(factors.max()), 8192, 1.0, 4.0
    smooth = (original / periods - low) / (high - low)
    made = torch.where(
        periods > original / low,
        scale,
        torch.where(periods < original / high, 1.0, 1 / ((1 - smooth) / scale + smooth)),
    )
    if torch.allclose(made, factors.double(), rtol=1e-4):
        return {
            "rope_type": "llama3",
            "factor": scale,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        }
    listed = [float(factor) for factor in factors]
    return {
        "rope_type": "longrope",
        "short_factor": listed,
        "long_factor": listed,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": context,
    }
