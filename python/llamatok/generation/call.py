"""`generate` and `stream`: from a prompt to tokens or text."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from llamatok.generation import assisted, beams, sampling
from llamatok.generation.cache import cache_for, cached_length
from llamatok.generation.compiled import compiled_step
from llamatok.generation.config import GenerationConfig, GenerationConfigError
from llamatok.generation.inputs import Prompt, text_length
from llamatok.generation.output import GenerateOutput
from llamatok.generation.processors import LogitsProcessor, bias_mapping, build_processors
from llamatok.generation.state import Records, State
from llamatok.generation.stopping import StoppingCriteria, build_stopping
from llamatok.generation.streamers import Streamer, is_cancelled
from llamatok.generation.text import Tokenizer, text_decoder

__all__ = ["astream", "generate", "stream", "stream_tokens"]

Ids = Tensor | Sequence[int] | Sequence[Sequence[int]]


def generate(
    model: Any,
    inputs: Ids | None = None,
    generation_config: GenerationConfig | None = None,
    *,
    input_ids: Ids | None = None,
    attention_mask: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    past_key_values: Any = None,
    logits_processor: Iterable[LogitsProcessor] = (),
    stopping_criteria: Iterable[StoppingCriteria] = (),
    streamer: Streamer | None = None,
    assistant_model: Any = None,
    tokenizer: Tokenizer | None = None,
    generator: torch.Generator | None = None,
    seed: int | None = None,
    compile: bool = False,
    token_type_ids: Tensor | None = None,
    **settings: Any,
) -> Tensor | GenerateOutput:
    """Goes on with prompts.

    Args:
        model: a causal language model of this package.
        inputs: the prompts, under another name.
        generation_config: settings; the model's own by default. Any of them may be given by name, too.
        input_ids: the prompts: integers of shape (rows, length), or one row without its dimension. Rows of
            different length are padded on the left.
        attention_mask: (rows, length), or one row without its dimension; 0 at padding. Without it,
            `pad_token_id` counts as padding unless it also ends texts.
        inputs_embeds: (rows, length, hidden size), instead of ids or for them. Without ids, the result has
            the new tokens only.
        past_key_values: a cache to go on from, changed in place. The prompt may have all its tokens or only
            those that the cache has not: it is taken for the latter where it is shorter than the cache, or
            `attention_mask` is as long as both.
        logits_processor: functions from (ids, scores) to scores; they run before those of sampling.
        stopping_criteria: functions from (ids, scores of the steps so far) to bool, one a row or one for all.
        streamer: is told of the prompt and of each step; greedy search and sampling only. One with a true
            attribute `cancelled` ends generation.
        assistant_model: a smaller model with the same vocabulary, for speculative decoding; one row only.
        tokenizer: for `stop_strings`.
        generator: the source of randomness, of the model's device.
        seed: makes a generator with this seed, from 0 to 2**64 - 1.
        compile: whether steps run through `torch.compile` (CUDA graphs on a GPU); implies
            `cache_implementation="static"`. The first call compiles, which takes up to minutes.
        token_type_ids: has no effect; tokenizers give it.
        **settings: fields of `GenerationConfig`.

    Returns:
        int64 of shape (rows * num_return_sequences, length), the prompt included; with
        `return_dict_in_generate=True` a `GenerateOutput`.

    Raises:
        GenerationConfigError: a setting is unknown, out of its range or contradicts another one.
        ValueError: the prompt does not fit the model; or a step has no token to choose, since processors
            forbid all or a score is NaN.
    """
    call = _Call(
        model,
        inputs,
        generation_config,
        input_ids=input_ids,
        attention_mask=attention_mask,
        inputs_embeds=inputs_embeds,
        past_key_values=past_key_values,
        logits_processor=logits_processor,
        stopping_criteria=stopping_criteria,
        assistant_model=assistant_model,
        tokenizer=tokenizer,
        generator=generator,
        seed=seed,
        compile=compile,
        settings=settings,
    )
    config = call.config
    if config.num_beams > 1:
        if streamer is not None:
            raise GenerationConfigError("`streamer` does not go with `num_beams` above 1")
        with call.no_gradients():
            found = beams.search(call.state)
        return call.result(found)
    if streamer is not None:
        if call.has_ids:
            streamer.put(call.state.text.cpu())
        else:
            streamer.put(call.state.text[:, :0].cpu())
    for tokens in call.steps():
        if streamer is not None:
            streamer.put(tokens.cpu())
            if is_cancelled(streamer):
                break
    if streamer is not None:
        streamer.end()
    return call.result()


def stream_tokens(
    model: Any, inputs: Ids | None = None, generation_config: GenerationConfig | None = None, **arguments: Any
) -> Iterator[Tensor]:
    """The new tokens as they come, by the arguments of `generate` (greedy search, sampling, speculation).

    Leaving the loop ends generation; nothing runs in the background.

    Yields:
        int64 of shape (rows,) for each step; (1, n) with speculation.
    """
    return _streaming_call(model, inputs, generation_config, arguments).steps()


def _streaming_call(
    model: Any, inputs: Ids | None, generation_config: GenerationConfig | None, arguments: dict[str, Any]
) -> _Call:
    arguments.pop("token_type_ids", None)
    named = {name: arguments.pop(name) for name in _NAMED if name in arguments}
    call = _Call(model, inputs, generation_config, settings=arguments, **named)
    if call.config.num_beams > 1:
        raise GenerationConfigError("streaming does not go with `num_beams` above 1")
    return call


def stream(
    model: Any,
    tokenizer: Tokenizer,
    inputs: Ids | None = None,
    generation_config: GenerationConfig | None = None,
    *,
    skip_special_tokens: bool = True,
    **arguments: Any,
) -> Iterator[str]:
    """The new text of one prompt as it comes: never half a character, never "".

    Takes the arguments of `generate`. Leaving the loop ends generation; nothing runs in the background.

    Raises:
        ValueError: there is more than one row.
    """
    arguments["tokenizer"] = tokenizer
    call = _streaming_call(model, inputs, generation_config, arguments)
    rows = call.state.rows * call.config.num_return_sequences
    if rows > 1:
        raise ValueError(f"a stream of text takes one prompt and gives one text, got {rows}")
    decoder = text_decoder(
        tokenizer, skip_special_tokens=skip_special_tokens, prefill=call.state.text[0].tolist()
    )
    return _texts(call.steps(), decoder)


def _texts(tokens: Iterator[Tensor], decoder: Any) -> Iterator[str]:
    for step in tokens:
        if text := decoder.push(step.reshape(-1).tolist()):
            yield text
    if text := decoder.finish():
        yield text


async def astream(*arguments: Any, **named: Any) -> AsyncIterator[str]:
    """`stream` for `async for`: each step runs in a thread, so that the event loop stays free."""
    texts = stream(*arguments, **named)
    nothing = object()
    while (text := await asyncio.to_thread(next, texts, nothing)) is not nothing:
        yield str(text)


_NAMED = (
    "input_ids",
    "attention_mask",
    "inputs_embeds",
    "past_key_values",
    "logits_processor",
    "stopping_criteria",
    "assistant_model",
    "tokenizer",
    "generator",
    "seed",
    "compile",
)


class _Call:
    """One call of `generate`: its settings, its state, and its result."""

    def __init__(
        self,
        model: Any,
        inputs: Ids | None,
        generation_config: GenerationConfig | None,
        *,
        settings: dict[str, Any],
        input_ids: Ids | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        logits_processor: Iterable[LogitsProcessor] = (),
        stopping_criteria: Iterable[StoppingCriteria] = (),
        assistant_model: Any = None,
        tokenizer: Tokenizer | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        compile: bool = False,
    ) -> None:
        if inputs is not None and input_ids is not None:
            raise ValueError("`inputs` and `input_ids` are the same argument; give one of them")
        self.model = model
        self.config = config = _config(model, generation_config, settings)
        if compile and config.cache_implementation is None:
            config.cache_implementation = "static"
        self.assistant = assistant_model
        _check_strategy(model, config, assistant_model, compile)
        if attention_mask is not None:
            attention_mask = torch.as_tensor(attention_mask)
        if isinstance(past_key_values, (tuple, list)):
            past_key_values = cache_for(model, config, past_key_values, 0, 0)
        past = cached_length(past_key_values)
        prompt = Prompt.of(
            model, config, input_ids if inputs is None else inputs, attention_mask, inputs_embeds, past
        )
        self.has_ids = prompt.has_ids
        if assistant_model is not None and not prompt.has_ids:
            raise ValueError("`assistant_model` needs `input_ids`: it has other embeddings")
        ids, mask = prompt.ids, prompt.mask
        rows, given = ids.shape
        # A prompt shorter than the cache has only the new tokens; so has one whose mask counts both.
        counts_both = attention_mask is not None and attention_mask.shape[-1] == given + past
        unseen = past if given < past or counts_both else 0
        begin = given + unseen
        if begin == past and past:
            # Its last token runs again, since its logits are not kept.
            past_key_values.crop(-1)
            past -= 1
        length = text_length(model, config, given, unseen)
        buffer = torch.zeros((rows, length), dtype=torch.int64, device=ids.device)
        buffer[:, unseen:begin] = ids
        full_mask = None
        if mask is not None:
            full_mask = torch.ones((rows, length), dtype=torch.int64, device=ids.device)
            full_mask[:, begin - mask.shape[1] : begin] = mask
        hidden = unseen if prompt.has_ids else begin
        if generator is None and seed is not None:
            if not 0 <= seed < 1 << 64:
                raise ValueError(f"`seed`: expected a whole number from 0 to 2**64 - 1, got {seed}")
            generator = torch.Generator(device=ids.device).manual_seed(seed)
        elif generator is not None and seed is not None:
            raise ValueError("`generator` and `seed` contradict each other; give one of them")
        _check_padding(config, model.config.vocab_size, rows * config.num_return_sequences)
        repeats = config.num_beams if config.num_beams > 1 else config.num_return_sequences
        spread_mask = mask
        if mask is not None and repeats > 1:
            spread_mask = mask.repeat_interleave(repeats, dim=0)
        self._keeps_cache = config.return_dict_in_generate or past_key_values is not None
        with self.no_gradients():
            cache = cache_for(model, config, past_key_values, rows, length)
        self.state = State(
            model=model,
            config=config,
            ids=buffer,
            length=begin,
            prompt_length=begin,
            mask=full_mask,
            embeds=prompt.embeds,
            cache=cache,
            processors=build_processors(
                config, begin - hidden, length - hidden, spread_mask, logits_processor
            ),
            stopping=build_stopping(config, length - hidden, tokenizer, stopping_criteria),
            generator=generator,
            records=Records.wanted(config),
            compiled_step=compiled_step(model) if compile else None,
            cached=past,
            hidden=hidden,
        )

    def no_gradients(self) -> contextlib.AbstractContextManager[None]:
        """What steps run in. A cache that the caller gets or gave stays usable outside of inference mode."""
        return torch.no_grad() if self._keeps_cache else torch.inference_mode()

    def steps(self) -> Iterator[Tensor]:
        """The steps of greedy search, sampling or speculation."""
        state, config = self.state, self.config
        if config.prompt_lookup_num_tokens is not None or self.assistant is not None:
            if state.rows > 1:
                raise ValueError(f"speculative decoding takes one prompt, got {state.rows}")
            loop = assisted.steps(state, self._drafter())
        else:
            loop = sampling.steps(state, config.num_return_sequences)
        while True:
            # Not around the loop: the caller's code between two steps keeps its own mode.
            with self.no_gradients():
                tokens = next(loop, None)
            if tokens is None:
                return
            yield tokens

    def _drafter(self) -> assisted.Drafter:
        config = self.config
        if config.prompt_lookup_num_tokens is not None:
            return assisted.PromptLookup(config.prompt_lookup_num_tokens, config.max_matching_ngram_size)
        if self.assistant.config.vocab_size != self.model.config.vocab_size:
            raise ValueError(
                f"`assistant_model` has {self.assistant.config.vocab_size} tokens, the model"
                f" {self.model.config.vocab_size}: they must share a vocabulary"
            )
        return assisted.ModelDrafter(
            self.assistant,
            cache_for(self.assistant, config, None, 1, self.state.max_length),
            self.state.processors,
            sampled=config.do_sample,
            tokens=config.num_assistant_tokens,
            confidence=config.assistant_confidence_threshold,
            generator=self.state.generator,
        )

    def result(self, found: beams.BeamResult | None = None) -> Tensor | GenerateOutput:
        """What `generate` returns."""
        state = self.state
        sequences = (state.ids[:, : state.length] if found is None else found.sequences)[:, state.hidden :]
        # A tensor made in inference mode could not be trained on.
        sequences = sequences.clone()
        if not self.config.return_dict_in_generate:
            return sequences

        def kept(records: list[Any] | None) -> tuple[Any, ...] | None:
            return None if records is None else tuple(records)

        records = state.records
        return GenerateOutput(
            sequences=sequences,
            sequences_scores=found.scores if found is not None and self.config.output_scores else None,
            scores=kept(records.scores),
            logits=kept(records.logits),
            beam_indices=None if found is None else found.indices,
            attentions=kept(records.attentions),
            hidden_states=kept(records.hidden_states),
            past_key_values=state.cache,
        )


def _config(
    model: Any, generation_config: GenerationConfig | None, settings: dict[str, Any]
) -> GenerationConfig:
    own = getattr(model, "generation_config", None)
    config = generation_config if generation_config is not None else own
    config = (config if config is not None else GenerationConfig()).updated(**settings)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(config, name) is None and name not in settings:
            value = getattr(own, name, None)
            setattr(config, name, getattr(model.config, name, None) if value is None else value)
    return config


def _check_strategy(model: Any, config: GenerationConfig, assistant: Any, compile: bool) -> None:
    def contradiction(text: str) -> GenerationConfigError:
        return GenerationConfigError(f"contradictory generation arguments: {text}")

    speculates = assistant is not None or config.prompt_lookup_num_tokens is not None
    if assistant is not None:
        if config.prompt_lookup_num_tokens is not None:
            raise contradiction("`assistant_model` and `prompt_lookup_num_tokens` both make drafts")
        if config.num_beams > 1:
            raise contradiction("`assistant_model` does not go with `num_beams` above 1")
        if config.num_return_sequences > 1:
            raise contradiction("`assistant_model` does not go with `num_return_sequences` above 1")
    _check_ids(config, model.config.vocab_size)
    if speculates:
        if not config.use_cache:
            raise contradiction("speculative decoding needs `use_cache=True`")
        if any(getattr(m.config, "sliding_window", None) for m in (model, assistant) if m is not None):
            raise contradiction("speculative decoding does not go with a sliding window: it cannot go back")
        if config.cache_implementation == "static":
            raise contradiction("speculative decoding needs a cache that can be cropped, not a static one")
    if compile:
        if config.cache_implementation != "static":
            raise contradiction("`compile` needs `cache_implementation='static'`")
        if not config.use_cache:
            raise contradiction("`compile` needs `use_cache=True`")
        if config.output_attentions or config.output_hidden_states:
            raise contradiction("`compile` does not go with `output_attentions` or `output_hidden_states`")


def _check_padding(config: GenerationConfig, size: int, rows: int) -> None:
    """Whether the model can be shown the padding after the end of a row, as long as others go on."""
    pad = config.pad_token_id
    if pad is not None and not 0 <= pad < size and rows > 1 and config.num_beams == 1:
        raise GenerationConfigError(
            f"`pad_token_id`: id {pad} is out of range: the model has {size} tokens;"
            " give one of them, such as the end of sequence"
        )


def _check_ids(config: GenerationConfig, size: int) -> None:
    """Whether the tokens that settings are about are in a vocabulary of `size` tokens.

    To suppress a token that there is not, or to end with one, changes nothing.
    """
    forced = config.forced_eos_token_id
    used: dict[str, list[int]] = {
        "forced_bos_token_id": [] if config.forced_bos_token_id is None else [config.forced_bos_token_id],
        "forced_eos_token_id": []
        if forced is None
        else [forced]
        if isinstance(forced, int)
        else list(forced),
        "bad_words_ids": [id for ids in config.bad_words_ids or () for id in ids],
        "sequence_bias": [id for ids in bias_mapping(config.sequence_bias or {}) for id in ids],
    }
    for name, ids in used.items():
        wrong = [id for id in ids if not 0 <= id < size]
        if wrong:
            raise GenerationConfigError(
                f"`{name}`: id {wrong[0]} is out of range: the model has {size} tokens"
            )
