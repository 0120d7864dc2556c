"""Logits, hidden states, attentions and gradients equal transformers', over many small configurations."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from llamatok import models
from support.llama_models import (
    LLAMA3,
    LONGROPE,
    SMALL,
    THETA,
    YARN,
    assert_close,
    copy_weights,
    pair,
    randomize,
    some_ids,
    transformers,
)

ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, **THETA}},
    "dynamic": {
        "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, **THETA},
        "max_position_embeddings": 12,
    },
    "yarn": {"rope_parameters": YARN},
    "yarn mscale": {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": False}},
    "yarn betas": {"rope_parameters": {**YARN, "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.2}},
    "longrope": {"rope_parameters": LONGROPE},
    "longrope no factor": {"rope_parameters": {k: v for k, v in LONGROPE.items() if k != "factor"}},
    "llama3": {"rope_parameters": LLAMA3},
}
SHAPES: dict[str, dict[str, Any]] = {
    "multi-head": {},
    "grouped": {"num_key_value_heads": 2},
    "multi-query, biases": {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
    "head_dim, tied": {"head_dim": 8, "num_attention_heads": 2, "tie_word_embeddings": True},
}
CONFIGURATIONS = {f"{rope}, {shape}": {**ROPES[rope], **SHAPES[shape]} for rope in ROPES for shape in SHAPES}
CONFIGURATIONS |= {
    "wide heads": {"head_dim": 16, "num_key_value_heads": 2},
    "gelu": {"hidden_act": "gelu"},
    "gelu_pytorch_tanh": {"hidden_act": "gelu_pytorch_tanh", "mlp_bias": True},
    "relu, eps": {"hidden_act": "relu", "rms_norm_eps": 1e-3},
    "attention bias alone": {"attention_bias": True, "num_key_value_heads": 2},
    "one layer, padding token": {"num_hidden_layers": 1, "pad_token_id": 3},
}


def outputs(model: Any, *args: Any, **kwargs: Any) -> Any:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model(*args, **kwargs)


def stepwise(model: Any, ids: torch.Tensor, chunks: tuple[int, ...], cache: Any = None) -> torch.Tensor:
    """The logits of `ids`, given in chunks with a cache between."""
    logits, start = [], 0
    for count in chunks:
        out = outputs(model, ids[:, start : start + count], past_key_values=cache, use_cache=True)
        cache, start = out.past_key_values, start + count
        logits.append(out.logits)
    assert start == ids.shape[1]
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_logits_and_hidden_states_equal_transformers(name):
    theirs, ours = pair(**CONFIGURATIONS[name])
    for length in (7, 40):  # below and beyond every original length
        ids = some_ids(2, length)
        expected = outputs(theirs, ids, output_hidden_states=True)
        got = outputs(ours, ids, output_hidden_states=True)
        assert_close(got.logits, expected.logits)
        assert len(got.hidden_states) == len(expected.hidden_states)
        for mine, reference in zip(got.hidden_states, expected.hidden_states, strict=True):
            assert_close(mine, reference)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_steps_and_chunks_with_a_cache_equal_transformers(name):
    theirs, ours = pair(**CONFIGURATIONS[name])
    ids = some_ids(2, 18)
    every_step = "grouped" in name or "wide" in name
    for chunks in ((9, 1, 1, 1, 6), (1,) * 18)[: 1 + every_step]:
        assert_close(stepwise(ours, ids, chunks), stepwise(theirs, ids, chunks))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_fused_layers_give_the_same(name):
    theirs, ours = pair(**CONFIGURATIONS[name])
    ids = some_ids(2, 15)
    expected, state = outputs(theirs, ids).logits, theirs.state_dict()
    assert_close(outputs(ours.fuse(), ids).logits, expected)
    saved = ours.state_dict()
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[key], state[key]) for key in state)
    copy_weights(randomize(theirs, seed=5), ours)
    assert_close(outputs(ours, ids).logits, outputs(theirs, ids).logits)
    assert_close(outputs(ours.unfuse(), ids).logits, outputs(theirs, ids).logits)


@pytest.mark.parametrize(
    "name",
    [
        "default, grouped",
        "dynamic, grouped",
        "yarn, multi-query, biases",
        "longrope, head_dim, tied",
        "llama3, multi-head",
    ],
)
def test_bfloat16_equals_transformers_within_two_per_cent(name):
    theirs, ours = pair(dtype=torch.bfloat16, **CONFIGURATIONS[name])
    ids = some_ids(2, 20)
    expected = outputs(theirs, ids).logits
    assert_close(outputs(ours, ids).logits, expected, 0.02)
    chunks = (9, 1, 1, 1, 8)
    assert_close(stepwise(ours.fuse(), ids, chunks), stepwise(theirs, ids, chunks), 0.03)


def test_bfloat16_is_the_same_to_the_last_bit_where_operations_are_in_the_same_order():
    theirs, ours = pair(dtype=torch.bfloat16, attn_implementation="eager")
    ids = some_ids(2, 20)
    assert torch.equal(outputs(ours, ids).logits, outputs(theirs, ids).logits)


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
@pytest.mark.parametrize("shape", ["multi-head", "grouped"])
def test_attention_implementations_agree(implementation, shape):
    theirs, ours = pair(**SHAPES[shape])
    ids = some_ids(2, 11)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    ours.set_attn_implementation(implementation)
    assert_close(outputs(ours, ids).logits, outputs(theirs, ids).logits)
    got, expected = (
        outputs(ours, ids, attention_mask=mask).logits,
        outputs(theirs, ids, attention_mask=mask).logits,
    )
    assert_close(got[mask.bool()], expected[mask.bool()])
    chunks = (5, 1, 5)
    assert_close(stepwise(ours, ids, chunks), stepwise(theirs, ids, chunks))


@pytest.mark.parametrize("shape", SHAPES)
def test_attentions_equal_those_of_the_eager_path(shape):
    theirs, ours = pair(**SHAPES[shape])
    theirs.set_attn_implementation("eager")
    ids = some_ids(2, 9)
    expected = outputs(theirs, ids, output_attentions=True)
    got = outputs(ours, ids, output_attentions=True)
    assert len(got.attentions) == 2
    for mine, reference in zip(got.attentions, expected.attentions, strict=True):
        assert_close(mine, reference)
    assert_close(got.logits, expected.logits)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", SHAPES)
def test_padding_equals_transformers_and_the_rows_alone(side, shape):
    theirs, ours = pair(**SHAPES[shape])
    lengths = (12, 7, 1)
    ids, mask = torch.zeros(3, 12, dtype=torch.int64), torch.zeros(3, 12, dtype=torch.int64)
    rows = [some_ids(1, length, seed=length) for length in lengths]
    for index, row in enumerate(rows):
        place = slice(12 - lengths[index], 12) if side == "left" else slice(0, lengths[index])
        ids[index, place], mask[index, place] = row[0], 1
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    kept = mask.bool()
    for kwargs in ({}, {"position_ids": positions}):
        expected = outputs(theirs, ids, attention_mask=mask, **kwargs).logits
        got = outputs(ours, ids, attention_mask=mask, **kwargs).logits
        assert torch.isfinite(got).all()
        assert_close(got[kept], expected[kept])
    alone = torch.cat([outputs(ours, row).logits[0] for row in rows])
    assert_close(got[kept], alone)


@pytest.mark.parametrize("shape", ["multi-head", "grouped"])
def test_left_padding_with_a_cache_equals_transformers(shape):
    theirs, ours = pair(**SHAPES[shape])
    ids = some_ids(3, 12)
    mask = torch.ones_like(ids)
    mask[1, :5] = mask[2, :7] = 0
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    logits = []
    for model in (theirs, ours):
        cache, steps, start = None, [], 0
        for count in (8, 1, 1, 2):
            end = start + count
            out = outputs(
                model,
                ids[:, start:end],
                attention_mask=mask[:, :end],
                position_ids=positions[:, start:end],
                past_key_values=cache,
                use_cache=True,
            )
            cache, start = out.past_key_values, end
            steps.append(out.logits)
        logits.append(torch.cat(steps, dim=1)[mask.bool()])
    assert_close(logits[1], logits[0])


@pytest.mark.parametrize("form", ["boolean", "additive", "per head"])
def test_four_dimensional_masks_are_taken_as_they_are(form):
    theirs, ours = pair(num_key_value_heads=2)
    ids = some_ids(2, 8)
    allowed = torch.ones(8, 8, dtype=torch.bool).tril().expand(2, 1, 8, 8).clone()
    allowed[0, 0, 5:, 1:3] = False
    if form == "boolean":
        mask = allowed
    else:
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
        if form == "per head":
            mask = mask.repeat(1, 4, 1, 1)
            mask[1, 2, 6, 0] = torch.finfo(torch.float32).min
    assert_close(
        outputs(ours, ids, attention_mask=mask).logits, outputs(theirs, ids, attention_mask=mask).logits
    )
    cache = outputs(ours, ids[:, :7], attention_mask=mask[:, :, :7, :7], use_cache=True).past_key_values
    last = outputs(ours, ids[:, 7:], attention_mask=mask[:, :, 7:], past_key_values=cache).logits
    assert_close(last, outputs(theirs, ids, attention_mask=mask).logits[:, 7:])


def test_embeddings_in_place_of_ids_and_positions_of_ones_own():
    theirs, ours = pair(num_key_value_heads=2)
    ids = some_ids(2, 9)
    embedded = theirs.get_input_embeddings()(ids).detach()
    before = embedded.clone()
    positions = torch.arange(4, 13)[None]
    got = outputs(ours, inputs_embeds=embedded, position_ids=positions).logits
    assert_close(got, outputs(theirs, inputs_embeds=embedded, position_ids=positions).logits)
    assert torch.equal(embedded, before)
    assert_close(outputs(ours, ids, position_ids=positions[0]).logits, got)
    assert_close(outputs(ours, ids, cache_position=positions[0]).logits, got)


@pytest.mark.parametrize(
    "keep",
    [
        0,
        1,
        5,
        torch.tensor([0, 3, 4]),
        torch.tensor([[0, 3], [4, 4]]),
        torch.tensor([[True, False, True, False, False], [False, False, False, True, True]]),
    ],
    ids=["all", "last", "five", "positions", "positions by row", "boolean"],
)
def test_logits_to_keep(keep):
    theirs, ours = pair()
    ids = some_ids(2, 5)
    assert_close(
        outputs(ours, ids, logits_to_keep=keep).logits, outputs(theirs, ids, logits_to_keep=keep).logits
    )


def test_the_older_name_of_logits_to_keep_still_works():
    _, ours = pair()
    ids = some_ids(2, 5)
    with pytest.warns(FutureWarning, match="logits_to_keep"):
        got = ours(ids, num_logits_to_keep=2).logits
    assert torch.equal(got, ours(ids, logits_to_keep=2).logits)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_equal_transformers(shape, checkpointing):
    theirs, ours = pair(pad_token_id=3, **SHAPES[shape])
    ids = some_ids(2, 10)
    ids[0, :3] = 3
    labels = ids.masked_fill(ids == 3, -100)
    mask = (ids != 3).long()
    if checkpointing:
        ours.gradient_checkpointing_enable()
    theirs.train(), ours.train()
    theirs(ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
    ours(ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    got = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert got.keys() == expected.keys()
    for name in expected:
        assert_close(got[name], expected[name], 2e-5)
    assert not got["model.embed_tokens.weight"][3].any() or ours.config.tie_word_embeddings


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_autocast_equals_transformers(implementation):
    theirs, ours = pair(num_key_value_heads=2, attn_implementation=implementation)
    ids = some_ids(2, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, got = theirs(ids, labels=ids), ours(ids, labels=ids)
        assert_close(got.logits, expected.logits, 0.02)
        assert_close(stepwise(ours, ids, (6, 1, 3)), expected.logits, 0.03)
    expected.loss.backward()
    got.loss.backward()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(mine.grad, reference.grad, 0.05)


def test_gradients_pass_through_a_cache():
    theirs, ours = pair(num_key_value_heads=2)
    ids = some_ids(1, 9)
    for model in (theirs, ours):
        first = model(ids[:, :5], use_cache=True)
        model(
            ids[:, 5:], past_key_values=first.past_key_values, use_cache=True
        ).logits.square().mean().backward()
    for (name, mine), reference in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None, name
        assert_close(mine.grad, reference.grad, 2e-5)


@pytest.mark.parametrize("window", [2, 4, 100])
def test_a_sliding_window_equals_mistral(window):
    arguments = {**SMALL, "num_key_value_heads": 2, "sliding_window": window}
    theirs = randomize(transformers.MistralForCausalLM(transformers.MistralConfig(**arguments, head_dim=8)))
    ours = models.LlamaForCausalLM(models.LlamaConfig(**arguments)).eval()
    copy_weights(theirs, ours)
    ids = some_ids(2, 15)
    assert_close(outputs(ours, ids).logits, outputs(theirs, ids).logits)
    for chunks in ((1,) * 15, (2, 7, 1, 1, 4), (10, 1, 1, 1, 1, 1)):
        assert_close(stepwise(ours, ids, chunks), stepwise(theirs, ids, chunks))
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    got, expected = (
        outputs(ours, ids, attention_mask=mask).logits,
        outputs(theirs, ids, attention_mask=mask).logits,
    )
    assert_close(got[mask.bool()], expected[mask.bool()])


def test_the_dynamic_kind_remembers_the_greatest_length_as_transformers_does():
    theirs, ours = pair(**ROPES["dynamic"])
    for length in (30, 20, 12, 11, 20):
        ids = some_ids(1, length)
        assert_close(outputs(ours, ids).logits, outputs(theirs, ids).logits)


def test_greedy_continuation_is_the_same_over_64_tokens():
    theirs, ours = pair(num_key_value_heads=2, max_position_embeddings=128)
    ours.fuse()
    texts = []
    for model in (theirs, ours):
        ids, cache, text = some_ids(1, 5), None, []
        for _ in range(64):
            out = outputs(model, ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, ids = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
            text.append(int(ids))
        texts.append(text)
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 8
