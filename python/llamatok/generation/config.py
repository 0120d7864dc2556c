"""The settings of generation, with the names and defaults that people know from transformers 5."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import ItemsView, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llamatok._limited import read_object

__all__ = ["CONFIG_NAME", "GenerationConfig", "GenerationConfigError"]

CONFIG_NAME = "generation_config.json"

#: Keys of transformers' files that describe the file, not the generation.
_METADATA = frozenset({"transformers_version", "_from_model_config", "_commit_hash"})

#: Settings of transformers that are not offered: a file may hold them, a call may not.
_NOT_OFFERED = frozenset(
    {
        "assistant_early_exit",
        "assistant_ensemble_weight",
        "assistant_lookbehind",
        "cache_config",
        "compile_config",
        "constraints",
        "continuous_batching_config",
        "decoder_start_token_id",
        "disable_compile",
        "diversity_penalty",
        "dola_layers",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "exponential_decay_length_penalty",
        "force_words_ids",
        "guidance_scale",
        "is_assistant",
        "low_memory",
        "max_cache_len",
        "num_assistant_tokens_schedule",
        "num_beam_groups",
        "penalty_alpha",
        "prefill_chunk_size",
        "speculation_type",
        "target_lookbehind",
        "token_healing",
        "top_h",
        "use_mtp",
        "watermarking_config",
    }
)

#: What these settings hold where they are switched off.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (1.0, 0.0),
    "top_k": (0, 50),
    "top_p": (1.0,),
    "min_p": (0.0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "length_penalty": (1.0,),
    "early_stopping": (False,),
    "diversity_penalty": (0.0,),
    "num_beam_groups": (1,),
    "guidance_scale": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "encoder_no_repeat_ngram_size": (0,),
    "low_memory": (False,),
    "token_healing": (False,),
    "is_assistant": (False,),
    "disable_compile": (False,),
}
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
_BEAMS = ("length_penalty", "early_stopping")


class GenerationConfigError(ValueError):
    """A setting of generation that is unknown, out of its range, or at odds with another one."""


@dataclass
class GenerationConfig:
    """How text is generated; every field may be given to `generate` by its name.

    The names, defaults and meanings are those of `transformers.GenerationConfig` 5.x. Keys of a file that are
    not fields are kept in `extra`, and written back.

    Raises:
        GenerationConfigError: a value is out of its range.
    """

    # Length, in tokens; `max_length` and `min_length` count the prompt.
    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    max_time: float | None = None
    stop_strings: str | list[str] | None = None
    early_stopping: bool | Literal["never"] = False

    # Strategy.
    do_sample: bool = False
    num_beams: int = 1
    num_return_sequences: int = 1
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int = 2
    num_assistant_tokens: int = 20
    assistant_confidence_threshold: float = 0.4

    # Cache.
    use_cache: bool = True
    cache_implementation: Literal["dynamic", "static"] | None = None

    # Logits.
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: list[list[int]] | None = None
    sequence_bias: Mapping[tuple[int, ...], float] | list[list[Any]] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    renormalize_logits: bool = False
    remove_invalid_values: bool = False

    # Output.
    output_scores: bool = False
    output_logits: bool = False
    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict_in_generate: bool = False

    # Tokens.
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Checks each value by itself.

        Raises:
            GenerationConfigError: naming the field, its value and its range.
        """
        for name in _SWITCHES:
            _check(self, name, isinstance(getattr(self, name), bool), "True or False")
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if value is not None or name in _NEEDED:
                _check(self, name, _is_whole(value) and value >= least, f"a whole number of at least {least}")
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            _check(self, name, value is None or value <= most, f"a whole number of at most {most}")
        for name, (low, high, text) in _RANGES.items():
            value = getattr(self, name)
            if value is not None or name in _NEEDED:
                _check(self, name, _is_number(value) and low <= value <= high, text)
        _check(self, "repetition_penalty", self.repetition_penalty > 0, "a number above 0")
        _check(self, "typical_p", self.typical_p > 0, "a number above 0, at most 1")
        if self.do_sample:
            _check(self, "temperature", self.temperature > 0, "a number above 0 (do_sample=False is greedy)")
        _check(
            self, "early_stopping", self.early_stopping in (True, False, "never"), 'True, False or "never"'
        )
        _check(
            self,
            "cache_implementation",
            self.cache_implementation in (None, "dynamic", "static"),
            '"dynamic" or "static"',
        )
        stops = [self.stop_strings] if isinstance(self.stop_strings, str) else self.stop_strings or []
        texts = isinstance(stops, (list, tuple)) and all(isinstance(stop, str) and stop for stop in stops)
        _check(self, "stop_strings", texts, "non-empty strings")
        bad = self.bad_words_ids
        if bad is not None:
            proper = isinstance(bad, list) and bad and all(_is_ids(ids) and ids for ids in bad)
            _check(self, "bad_words_ids", bool(proper), "a non-empty list of non-empty lists of ids")
        _check(self, "sequence_bias", _is_biases(self.sequence_bias), "sequences of ids, each with a number")
        for name in ("bos_token_id", "pad_token_id"):
            value = getattr(self, name)
            _check(self, name, value is None or _is_token(value), "an id")
        ends = self.eos_token_id if isinstance(self.eos_token_id, (list, tuple)) else [self.eos_token_id]
        are_tokens = self.eos_token_id is None or all(_is_token(id) for id in ends)
        _check(self, "eos_token_id", are_tokens, "an id or a list of ids")
        first, last = self.forced_bos_token_id, self.forced_eos_token_id
        _check(self, "forced_bos_token_id", first is None or _is_ids([first]), "an id")
        whole = last if isinstance(last, (list, tuple)) else [last]
        proper = last is None or (_is_ids(whole) and len(whole) > 0)
        _check(self, "forced_eos_token_id", proper, "an id or a list of ids")
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            value = getattr(self, name)
            _check(self, name, value is None or _is_ids(value), "a list of ids")

    def updated(self, **settings: Any) -> GenerationConfig:
        """A copy with other settings, as `generate` makes one of its arguments.

        Raises:
            GenerationConfigError: a name is unknown or not offered, a value is out of its range, or two of
                the given settings contradict each other.
        """
        _check_names(settings)
        merged = dataclasses.replace(self, **{k: v for k, v in settings.items() if k in _FIELDS})
        if "max_new_tokens" in settings and "max_length" not in settings:
            merged.max_length = None
        if "max_length" in settings and "max_new_tokens" not in settings:
            merged.max_new_tokens = None
        _check_together(merged, settings)
        return merged

    def to_dict(self) -> dict[str, Any]:
        """The settings that differ from the defaults, and the keys kept in `extra`."""
        own = {
            name: getattr(self, name)
            for name, default in _DEFAULTS.items()
            if getattr(self, name) != default and name != "extra"
        }
        if isinstance(bias := own.get("sequence_bias"), Mapping):
            own["sequence_bias"] = [[list(ids), value] for ids, value in bias.items()]
        return {**self.extra, **own}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> GenerationConfig:
        """Reads the content of a `generation_config.json`.

        None stands for the default. Keys that are not offered are kept, with a warning where they would
        change what is generated.

        Raises:
            GenerationConfigError: a value is out of its range.
        """
        own = {k: v for k, v in settings.items() if k in _FIELDS and v is not None}
        extra = {k: v for k, v in settings.items() if k not in _FIELDS}
        ignored = sorted(k for k in extra if k not in _METADATA and not _is_neutral(k, extra[k]))
        if ignored:
            names = ", ".join(f"`{name}`" for name in ignored)
            warnings.warn(f"generation settings without effect here: {names}", stacklevel=2)
        return cls(**own, extra=extra)

    @classmethod
    def from_model_config(cls, config: Any) -> GenerationConfig:
        """The defaults, with the special tokens of a model's configuration."""
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        ids: dict[str, Any] = {name: getattr(config, name, None) for name in names}
        # Checkpoints of Meta's have -1 for no padding token.
        return cls(**{name: id for name, id in ids.items() if not (isinstance(id, int) and id < 0)})

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], **settings: Any) -> GenerationConfig:
        """Reads `generation_config.json` of a folder (or the file itself), then applies `settings`.

        Raises:
            FileNotFoundError: there is no such file.
            GenerationConfigError: it is no JSON object, or a setting is bad.
        """
        path = Path(folder)
        if path.is_dir():
            path /= CONFIG_NAME
        try:
            content = read_object(path)
        except ValueError as error:
            raise GenerationConfigError(str(error)) from None
        try:
            config = cls.from_dict(content)
        except GenerationConfigError as error:
            raise GenerationConfigError(f"`{path}`: {error}") from None
        return config.updated(**settings) if settings else config

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Writes `generation_config.json` into a folder (made if missing), whole or not at all."""
        directory = Path(folder)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / CONFIG_NAME
        content = json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=directory, delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
        return path

    @property
    def eos_token_ids(self) -> list[int]:
        """The end-of-sequence ids, as a list."""
        if self.eos_token_id is None:
            return []
        return [self.eos_token_id] if isinstance(self.eos_token_id, int) else list(self.eos_token_id)


_FIELDS = {f.name for f in dataclasses.fields(GenerationConfig)} - {"extra"}
_SWITCHES = (
    "do_sample",
    "use_cache",
    "renormalize_logits",
    "remove_invalid_values",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
    "return_dict_in_generate",
)
_COUNTS = {
    "max_length": 1,
    "max_new_tokens": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "prompt_lookup_num_tokens": 1,
    "max_matching_ngram_size": 1,
    "num_assistant_tokens": 1,
    "top_k": 0,
    "no_repeat_ngram_size": 0,
}
#: What rows and columns are made of at once, so that no file asks for memory without end.
MAX_TOKENS = 1 << 24
MAX_ROWS = 1 << 12
_LIMITS = {
    "max_length": MAX_TOKENS,
    "max_new_tokens": MAX_TOKENS,
    "num_beams": MAX_ROWS,
    "num_return_sequences": MAX_ROWS,
}
_RANGES = {
    "max_time": (0.0, float("inf"), "seconds, at least 0"),
    "temperature": (0.0, sys.float_info.max, "a finite number of at least 0"),
    "top_p": (0.0, 1.0, "a number from 0 to 1"),
    "min_p": (0.0, 1.0, "a number from 0 to 1"),
    "typical_p": (0.0, 1.0, "a number above 0, at most 1"),
    "epsilon_cutoff": (0.0, 1.0, "a number from 0 to 1"),
    "eta_cutoff": (0.0, 1.0, "a number from 0 to 1"),
    "repetition_penalty": (0.0, float("inf"), "a number above 0"),
    "length_penalty": (-float("inf"), float("inf"), "a number"),
    "assistant_confidence_threshold": (0.0, 1.0, "a number from 0 to 1"),
}
_DEFAULTS = {
    f.name: f.default for f in dataclasses.fields(GenerationConfig) if f.default is not dataclasses.MISSING
}
_NEEDED = {name for name, default in _DEFAULTS.items() if default is not None}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    # A whole number of JSON may be beyond what is a float.
    return isinstance(value, float) or (_is_whole(value) and abs(value) <= sys.float_info.max)


def _is_token(value: object) -> bool:
    """Whether it may be the id of a special token; files have -1 where there is none."""
    return isinstance(value, int) and _is_whole(value) and -1 <= value < 1 << 31


def _is_ids(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(_is_whole(id) and id >= 0 for id in value)


def _is_biases(value: object) -> bool:
    if value is None:
        return True
    pairs = value.items() if isinstance(value, Mapping) else value
    return isinstance(pairs, (list, tuple, ItemsView)) and all(
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and _is_ids(pair[0])
        and len(pair[0]) > 0
        and _is_number(pair[1])
        for pair in pairs
    )


def _check(config: GenerationConfig, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise GenerationConfigError(f"`{name}`: expected {expected}, got {getattr(config, name)!r}")


def _is_neutral(name: str, value: Any) -> bool:
    return value is None or value in _NEUTRAL.get(name, ())


def _check_names(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if name in _FIELDS:
            continue
        if name in _NOT_OFFERED:
            if _is_neutral(name, value):
                continue
            raise GenerationConfigError(f"`{name}` is not offered by llamatok's generation")
        near = difflib.get_close_matches(name, sorted(_FIELDS), n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise GenerationConfigError(f"unknown generation argument `{name}`{hint}")


def _check_together(config: GenerationConfig, given: Mapping[str, Any]) -> None:
    """Refuses settings of one call that contradict each other; a file's may be overruled by the call's."""

    def asked(name: str) -> bool:
        return given.get(name) is not None

    def contradiction(text: str) -> GenerationConfigError:
        return GenerationConfigError(f"contradictory generation arguments: {text}")

    for long, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        if asked(long) and asked(new):
            raise contradiction(f"`{long}` counts the prompt and `{new}` does not; give one of them")
    most, least = config.max_new_tokens, config.min_new_tokens
    if most is not None and least is not None and least > most:
        raise contradiction(f"`min_new_tokens` ({least}) is above `max_new_tokens` ({most})")
    if config.max_length is not None and config.min_length > config.max_length:
        raise contradiction(f"`min_length` ({config.min_length}) is above `max_length` ({config.max_length})")
    if not config.do_sample:
        for name in _SAMPLING:
            if name in given and not _is_neutral(name, given[name]):
                raise contradiction(f"`{name}` has no effect without `do_sample=True`")
        if config.num_beams == 1 and config.num_return_sequences > 1:
            raise contradiction(
                f"`num_return_sequences` ({config.num_return_sequences}) needs `do_sample=True`"
                " or `num_beams`"
            )
    if config.num_beams > 1 and config.num_return_sequences > config.num_beams:
        raise contradiction(
            f"`num_return_sequences` ({config.num_return_sequences}) is above `num_beams`"
            f" ({config.num_beams})"
        )
    if config.num_beams == 1:
        for name in _BEAMS:
            if name in given and not _is_neutral(name, given[name]):
                raise contradiction(f"`{name}` has no effect without `num_beams` above 1")
    if config.prompt_lookup_num_tokens is not None:
        if config.num_beams > 1:
            raise contradiction("`prompt_lookup_num_tokens` does not go with `num_beams` above 1")
        if config.num_return_sequences > 1:
            raise contradiction("`prompt_lookup_num_tokens` does not go with `num_return_sequences` above 1")
    if not config.use_cache and config.cache_implementation is not None:
        raise contradiction("`cache_implementation` has no effect with `use_cache=False`")
    if not config.return_dict_in_generate:
        for name in ("output_scores", "output_logits", "output_attentions", "output_hidden_states"):
            if given.get(name):
                raise contradiction(f"`{name}` needs `return_dict_in_generate=True`")
