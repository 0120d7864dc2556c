"""Texts, scores and beams are transformers', token for token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="generation needs torch")

from .conftest import CONFIGURATIONS  # noqa: E402

Pair = Callable[[str], tuple[Any, Any]]

#: Prompts of different length, padded on the left.
IDS = torch.tensor([[0, 0, 0, 17, 40, 21, 9], [12, 60, 33, 7, 44, 19, 25], [0, 55, 13, 31, 62, 8, 50]])
MASK = (IDS != 0).long()
MANY_ENDS = [2, 9, 11, 13, 15, 20, 21, 22, 30, 31, 40, 50]

SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "penalties": {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
    "least length": {"min_new_tokens": 8, "suppress_tokens": [5]},
    "beams": {"num_beams": 3},
    "beams, several returned": {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 2.0},
    "beams, early": {"num_beams": 2, "early_stopping": True},
    "beams, never early": {"num_beams": 3, "early_stopping": "never", "length_penalty": -1.0},
    "beams, penalties": {"num_beams": 3, "no_repeat_ngram_size": 2, "bad_words_ids": [[5], [6, 7]]},
    "beams, no cache": {"num_beams": 2, "use_cache": False},
    "beams, static cache": {"num_beams": 2, "cache_implementation": "static"},
}


def _both(
    pair: tuple[Any, Any], ids: Any, mask: Any, settings: dict[str, Any], new_tokens: int = 20
) -> tuple[Any, Any]:
    ours, theirs = pair
    common = {
        "attention_mask": mask,
        "max_new_tokens": new_tokens,
        "return_dict_in_generate": True,
        "output_scores": True,
        "output_logits": True,
        **settings,
    }
    return ours.generate(ids, **common), theirs.generate(ids, do_sample=False, disable_compile=True, **common)


def _check(found: Any, expected: Any) -> None:
    assert torch.equal(found.sequences, expected.sequences)
    assert len(found.scores) == len(expected.scores)
    for records in ("scores", "logits"):
        for step, other in zip(found[records], expected[records], strict=True):
            torch.testing.assert_close(step, other, rtol=1e-4, atol=1e-4)
    if "sequences_scores" in expected:
        torch.testing.assert_close(found.sequences_scores, expected.sequences_scores, rtol=1e-4, atol=1e-4)
        assert torch.equal(found.beam_indices, expected.beam_indices)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("ends", [2, MANY_ENDS], ids=["one end", "many ends"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_setting(pair: Pair, settings: dict[str, Any], ends: Any) -> None:
    _check(*_both(pair("gqa"), IDS, MASK, {"eos_token_id": ends, **settings}))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration(pair: Pair, name: str, settings: dict[str, Any]) -> None:
    ids = IDS[1:2]
    _check(*_both(pair(name), ids, torch.ones_like(ids), settings, new_tokens=64))


def test_speculation_gives_greedy_search(pair: Pair) -> None:
    ours, theirs = pair("gqa")
    ids = torch.tensor([[5, 6, 7, 8, 5, 6, 7, 8, 5, 6]])
    expected = theirs.generate(ids, max_new_tokens=50, do_sample=False)
    for settings in (
        {"prompt_lookup_num_tokens": 4},
        {"prompt_lookup_num_tokens": 1, "max_matching_ngram_size": 1},
        {"assistant_model": pair("mha")[0]},
        {"assistant_model": ours, "num_assistant_tokens": 5},
        {"assistant_model": pair("one layer")[0], "assistant_confidence_threshold": 0.0},
    ):
        found = ours.generate(ids, max_new_tokens=50, **settings)
        assert torch.equal(found, expected), settings


@pytest.mark.parametrize("ends", [2, MANY_ENDS], ids=["one end", "many ends"])
@pytest.mark.parametrize("new_tokens", [1, 2, 7, 30])
def test_speculation_ends_and_records_as_greedy_search(pair: Pair, ends: Any, new_tokens: int) -> None:
    ours, _ = pair("gqa")
    settings = {
        "max_new_tokens": new_tokens,
        "eos_token_id": ends,
        "repetition_penalty": 1.1,
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    expected = ours.generate(IDS[1:2], **settings)
    for drafts in (
        {"prompt_lookup_num_tokens": 4},
        {"assistant_model": pair("mha")[0]},
        {"assistant_model": ours},
    ):
        found = ours.generate(IDS[1:2], **drafts, **settings)
        assert torch.equal(found.sequences, expected.sequences)
        assert len(found.scores) == len(expected.scores)
        for step, other in zip(found.scores, expected.scores, strict=True):
            torch.testing.assert_close(step, other, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_defaults_are_transformers(pair: Pair) -> None:
    ours, theirs = pair("gqa")
    ids = IDS[1:2]
    assert torch.equal(ours.generate(ids), theirs.generate(ids))
    assert torch.equal(ours.generate(ids, max_length=12), theirs.generate(ids, max_length=12))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_embeddings_instead_of_ids(pair: Pair) -> None:
    ours, theirs = pair("gqa")
    embeds = ours.get_input_embeddings()(IDS[1:2]).detach()
    for settings in ({}, {"repetition_penalty": 1.3}, {"num_beams": 2}):
        found = ours.generate(inputs_embeds=embeds, max_new_tokens=9, **settings)
        expected = theirs.generate(inputs_embeds=embeds, max_new_tokens=9, do_sample=False, **settings)
        assert torch.equal(found, expected), settings
        if "num_beams" not in settings:
            drafted = ours.generate(
                inputs_embeds=embeds, max_new_tokens=9, prompt_lookup_num_tokens=3, **settings
            )
            assert torch.equal(drafted, expected), settings


def test_going_on_from_a_cache(pair: Pair) -> None:
    ours, _ = pair("gqa")
    ids = IDS[1:2]
    whole = ours.generate(ids, max_new_tokens=20, eos_token_id=None, return_dict_in_generate=True)
    first = ours.generate(ids, max_new_tokens=8, eos_token_id=None, return_dict_in_generate=True)
    # All tokens so far, or only those that the cache has not.
    legacy = first.past_key_values.to_legacy_cache()
    again = ours.generate(
        first.sequences, past_key_values=first.past_key_values, max_new_tokens=12, eos_token_id=None
    )
    assert torch.equal(again, whole.sequences)
    rest = ours.generate(
        first.sequences[:, -1:], past_key_values=legacy, max_new_tokens=12, eos_token_id=None
    )
    assert torch.equal(rest, whole.sequences[:, first.sequences.shape[1] - 1 :])
