"""Draws follow the distribution that they should, with and without drafts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="generation needs torch")

Pair = Callable[[str], tuple[Any, Any]]

PROMPT = torch.tensor([[12, 60, 33, 7, 44]])
#: Few enough tokens that each is drawn often.
SETTINGS = {"do_sample": True, "top_k": 6, "temperature": 1.5, "eos_token_id": None}
DRAWS = 4000


def _expected(model: Any, ids: Any) -> Any:
    """Probabilities of the next token under SETTINGS."""
    with torch.no_grad():
        scores = model(ids).logits[:, -1] / SETTINGS["temperature"]
    least = scores.topk(SETTINGS["top_k"]).values[:, -1:]
    return scores.masked_fill(scores < least, -torch.inf).softmax(-1)


def _improbability(counts: Any, probabilities: Any) -> float:
    """Chi-square, by its degrees of freedom: about 1 where the counts follow the probabilities."""
    kept = probabilities > 0
    assert counts[~kept].sum() == 0, "a token that cannot be drawn was drawn"
    expected = probabilities[kept] * counts.sum()
    chi_square = ((counts[kept] - expected) ** 2 / expected).sum()
    return float(chi_square / max(1, int(kept.sum()) - 1))


def _pairs(sequences: Any) -> dict[int, Any]:
    """Counts of the second new token, by the first."""
    found: dict[int, Any] = {}
    for first, second in sequences[:, PROMPT.shape[1] : PROMPT.shape[1] + 2].tolist():
        found.setdefault(first, torch.zeros(64))[second] += 1
    return found


def _check(model: Any, sequences: Any) -> None:
    pairs = _pairs(sequences)
    firsts = torch.zeros(64)
    for first, seconds in pairs.items():
        firsts[first] = seconds.sum()
    # One in ten thousand draws of chi-square with 5 degrees is above 5.2 times its degrees.
    assert _improbability(firsts, _expected(model, PROMPT)[0]) < 5.2
    for first, seconds in pairs.items():
        if seconds.sum() > 100:
            ids = torch.cat((PROMPT, torch.tensor([[first]])), dim=1)
            assert _improbability(seconds, _expected(model, ids)[0]) < 5.2


@pytest.fixture
def model(pair: Pair) -> Any:
    """The smallest model, since many texts are made."""
    return pair("one layer")[0]


def test_plain_draws(model: Any) -> None:
    _check(
        model,
        model.generate(PROMPT, max_new_tokens=2, num_return_sequences=DRAWS, seed=1, **SETTINGS),
    )


@pytest.mark.parametrize("drafts", ["a worse model", "the model itself", "look-up"])
def test_draws_with_drafts(pair: Pair, model: Any, drafts: str) -> None:
    settings: dict[str, Any] = {
        "a worse model": {"assistant_model": pair("mqa")[0], "num_assistant_tokens": 3},
        "the model itself": {"assistant_model": model, "num_assistant_tokens": 3},
        "look-up": {"prompt_lookup_num_tokens": 2, "max_matching_ngram_size": 1},
    }[drafts]
    generator = torch.Generator().manual_seed(2)
    rows = [
        model.generate(PROMPT, max_new_tokens=3, generator=generator, **SETTINGS, **settings)
        for _ in range(400)
    ]
    _check(model, torch.cat(rows))


def test_a_seed_makes_draws_repeatable(model: Any) -> None:
    settings = {"max_new_tokens": 12, **SETTINGS}
    first = model.generate(PROMPT, seed=5, **settings)
    assert torch.equal(first, model.generate(PROMPT, seed=5, **settings))
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(first, model.generate(PROMPT, generator=generator, **settings))
    assert not torch.equal(first, model.generate(PROMPT, generator=generator, **settings))


def test_beams_can_be_drawn(model: Any) -> None:
    drawn = {
        tuple(model.generate(PROMPT, max_new_tokens=6, num_beams=3, seed=seed, **SETTINGS)[0].tolist())
        for seed in range(6)
    }
    assert len(drawn) > 1
