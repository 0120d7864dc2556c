"""Small models with the same random weights here and in transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "mha": {"num_key_value_heads": 4},
    "gqa": {"num_key_value_heads": 2},
    "mqa": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "head_dim": {"head_dim": 16},
    "one layer": {"num_hidden_layers": 1},
    "linear rope": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    "dynamic rope": {
        "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        "max_position_embeddings": 16,
    },
    "llama3 rope": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
}


def _settings(name: str) -> dict[str, Any]:
    return {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **CONFIGURATIONS[name],
    }


@pytest.fixture(scope="session")
def pair() -> Callable[[str], tuple[Any, Any]]:
    """Makes (our model, transformers' model) by the name of a configuration."""
    torch = pytest.importorskip("torch", reason="generation needs torch")
    transformers = pytest.importorskip(
        "transformers", reason="transformers is what generation is compared with"
    )
    from llamatok.models import LlamaConfig, LlamaForCausalLM

    made: dict[str, tuple[Any, Any]] = {}

    def make(name: str) -> tuple[Any, Any]:
        if name not in made:
            theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**_settings(name))).eval()
            generator = torch.Generator().manual_seed(len(name))
            with torch.no_grad():
                # Large enough that texts do not repeat one token, norms that are not all 1.
                for weight in theirs.parameters():
                    weight.normal_(0, 0.3, generator=generator)
            ours = LlamaForCausalLM(LlamaConfig(**_settings(name))).eval()
            ours.load_state_dict(theirs.state_dict())
            made[name] = ours, theirs
        return made[name]

    return make


@pytest.fixture(scope="session")
def model(pair: Callable[[str], tuple[Any, Any]]) -> Any:
    """One of our models."""
    return pair("gqa")[0]
