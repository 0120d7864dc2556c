"""Open-Llama equals what transformers 4.31.0 computed; see `open_llama_reference.py` for the record."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llamatok.models import (
    OpenLlamaConfig,
    OpenLlamaForCausalLM,
    OpenLlamaForSequenceClassification,
    OpenLlamaModel,
)

_spec = importlib.util.spec_from_file_location(
    "open_llama_reference", Path(__file__).with_name("open_llama_reference.py")
)
assert _spec is not None
assert _spec.loader is not None
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)
RECORD = json.loads(reference.RECORD.read_text())["cases"]


def made(cls: Any, **settings: Any) -> Any:
    model = cls(OpenLlamaConfig(**reference.BASE, **settings))
    model.load_state_dict(reference.weights(model.state_dict()))
    model.tie_weights()
    return model.eval()


def close(got: Any, expected: Any) -> None:
    got, expected = torch.tensor(got), torch.tensor(expected)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", reference.CASES)
def test_everything_recorded_of_the_reference_is_met(name):
    settings = reference.CASES[name]
    measured = reference.measure(
        lambda: made(OpenLlamaForCausalLM, **settings),
        lambda: made(OpenLlamaForSequenceClassification, **settings),
    )
    assert measured.keys() == RECORD[name].keys()
    for what, expected in RECORD[name].items():
        close(measured[what], expected)


def test_a_shared_embedding_has_no_head_and_no_key_for_one():
    model = made(OpenLlamaForCausalLM)
    assert model.lm_head is None
    assert model.get_output_embeddings() is None
    assert not [key for key in model.state_dict() if "lm_head" in key]
    assert "model.embed_layer_norm.weight" in model.state_dict()
    model.resize_token_embeddings(30)
    assert model(torch.tensor([[29]])).logits.shape == (1, 1, 30)
    own = made(OpenLlamaForCausalLM, shared_input_output_embedding=False)
    assert own.get_output_embeddings() is own.lm_head
    assert "lm_head.weight" in own.state_dict()


def test_the_stable_embedding_starts_as_xavier_normal_with_a_zero_for_padding():
    torch.manual_seed(0)
    settings = {**reference.BASE, "vocab_size": 5000, "hidden_size": 64}
    weight = OpenLlamaModel(OpenLlamaConfig(**settings)).embed_tokens.weight.detach()
    assert not weight[0].any()
    assert float(weight[1:].std()) == pytest.approx((2 / (5000 + 64)) ** 0.5, rel=0.02)
    plain = OpenLlamaModel(
        OpenLlamaConfig(**settings, use_stable_embedding=False)
    ).embed_tokens.weight.detach()
    assert float(plain[1:].std()) == pytest.approx(0.02, rel=0.02)


def test_training_drops_the_mask_with_memory_efficient_attention_and_heeds_it_without():
    ids, mask = reference.right_padded()
    left = mask.flip(1)
    for efficient in (True, False):
        model = made(
            OpenLlamaForCausalLM,
            use_memory_efficient_attention=efficient,
            hidden_dropout_prob=0.0,
            attention_dropout_prob=0.0,
        ).train()
        with torch.no_grad():
            same = torch.allclose(model(ids, attention_mask=left).logits[1, 2:], model(ids).logits[1, 2:])
        assert same == efficient


def test_the_dropouts_act_in_training_alone():
    ids = reference.inputs(2, 6)
    for settings, random in (
        ({"hidden_dropout_prob": 0.5, "attention_dropout_prob": 0.0}, True),
        ({"hidden_dropout_prob": 0.0, "attention_dropout_prob": 0.5}, True),
        (
            {
                "hidden_dropout_prob": 0.0,
                "attention_dropout_prob": 0.5,
                "use_memory_efficient_attention": False,
            },
            False,
        ),
    ):
        model = made(OpenLlamaForCausalLM, **settings)
        with torch.no_grad():
            assert torch.equal(model(ids).logits, model(ids).logits)
            model.train()
            assert torch.equal(model(ids).logits, model(ids).logits) != random


def test_the_older_tuples_go_in_and_come_out():
    model = made(OpenLlamaForCausalLM)
    ids = reference.inputs(1, 10)
    with torch.no_grad():
        first = model(ids[:, :4], use_cache=True)
        assert first.past_key_values[0][0].shape == (1, 2, 4, 8)
        second = model(ids[:, 4:5], past_key_values=first.past_key_values.to_legacy_cache(), use_cache=True)
    assert isinstance(second.past_key_values, tuple)
    close(second.logits[0].tolist(), RECORD["default"]["steps"][0][4:5])
