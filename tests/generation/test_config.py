"""Settings: their bounds, contradictions, and files that transformers reads and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="generation needs torch")

from llamatok.generation import GenerationConfig, GenerationConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temprature": 1.0}, r"unknown generation argument `temprature`; did you mean `temperature`\?"),
        ({"zzz": 1}, r"unknown generation argument `zzz`$"),
        ({"guidance_scale": 1.5}, r"`guidance_scale` is not offered"),
        ({"max_new_tokens": 0}, r"`max_new_tokens`: expected a whole number of at least 1, got 0"),
        ({"max_new_tokens": 2.5}, r"`max_new_tokens`: expected a whole number of at least 1, got 2\.5"),
        ({"num_beams": True}, r"`num_beams`: expected a whole number"),
        ({"top_p": 1.5, "do_sample": True}, r"`top_p`: expected a number from 0 to 1, got 1\.5"),
        ({"temperature": 0.0, "do_sample": True}, r"`temperature`: expected a number above 0"),
        ({"temperature": float("nan"), "do_sample": True}, r"`temperature`: expected"),
        ({"temperature": float("inf"), "do_sample": True}, r"`temperature`: expected a finite number"),
        ({"do_sample": 1}, r"`do_sample`: expected True or False, got 1"),
        ({"early_stopping": "often", "num_beams": 2}, r"`early_stopping`: expected"),
        ({"cache_implementation": "quantised"}, r"`cache_implementation`: expected"),
        ({"bad_words_ids": []}, r"`bad_words_ids`: expected a non-empty list"),
        ({"bad_words_ids": [[]]}, r"`bad_words_ids`: expected a non-empty list"),
        ({"suppress_tokens": [-1]}, r"`suppress_tokens`: expected a list of ids"),
        ({"forced_eos_token_id": -1}, r"`forced_eos_token_id`: expected an id or a list of ids, got -1"),
        ({"forced_eos_token_id": []}, r"`forced_eos_token_id`: expected an id or a list of ids"),
        ({"forced_bos_token_id": "1"}, r"`forced_bos_token_id`: expected an id, got '1'"),
        ({"stop_strings": [""]}, r"`stop_strings`: expected non-empty strings"),
        ({"repetition_penalty": 0}, r"`repetition_penalty`: expected a number above 0"),
        ({"max_new_tokens": 10**30}, r"`max_new_tokens`: expected a whole number of at most 16777216"),
        ({"num_return_sequences": 2**31}, r"`num_return_sequences`: expected a whole number of at most 4096"),
        ({"max_time": 10**400}, r"`max_time`: expected seconds"),
        ({"stop_strings": 3}, r"`stop_strings`: expected non-empty strings, got 3"),
        ({"eos_token_id": 1.5}, r"`eos_token_id`: expected an id or a list of ids, got 1.5"),
        ({"eos_token_id": [[2]]}, r"`eos_token_id`: expected an id or a list of ids"),
        ({"pad_token_id": []}, r"`pad_token_id`: expected an id, got \[\]"),
        ({"bos_token_id": "1"}, r"`bos_token_id`: expected an id, got '1'"),
        ({"sequence_bias": [3]}, r"`sequence_bias`: expected sequences of ids, each with a number"),
        ({"sequence_bias": [[[3], "x"]]}, r"`sequence_bias`: expected sequences of ids"),
        ({"sequence_bias": {(): 1.0}}, r"`sequence_bias`: expected sequences of ids"),
        ({"max_length": 9, "max_new_tokens": 3}, r"contradictory.*`max_length` counts the prompt"),
        (
            {"min_new_tokens": 5, "max_new_tokens": 3},
            r"`min_new_tokens` \(5\) is above `max_new_tokens` \(3\)",
        ),
        ({"temperature": 0.7}, r"`temperature` has no effect without `do_sample=True`"),
        ({"top_p": 0.7, "do_sample": False}, r"`top_p` has no effect without `do_sample=True`"),
        ({"num_return_sequences": 2}, r"`num_return_sequences` \(2\) needs `do_sample=True` or `num_beams`"),
        ({"num_return_sequences": 4, "num_beams": 3}, r"is above `num_beams` \(3\)"),
        ({"length_penalty": 2.0}, r"`length_penalty` has no effect without `num_beams`"),
        ({"prompt_lookup_num_tokens": 3, "num_beams": 2}, r"does not go with `num_beams`"),
        ({"output_scores": True}, r"`output_scores` needs `return_dict_in_generate=True`"),
        ({"use_cache": False, "cache_implementation": "static"}, r"has no effect with `use_cache=False`"),
    ],
)
def test_bad_arguments_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GenerationConfigError, match=message):
        GenerationConfig().updated(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"temperature": 0.0, "do_sample": False},
        {"top_k": 50},
        {"guidance_scale": None, "num_beam_groups": 1},
        {"do_sample": True, "num_return_sequences": 3},
        {"num_beams": 3, "num_return_sequences": 3, "early_stopping": "never"},
    ],
)
def test_what_changes_nothing_is_no_contradiction(settings: dict[str, Any]) -> None:
    GenerationConfig().updated(**settings)


def test_a_call_overrules_the_files_length() -> None:
    assert GenerationConfig(max_length=10).updated(max_new_tokens=3).max_length is None
    assert GenerationConfig(max_new_tokens=10).updated(max_length=30).max_new_tokens is None


def test_a_files_settings_are_no_contradiction_of_the_call() -> None:
    # Checkpoints ship `temperature` and the like; a call that asks for greedy search is not to blame.
    config = GenerationConfig.from_dict({"do_sample": True, "temperature": 0.6, "top_p": 0.9})
    assert config.updated(do_sample=False).do_sample is False


def test_unknown_keys_of_a_file_are_kept_and_told(tmp_path: Path) -> None:
    content = {
        "do_sample": True,
        "top_k": None,
        "transformers_version": "4.40",
        "watermarking_config": {"bias": 1},
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"without effect here: `watermarking_config`$"):
        config = GenerationConfig.from_pretrained(tmp_path)
    assert config.do_sample
    assert config.top_k == 50
    config.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert again == {"do_sample": True, "transformers_version": "4.40", "watermarking_config": {"bias": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"generation_config\.json: not JSON"),
        ("[]", r"must hold a JSON object, not list"),
        ('{"top_p": 3}', r"generation_config\.json`: `top_p`: expected a number from 0 to 1, got 3"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(GenerationConfigError, match=message):
        GenerationConfig.from_pretrained(tmp_path)


def test_files_go_both_ways_with_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    settings: dict[str, Any] = {
        "do_sample": True,
        "temperature": 0.6,
        "top_k": 13,
        "top_p": 0.9,
        "max_new_tokens": 77,
        "repetition_penalty": 1.1,
        "eos_token_id": [2, 5],
        "pad_token_id": 0,
        "bos_token_id": 1,
        "sequence_bias": [[[3, 4], -1.5]],
    }
    GenerationConfig(**settings).save_pretrained(tmp_path / "ours")
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path / "ours")
    assert {name: getattr(theirs, name) for name in settings} == settings
    transformers.GenerationConfig(**settings).save_pretrained(tmp_path / "theirs")
    ours = GenerationConfig.from_pretrained(tmp_path / "theirs")
    assert {name: getattr(ours, name) for name in settings} == settings
