"""Embeddings: resizing, the padding recipe, tying, starting values; and what every model tells of itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llamatok.models import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    convert_to_grouped_query,
)
from llamatok.models.base import no_init_weights
from llamatok.models.layers import replace_linears
from support.llama_models import SMALL, assert_close, pair, some_ids


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [70, 61, 40])
def test_resizing_keeps_rows_and_head_and_configuration_in_step(tied, count):
    theirs, ours = pair(tie_word_embeddings=tied)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    theirs.resize_token_embeddings(count)
    embedding = ours.resize_token_embeddings(count)
    assert embedding is ours.get_input_embeddings()
    assert embedding.num_embeddings == ours.config.vocab_size == count
    assert (ours.lm_head.weight is embedding.weight) == tied
    state = ours.state_dict()
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }
    kept = min(count, 61)
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(state[key][:kept], before[key][:kept])
    ids = some_ids(2, 5) % kept
    assert_close(ours(ids).logits[..., :kept], theirs(ids).logits[..., :kept])
    assert ours(ids, labels=ids).loss.isfinite()


def test_new_rows_are_about_the_mean_or_start_afresh():
    _, ours = pair()
    mean = ours.get_input_embeddings().weight.detach().mean(dim=0)
    ours.resize_token_embeddings(80)
    assert torch.allclose(ours.get_input_embeddings().weight[61:], mean.expand(19, -1), atol=1e-3)
    ours.resize_token_embeddings(2000, mean_resizing=False)
    assert float(ours.get_input_embeddings().weight[80:].detach().std()) == pytest.approx(0.02, rel=0.05)


def test_resizing_rounds_up_to_a_multiple():
    _, ours = pair()
    assert ours.resize_token_embeddings(pad_to_multiple_of=64).num_embeddings == 64
    assert ours.resize_token_embeddings(65, pad_to_multiple_of=8).num_embeddings == 72
    assert ours.resize_token_embeddings().num_embeddings == 72
    for wrong in ({"new_num_tokens": 0}, {"new_num_tokens": 1.5}, {"pad_to_multiple_of": 0}):
        with pytest.raises(ValueError, match="whole number of at least 1"):
            ours.resize_token_embeddings(**wrong)


def test_the_padding_recipe():
    """A `<pad>` token is added: its row is zeros, gets no gradient, and the classifier looks past it."""
    _, ours = pair("ForSequenceClassification")
    embedding = ours.resize_token_embeddings(62, pad_token_id=61)
    assert ours.config.pad_token_id == embedding.padding_idx == 61
    assert not embedding(torch.tensor([61])).any()
    ids = torch.tensor([[5, 6, 7, 61, 61], [5, 6, 7, 8, 9]])
    mask = (ids != 61).long()
    logits = ours(ids, attention_mask=mask).logits
    assert_close(logits[:1], ours(ids[:1, :3]).logits)
    ours(ids, labels=torch.tensor([0, 1])).loss.backward()
    assert not embedding.weight.grad[61].any()
    with pytest.raises(ValueError, match="`pad_token_id` 99 is no row"):
        ours.resize_token_embeddings(62, pad_token_id=99)


def test_the_padding_recipe_with_the_configuration_set_first():
    config = LlamaConfig(**{**SMALL, "vocab_size": 62}, pad_token_id=61)
    assert not LlamaModel(config).embed_tokens(torch.tensor([61])).any()
    _, ours = pair()
    ours.config.pad_token_id = 61
    embedding = ours.resize_token_embeddings(62)
    assert embedding.padding_idx == 61
    assert not embedding.weight[61].any()
    with pytest.raises(ValueError, match="`pad_token_id` is 61"):
        LlamaModel(LlamaConfig(**SMALL, pad_token_id=61))
    with pytest.warns(UserWarning, match="no row of an embedding of 50"):
        assert ours.resize_token_embeddings(50).padding_idx is None


def test_a_negative_padding_token_is_none_at_all():
    assert LlamaModel(LlamaConfig(**SMALL, pad_token_id=-1)).embed_tokens.padding_idx is None


def test_a_loaded_padding_row_is_kept():
    _, ours = pair(pad_token_id=3)
    assert ours.get_input_embeddings().weight[3].any()


def test_embeddings_and_heads_are_got_set_and_tied():
    _, ours = pair(tie_word_embeddings=True)
    embedding, head = nn.Embedding(61, 32), nn.Linear(32, 61, bias=False)
    ours.set_input_embeddings(embedding)
    assert ours.get_input_embeddings() is embedding
    assert ours.get_output_embeddings().weight is embedding.weight
    ours.set_output_embeddings(head)
    assert ours.get_output_embeddings() is head
    ours.tie_weights()
    assert head.weight is embedding.weight
    _, classifier = pair("ForSequenceClassification")
    assert classifier.get_output_embeddings() is None
    with pytest.raises(AttributeError, match="no head over the vocabulary"):
        classifier.set_output_embeddings(head)


def test_starting_values():
    torch.manual_seed(0)
    config = LlamaConfig(**{**SMALL, "vocab_size": 4000}, attention_bias=True, pad_token_id=5)
    model = LlamaForCausalLM(config)
    assert float(model.lm_head.weight.detach().std()) == pytest.approx(0.02, rel=0.03)
    assert float(model.model.layers[1].mlp.up_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not model.model.layers[0].self_attn.q_proj.bias.any()
    assert not model.model.embed_tokens.weight[5].any()
    assert torch.equal(model.model.norm.weight, torch.ones(32))
    with torch.device("meta"), no_init_weights():
        empty = LlamaForCausalLM(config)
    assert empty.device.type == "meta"
    empty.to_empty(device="cpu").init_weights()
    assert float(empty.lm_head.weight.detach().std()) == pytest.approx(0.02, rel=0.03)
    assert torch.equal(empty.model.norm.weight, torch.ones(32))


def test_what_a_model_tells_of_itself():
    theirs, ours = pair(tie_word_embeddings=True)
    assert ours.num_parameters() == theirs.num_parameters()
    assert ours.num_parameters(exclude_embeddings=True) == ours.num_parameters() - 61 * 32
    ours.model.norm.weight.requires_grad_(False)
    assert ours.num_parameters(only_trainable=True) == ours.num_parameters() - 32
    assert ours.get_memory_footprint() == 4 * ours.num_parameters()
    assert ours.device == torch.device("cpu")
    assert ours.to(torch.bfloat16).dtype == torch.bfloat16
    assert ours.base_model is ours.model
    assert ours.model.base_model is ours.model
    assert ours.can_generate()
    assert not ours.model.can_generate()


def test_data_types_follow_torchs_default_unless_one_is_given():
    config = LlamaConfig(**SMALL, dtype="float16")
    assert LlamaForCausalLM.from_config(config).dtype == torch.float32
    model = LlamaForCausalLM.from_config(config, dtype="bfloat16", attn_implementation="eager")
    assert model.dtype == torch.bfloat16
    assert model.config.attn_implementation == "eager"


def test_grouped_query_conversion_pools_the_heads_of_a_group():
    _, ours = pair(attention_bias=True)
    ids = some_ids(2, 6)
    expected = ours(ids).logits
    converted = convert_to_grouped_query(ours, 2)
    assert converted.config.num_key_value_heads == 2
    assert ours.config.num_key_value_heads == 4
    assert torch.equal(ours(ids).logits, expected)
    before, after = ours.model.layers[1].self_attn, converted.model.layers[1].self_attn
    for name in ("k_proj", "v_proj"):
        old, new = getattr(before, name), getattr(after, name)
        assert torch.allclose(new.weight[:8], (old.weight[:8] + old.weight[8:16]) / 2, atol=1e-6)
        assert torch.allclose(new.bias[8:], (old.bias[16:24] + old.bias[24:]) / 2, atol=1e-6)
    converted.save = None
    assert converted(ids).logits.isfinite().all()
    again = convert_to_grouped_query(converted.fuse(), 1)
    assert again.config.num_key_value_heads == 1
    assert again.model.layers[0].self_attn.is_fused
    with pytest.raises(ValueError, match="must divide the model's 4"):
        convert_to_grouped_query(ours, 3)


def test_conversion_to_groups_of_equal_heads_changes_nothing():
    _, ours = pair(num_key_value_heads=4)
    with torch.no_grad():
        for layer in ours.model.layers:
            for part in (layer.self_attn.k_proj, layer.self_attn.v_proj):
                heads = part.weight.view(4, 8, 32)
                heads[1], heads[3] = heads[0], heads[2]
    ids = some_ids(2, 6)
    assert_close(convert_to_grouped_query(ours, 2)(ids).logits, ours(ids).logits)


def test_linear_layers_can_be_replaced():
    class Doubled(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return 2 * self.layer(x)

    _, ours = pair()
    ids = some_ids(1, 4)
    expected = 2 * ours(ids).logits
    seen = []
    changed = replace_linears(
        ours, lambda name, layer: seen.append(name) or (Doubled(layer) if name == "lm_head" else None)
    )
    assert changed == 1
    assert "model.layers.1.self_attn.q_proj" in seen
    assert torch.equal(ours(ids).logits, expected)
    replace_linears(ours, lambda name, layer: Doubled(layer) if "q_proj" in name else None)
    with pytest.raises(ValueError, match="`q_proj` is a Doubled"):
        ours.fuse()


def test_a_classifier_is_fused_and_saved_with_the_same_names():
    model = LlamaForSequenceClassification(LlamaConfig(**SMALL))
    names = list(model.state_dict())
    assert sorted(model.fuse().state_dict()) == sorted(names)
    assert model.fuse().model.layers[0].self_attn.is_fused
