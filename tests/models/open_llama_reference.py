"""Records what transformers 4.31.0, the last version that can build Open-Llama, computes, beside this file.

It runs in an environment of its own, with `transformers==4.31.0`, `tokenizers<0.14`, `numpy<2` and any torch:

    python tests/models/open_llama_reference.py

The weights and ids are made from seeds by numpy, so the tests make the same ones and compare with the record.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

RECORD = Path(__file__).with_name("open_llama_4_31_0.json")
BASE = {
    "vocab_size": 23,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 8,
    "num_labels": 3,
}
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "plain embedding": {"use_stable_embedding": False},
    "own head": {"shared_input_output_embedding": False},
    "own head, tied": {"shared_input_output_embedding": False, "tie_word_embeddings": True},
    "no memory-efficient attention": {"use_memory_efficient_attention": False},
}


def weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random weights by name: norm weights about 1, all else about 0."""
    made = {}
    for name, tensor in state.items():
        random = np.random.RandomState(zlib.crc32(name.encode()) % 2**31)
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        made[name] = torch.from_numpy(centre + 0.3 * random.standard_normal(tuple(tensor.shape))).float()
    if "lm_head.weight" in made:
        made["lm_head.weight"] = made["lm_head.weight"].clone()
    return made


def inputs(rows: int, length: int) -> torch.Tensor:
    """Token ids other than 0, the padding token."""
    return torch.from_numpy(np.random.RandomState(length).randint(1, 23, (rows, length)))


def right_padded() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, the second row two tokens short."""
    ids, mask = inputs(2, 6), torch.ones(2, 6, dtype=torch.int64)
    ids[1, 4:], mask[1, 4:] = 0, 0
    return ids, mask


def measure(language_model: Callable[[], Any], classifier: Callable[[], Any]) -> dict[str, Any]:
    """What is recorded, each of a fresh model: in 4.31.0 the dynamic RoPE never forgets a long text."""
    found: dict[str, Any] = {}
    with torch.no_grad():
        for length in (5, 12):
            ids = inputs(2, length)
            out = language_model()(ids, labels=ids, output_hidden_states=True, output_attentions=True)
            found[f"logits {length}"] = out.logits
            found[f"loss {length}"] = out.loss
        found["hidden"], found["attention"] = out.hidden_states[1][:1], out.attentions[1][:1]
        ids, mask = right_padded()
        found["padded"] = language_model()(ids, attention_mask=mask).logits[mask.bool()]
        found["classes"] = classifier()(ids, attention_mask=mask, labels=torch.tensor([2, 0])).logits
        model = language_model()
        found["embeddings"] = model(inputs_embeds=model.get_input_embeddings()(ids)).logits
        past, steps = None, []
        for start, end in ((0, 4), (4, 5), (5, 6), (6, 10)):
            out = model(inputs(1, 10)[:, start:end], past_key_values=past, use_cache=True)
            past = out.past_key_values
            steps.append(out.logits)
        found["steps"] = torch.cat(steps, dim=1)
    ids = inputs(2, 5)
    model = language_model()
    model(ids, labels=ids).loss.backward()
    found["gradient"] = model.model.layers[0].self_attn.k_proj.weight.grad
    return {name: value.tolist() for name, value in found.items()}


def rounded(value: Any) -> Any:
    """Eight significant digits, one more than a float32 has."""
    return [rounded(item) for item in value] if isinstance(value, list) else float(f"{value:.8g}")


def main() -> None:
    import transformers
    from transformers.models.open_llama import modeling_open_llama as reference

    assert transformers.__version__ == "4.31.0", transformers.__version__

    def made(cls: Any, settings: dict[str, Any]) -> Any:
        model = cls(transformers.OpenLlamaConfig(**BASE, **settings))
        state = {key: value for key, value in model.state_dict().items() if "inv_freq" not in key}
        model.load_state_dict(weights(state), strict=False)
        model.tie_weights()
        return model.eval()

    record = {}
    for name, settings in CASES.items():
        measured = measure(
            lambda settings=settings: made(reference.OpenLlamaForCausalLM, settings),
            lambda settings=settings: made(reference.OpenLlamaForSequenceClassification, settings),
        )
        record[name] = {key: rounded(value) for key, value in measured.items()}
    RECORD.write_text(json.dumps({"transformers": "4.31.0", "cases": record}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
