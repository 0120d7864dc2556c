"""The heads: their outputs, losses and pooled positions equal transformers'; records read as documented."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch.utils import _pytree

from llamatok import models
from llamatok.models.outputs import CausalLMOutputWithPast
from support.llama_models import SMALL, assert_close, pair, some_ids


def both(theirs, ours, *args, **kwargs):
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return theirs(*args, **kwargs), ours(*args, **kwargs)


def padded(side):
    ids, mask = torch.zeros(3, 9, dtype=torch.int64), torch.zeros(3, 9, dtype=torch.int64)
    for row, length in enumerate((9, 4, 1)):
        place = slice(9 - length, 9) if side == "left" else slice(0, length)
        ids[row, place], mask[row, place] = some_ids(1, length, seed=row)[0], 1
    return ids, mask


@pytest.mark.parametrize("side", ["left", "right"])
def test_language_model_losses(side):
    theirs, ours = pair(num_key_value_heads=2)
    ids, mask = padded(side)
    labels = ids.masked_fill(ids == 0, -100)
    for extra in (
        {},
        {"num_items_in_batch": 7},
        {"num_items_in_batch": torch.tensor(5)},
        {"shift_labels": labels.roll(-1, 1)},
    ):
        expected, got = both(theirs, ours, ids, attention_mask=mask, labels=labels, **extra)
        assert_close(got.loss, expected.loss)
    bare = ours(ids, attention_mask=mask, labels=labels, return_dict=False)
    assert_close(bare[0], ours(ids, attention_mask=mask, labels=labels).loss)


def test_the_loss_is_in_float32_and_all_ignored_labels_are_nan_as_in_torch():
    theirs, ours = pair(dtype=torch.bfloat16)
    ids = some_ids(2, 6)
    expected, got = both(theirs, ours, ids, labels=ids)
    assert got.loss.dtype == torch.float32
    assert_close(got.loss, expected.loss, 0.02)
    assert torch.isnan(ours(ids, labels=torch.full_like(ids, -100)).loss)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("labels", "settings", "remembered"),
    [
        (torch.tensor([0, 2, 1]), {"num_labels": 3}, "single_label_classification"),
        (torch.tensor([0.5, -1.0, 2.0]), {"num_labels": 1}, "regression"),
        (torch.eye(3), {"num_labels": 3}, "multi_label_classification"),
        (torch.randn(3, 3), {"num_labels": 3, "problem_type": "regression"}, "regression"),
    ],
    ids=["classes", "number", "several", "numbers"],
)
def test_sequence_classification(side, labels, settings, remembered):
    theirs, ours = pair("ForSequenceClassification", pad_token_id=0, **settings)
    ids, mask = padded(side)
    expected, got = both(theirs, ours, ids, attention_mask=mask, labels=labels)
    assert_close(got.logits, expected.logits)
    assert_close(got.loss, expected.loss)
    assert ours.config.problem_type == remembered
    embedded = theirs.get_input_embeddings()(ids)
    expected, got = both(theirs, ours, inputs_embeds=embedded, attention_mask=mask)
    assert_close(got.logits, expected.logits)


def test_sequence_classification_without_a_padding_token():
    theirs, ours = pair("ForSequenceClassification", num_labels=3)
    ids, mask = padded("right")
    expected, got = both(theirs, ours, ids[:1])
    assert_close(got.logits, expected.logits)
    alone = torch.cat(
        [both(theirs, ours, row[None, :length])[0].logits for row, length in zip(ids, (9, 4, 1), strict=True)]
    )
    assert_close(ours(ids, attention_mask=mask).logits, alone)
    whole = ours(some_ids(2, 4))  # the last of each row, as the documents say
    assert_close(whole.logits[:1], both(theirs, ours, some_ids(2, 4)[:1])[0].logits)


def test_sequence_classification_names_a_wrong_problem_type():
    _, ours = pair("ForSequenceClassification", problem_type="guessing")
    with pytest.raises(ValueError, match=r"`problem_type`.*'guessing'"):
        ours(some_ids(1, 3), labels=torch.tensor([0]))


def test_token_classification():
    theirs, ours = pair("ForTokenClassification", num_labels=5)
    ids = some_ids(2, 7)
    labels = torch.randint(0, 5, (2, 7))
    labels[0, :3] = -100
    expected, got = both(theirs, ours, ids, labels=labels)
    assert_close(got.logits, expected.logits)
    assert_close(got.loss, expected.loss)
    assert ours.score.bias is not None


@pytest.mark.parametrize(
    ("settings", "probability"),
    [({}, 0.1), ({"classifier_dropout": 0.3}, 0.3), ({"hidden_dropout": 0.2}, 0.2)],
)
def test_token_classification_takes_its_dropout_from_the_configuration(settings, probability):
    assert pair("ForTokenClassification", **settings)[1].dropout.p == probability


def test_question_answering():
    theirs, ours = pair("ForQuestionAnswering", num_key_value_heads=2)
    ids = some_ids(3, 7)
    start, end = torch.tensor([0, 2, 40]), torch.tensor([[3], [6], [-1]])
    expected, got = both(theirs, ours, ids, start_positions=start, end_positions=end)
    assert_close(got.start_logits, expected.start_logits)
    assert_close(got.end_logits, expected.end_logits)
    assert_close(got.loss, expected.loss)
    assert all(key.startswith(("transformer.", "qa_outputs.")) for key in ours.state_dict())
    assert ours.get_input_embeddings() is ours.transformer.embed_tokens


@pytest.mark.parametrize(
    "head", ["ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]
)
def test_outputs_have_the_same_keys_in_the_same_order(head):
    theirs, ours = pair(head)
    theirs.set_attn_implementation("eager")
    ids = some_ids(1, 4)
    for kwargs in ({}, {"output_hidden_states": True, "output_attentions": True}):
        expected, got = both(theirs, ours, ids, **kwargs)
        assert list(got.keys()) == list(expected.keys())
        assert list(got) == list(expected)
        got_tuple = both(theirs, ours, ids, return_dict=False, **kwargs)[1]
        assert isinstance(got_tuple, tuple)
        assert len(got_tuple) == len(expected.to_tuple())


def test_records_are_read_by_attribute_key_and_index():
    _, ours = pair()
    out = ours(some_ids(1, 4), use_cache=False)
    assert out["logits"] is out.logits is out[0] is out[-1]
    assert out.loss is None
    assert "loss" not in out
    assert out.get("loss", 5) == 5
    assert out[:1] == (out.logits,)
    assert len(out) == 1
    assert dict(out.items()).keys() == {"logits"}
    with pytest.raises(KeyError):
        out["loss"]
    out["loss"] = torch.tensor(1.0)
    assert out[0] is out.loss
    leaves, spec = _pytree.tree_flatten(CausalLMOutputWithPast(logits=torch.ones(2)))
    assert torch.equal(_pytree.tree_unflatten(leaves, spec).logits, torch.ones(2))


def test_the_configuration_says_what_to_return():
    _, ours = pair(output_hidden_states=True, return_dict=False, use_cache=False)
    logits, states = ours(some_ids(1, 4))
    assert logits.shape == (1, 4, 61)
    assert len(states) == 3


def test_arguments_that_make_no_sense_are_named():
    _, ours = pair()
    ids = some_ids(2, 4)
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        ours()
    with pytest.raises(ValueError, match="exactly one"):
        ours(ids, inputs_embeds=torch.zeros(2, 4, 32))
    with pytest.raises(ValueError, match=r"\(batch, past \+ new tokens\), here \(2, 4\), got \(2, 3\)"):
        ours(ids, attention_mask=torch.ones(2, 3))
    with pytest.raises(ValueError, match="4-D `attention_mask`"):
        ours(ids, attention_mask=torch.ones(2, 1, 4, 5))
    with pytest.raises(TypeError, match="`lables`"):
        ours(ids, lables=ids)
    with pytest.raises(TypeError, match="cannot generate"):
        pair("Model")[1].generate(ids)


def test_training_makes_the_loss_fall():
    config = models.LlamaConfig(**{**SMALL, "num_key_value_heads": 2, "attention_dropout": 0.1})
    model = models.LlamaForCausalLM(config).train()
    ids = some_ids(4, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_gradient_checkpointing_keeps_no_cache_and_says_so():
    _, ours = pair()
    ours.gradient_checkpointing_enable({"preserve_rng_state": False})
    assert ours.is_gradient_checkpointing
    ids = some_ids(1, 4)
    assert ours(ids, use_cache=True).past_key_values is not None  # in evaluation nothing changes
    ours.train()
    with pytest.warns(UserWarning, match="no cache is kept"):
        assert ours(ids, use_cache=True).past_key_values is None
    ours.gradient_checkpointing_disable()
    assert ours(ids, use_cache=True).past_key_values is not None


def test_pretraining_slices_give_the_same_sums():
    _, ours = pair(attention_bias=True, mlp_bias=True)
    sliced = models.LlamaForCausalLM(
        models.LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True, pretraining_tp=4)
    )
    sliced.load_state_dict(ours.state_dict())
    ids = some_ids(2, 6)
    with torch.no_grad():
        assert_close(sliced.eval()(ids).logits, ours(ids).logits)


def test_a_copy_of_a_model_is_apart():
    _, ours = pair()
    ours.fuse()
    other = copy.deepcopy(ours)
    ids = some_ids(1, 4)
    expected = ours(ids).logits
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(ours(ids).logits, expected)
