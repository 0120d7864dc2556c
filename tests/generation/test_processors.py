"""Each processor gives what transformers' gives, on random scores with ties and infinities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="generation needs torch")
theirs = pytest.importorskip(
    "transformers.generation.logits_process", reason="transformers is what processors are compared with"
)

from llamatok.generation import GenerationConfig, GenerationConfigError, processors  # noqa: E402

ROWS, VOCABULARY, LENGTH = 4, 50, 12


def _scores(seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn((ROWS, VOCABULARY), generator=generator) * 3
    if seed % 3 == 1:  # ties
        scores = scores.round()
    if seed % 3 == 2:  # tokens that an earlier processor has forbidden
        scores[:, ::5] = -math.inf
    return scores


def _ids(seed: int) -> Any:
    return torch.randint(0, 9, (ROWS, LENGTH), generator=torch.Generator().manual_seed(seed))


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "temperature": (lambda: processors.temperature(0.7), lambda: theirs.TemperatureLogitsWarper(0.7)),
    "top_k": (lambda: processors.top_k(5), lambda: theirs.TopKLogitsWarper(5)),
    "top_k, all": (lambda: processors.top_k(500), lambda: theirs.TopKLogitsWarper(500)),
    "top_k, two kept": (
        lambda: processors.top_k(1, keep=2),
        lambda: theirs.TopKLogitsWarper(1, min_tokens_to_keep=2),
    ),
    "top_p": (lambda: processors.top_p(0.8), lambda: theirs.TopPLogitsWarper(0.8)),
    "top_p, none": (lambda: processors.top_p(0.0), lambda: theirs.TopPLogitsWarper(0.0)),
    "top_p, three kept": (
        lambda: processors.top_p(0.1, keep=3),
        lambda: theirs.TopPLogitsWarper(0.1, min_tokens_to_keep=3),
    ),
    "min_p": (lambda: processors.min_p(0.2), lambda: theirs.MinPLogitsWarper(0.2)),
    "min_p, three kept": (
        lambda: processors.min_p(0.9, keep=3),
        lambda: theirs.MinPLogitsWarper(0.9, min_tokens_to_keep=3),
    ),
    "typical_p": (lambda: processors.typical_p(0.6), lambda: theirs.TypicalLogitsWarper(0.6)),
    "epsilon_cutoff": (lambda: processors.epsilon_cutoff(0.02), lambda: theirs.EpsilonLogitsWarper(0.02)),
    "eta_cutoff": (lambda: processors.eta_cutoff(0.02), lambda: theirs.EtaLogitsWarper(0.02)),
    "repetition_penalty": (
        lambda: processors.repetition_penalty(1.7),
        lambda: theirs.RepetitionPenaltyLogitsProcessor(1.7),
    ),
    "repetition_penalty, padded": (
        lambda: processors.repetition_penalty(1.7, torch.tensor([0, 3, 11, 1])),
        lambda: theirs.RepetitionPenaltyLogitsProcessor(1.7, torch.tensor([0, 3, 11, 1])),
    ),
    "no_repeat_ngram, 1": (
        lambda: processors.no_repeat_ngram(1),
        lambda: theirs.NoRepeatNGramLogitsProcessor(1),
    ),
    "no_repeat_ngram, 2": (
        lambda: processors.no_repeat_ngram(2),
        lambda: theirs.NoRepeatNGramLogitsProcessor(2),
    ),
    "no_repeat_ngram, 3": (
        lambda: processors.no_repeat_ngram(3),
        lambda: theirs.NoRepeatNGramLogitsProcessor(3),
    ),
    "no_repeat_ngram, too long": (
        lambda: processors.no_repeat_ngram(LENGTH + 2),
        lambda: theirs.NoRepeatNGramLogitsProcessor(LENGTH + 2),
    ),
    "bad_words": (
        lambda: processors.no_bad_words([[3], [1, 4], [2, 3, 5], [7]], eos=[7]),
        lambda: theirs.NoBadWordsLogitsProcessor([[3], [1, 4], [2, 3, 5], [7]], eos_token_id=7),
    ),
    "sequence_bias": (
        lambda: processors.sequence_bias({(3,): 2.5, (1, 4): -1.0, (2, 4): -0.5}),
        lambda: theirs.SequenceBiasLogitsProcessor({(3,): 2.5, (1, 4): -1.0, (2, 4): -0.5}),
    ),
    "suppress_tokens": (
        lambda: processors.suppress_tokens([1, 5]),
        lambda: theirs.SuppressTokensLogitsProcessor([1, 5]),
    ),
    "begin_suppress_tokens": (
        lambda: processors.begin_suppress_tokens([1, 5], LENGTH),
        lambda: theirs.SuppressTokensAtBeginLogitsProcessor([1, 5], LENGTH),
    ),
    "min_length": (
        lambda: processors.min_length(LENGTH + 1, [2, 3]),
        lambda: theirs.MinLengthLogitsProcessor(LENGTH + 1, [2, 3]),
    ),
    "min_length, reached": (
        lambda: processors.min_length(LENGTH, [2]),
        lambda: theirs.MinLengthLogitsProcessor(LENGTH, 2),
    ),
    "forced_eos": (
        lambda: processors.forced_eos(LENGTH + 1, [2, 3]),
        lambda: theirs.ForcedEOSTokenLogitsProcessor(LENGTH + 1, [2, 3]),
    ),
    "renormalize": (lambda: processors.renormalize(), lambda: theirs.LogitNormalization()),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("seed", range(6))
def test_equals_transformers(name: str, seed: int) -> None:
    ours, theirs_ = (make() for make in PAIRS[name])
    ids, scores = _ids(seed), _scores(seed)
    before = scores.clone()
    found = ours(ids, scores)
    assert torch.equal(scores, before), "the scores given are left as they were"
    torch.testing.assert_close(found, theirs_(ids, before), rtol=1e-6, atol=1e-6)


def test_forced_bos_holds_for_the_second_token_only() -> None:
    scores = _scores(0)
    forced = processors.forced_bos(7)(torch.zeros((ROWS, 1), dtype=torch.int64), scores)
    assert forced.argmax(dim=-1).tolist() == [7] * ROWS
    assert processors.forced_bos(7)(_ids(0), scores) is scores


def test_invalid_values_become_finite() -> None:
    scores = torch.tensor([[math.nan, math.inf, -math.inf, 1.0]])
    found = processors.remove_invalid_values()(torch.zeros((1, 1), dtype=torch.int64), scores)
    assert found.isfinite().all()
    assert found[0, 0] == 0
    assert found[0, 3] == 1


def test_a_forbidden_id_beyond_the_vocabulary_is_an_error() -> None:
    with pytest.raises(GenerationConfigError, match=r"id 50: the vocabulary has 50 tokens"):
        processors.no_bad_words([[1, VOCABULARY]])(_ids(0), _scores(0))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_sample": True},
        {"do_sample": True, "temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.9},
        {"do_sample": True, "num_beams": 3, "temperature": 2.0, "top_k": 1, "top_p": 0.1},
        {"do_sample": True, "epsilon_cutoff": 0.01, "eta_cutoff": 0.01, "renormalize_logits": True},
        {
            "repetition_penalty": 1.3,
            "no_repeat_ngram_size": 2,
            "bad_words_ids": [[1], [2, 3]],
            "min_new_tokens": 4,
        },
        {"min_length": 20, "suppress_tokens": [4], "begin_suppress_tokens": [5], "forced_eos_token_id": 2},
        {"sequence_bias": [[[3], 1.0], [[1, 4], -1.0]], "remove_invalid_values": True},
    ],
)
def test_the_whole_chain_equals_transformers(settings: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    settings = {"eos_token_id": 2, "pad_token_id": 0, "max_length": LENGTH + 1, **settings}
    ours = processors.build_processors(GenerationConfig(**settings), LENGTH, LENGTH + 1)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
        )
    )
    # Defaults that transformers fills in within `generate`.
    config = transformers.GenerationConfig(**{"top_k": 50, **settings})
    if config.min_new_tokens is not None:
        config.min_length = None
    model._prepare_special_tokens(config, kwargs_has_attention_mask=True, device="cpu")
    chain = model._get_logits_processor(config, input_ids_seq_length=LENGTH, device="cpu", model_kwargs={})
    if settings.get("renormalize_logits"):
        assert isinstance(chain[-1], theirs.LogitNormalization)
    for seed in range(3):
        ids, scores = _ids(seed), _scores(seed)
        torch.testing.assert_close(ours(ids, scores), chain(ids, scores.clone()), rtol=1e-6, atol=1e-6)
