"""A tiny Llama in the formats that examples name: Meta's folder, GGUF with its tokenizer, llama2.c's file."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from support.checkpoints import pairs_of
from support.locations import DEFAULT_MODEL

HEADS = 2


def tiny_llama() -> Any:
    """A random model for the embedded vocabulary: one layer of width 16, two heads."""
    import torch

    from llamatok.models import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32_000,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=HEADS,
            max_position_embeddings=512,
        )
    ).eval()


def _tensors(layer_names: dict[str, str], model_names: dict[str, str]) -> dict[str, Any]:
    """The tensors by the names that a format gives them, less `.weight`; queries and keys in pairs."""
    layer = {theirs: own for own, theirs in layer_names.items()}
    whole = {theirs: own for own, theirs in model_names.items()}
    found = {}
    for name, tensor in tiny_llama().state_dict().items():
        stem = name.removesuffix(".weight")
        part = stem.removeprefix("model.layers.0.")
        paired = pairs_of(tensor, HEADS) if part.endswith(("q_proj", "k_proj")) else tensor
        found[whole[stem] if part == stem else f"0.{layer[part]}"] = paired
    return found


def write_meta(folder: Path) -> None:
    """`params.json`, `consolidated.00.pth` and `tokenizer.model`."""
    import torch

    from llamatok.weights.layout import LAYER_NAMES, MODEL_NAMES

    folder.mkdir(parents=True)
    state = {
        f"layers.{name}.weight" if name.startswith("0.") else f"{name}.weight": tensor
        for name, tensor in _tensors(LAYER_NAMES, MODEL_NAMES).items()
    }
    torch.save(state, folder / "consolidated.00.pth")
    params = {
        "dim": 16,
        "n_layers": 1,
        "n_heads": HEADS,
        "multiple_of": 16,
        "norm_eps": 1e-6,
        "vocab_size": -1,
    }
    (folder / "params.json").write_text(json.dumps(params))
    (folder / "tokenizer.model").write_bytes(DEFAULT_MODEL.read_bytes())


def write_gguf(path: Path) -> None:
    """One file with the weights as float32 and the embedded vocabulary."""
    import gguf
    import sentencepiece

    from llamatok.weights.gguf import LAYER_NAMES, MODEL_NAMES

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(16)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(8)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(DEFAULT_MODEL))
    ids = range(processor.vocab_size())
    kinds = [
        2 if processor.IsUnknown(id) else 3 if processor.IsControl(id) else 6 if processor.IsByte(id) else 1
        for id in ids
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([processor.id_to_piece(id) for id in ids])
    writer.add_token_scores([processor.get_score(id) for id in ids])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, tensor in _tensors(LAYER_NAMES, MODEL_NAMES).items():
        own = f"blk.{name}" if name.startswith("0.") else name
        writer.add_tensor(f"{own}.weight", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_llama2c(path: Path) -> None:
    """Version 0, with a head of its own."""
    state = tiny_llama().state_dict()
    block = "model.layers.0."
    names = [
        "model.embed_tokens",
        f"{block}input_layernorm",
        *(f"{block}self_attn.{name}_proj" for name in "qkvo"),
        f"{block}post_attention_layernorm",
        *(f"{block}mlp.{name}_proj" for name in ("gate", "down", "up")),
        "model.norm",
        None,
        "lm_head",
    ]
    data = struct.pack("<7i", 16, 32, 1, HEADS, HEADS, -32_000, 512)
    for name in names:
        if name is None:  # tables of the rotation, which are not read
            data += bytes(4 * 512 * 8)
            continue
        tensor = state[f"{name}.weight"]
        tensor = pairs_of(tensor, HEADS) if name.endswith(("q_proj", "k_proj")) else tensor
        data += tensor.numpy().astype("<f4").tobytes()
    path.write_bytes(data)
