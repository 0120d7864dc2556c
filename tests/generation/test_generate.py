"""What `generate` takes and refuses, and streams."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="generation needs torch")

from llamatok import Tokenizer  # noqa: E402
from llamatok.generation import (  # noqa: E402
    GenerationConfig,
    GenerationConfigError,
    TextIteratorStreamer,
    TextStreamer,
    astream,
    stream,
    stream_tokens,
)
from llamatok.models import DynamicCache, LlamaConfig, LlamaForCausalLM  # noqa: E402

PROMPT = [12, 60, 33, 7, 44]


class Letters:
    """A tokenizer for a vocabulary of 64 tokens: each is two characters."""

    def decode(self, ids: Any, *, skip_special_tokens: bool = False) -> str:
        return "".join(f"{chr(97 + id // 8)}{chr(97 + id % 8)}" for id in ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": [[1, 64]]}, r"id 64 is out of range: the model has 64 tokens"),
        ({"input_ids": [[-1, 3]]}, r"id -1 is out of range"),
        ({"input_ids": [[]]}, r"a prompt needs at least one token"),
        ({"input_ids": [[1], [1, 2]]}, r"the rows differ in length; pad them on the left"),
        ({"input_ids": torch.zeros((1, 2))}, r"expected whole numbers of shape \(rows, length\)"),
        ({"inputs": [PROMPT], "input_ids": [PROMPT]}, r"are the same argument"),
        (
            {"input_ids": [PROMPT], "attention_mask": torch.ones((1, 3))},
            r"`attention_mask`: expected the shape",
        ),
        ({"input_ids": [PROMPT], "attention_mask": torch.zeros((1, 5))}, r"a row has nothing but padding"),
        ({"input_ids": [PROMPT], "max_length": 5}, r"`max_length` \(5\) leaves no room after a prompt of 5"),
        ({"input_ids": [[3] * 129]}, r"the prompt has 129 tokens, the model was made for 128"),
        ({"input_ids": [PROMPT], "stop_strings": "x"}, r"`stop_strings` needs the tokenizer"),
        ({"input_ids": [PROMPT] * 2, "prompt_lookup_num_tokens": 2}, r"takes one prompt, got 2"),
        ({"input_ids": [PROMPT], "seed": 1, "generator": torch.Generator()}, r"contradict each other"),
        ({"input_ids": torch.zeros((0, 3), dtype=torch.int64)}, r"a prompt needs at least one token"),
        ({"input_ids": torch.tensor([[1 + 2j]])}, r"`input_ids`: expected whole numbers"),
        ({"inputs_embeds": torch.zeros((1, 32))}, r"`inputs_embeds`: expected the shape"),
        (
            {"input_ids": [PROMPT] * 2, "attention_mask": [1] * 5},
            r"`attention_mask`: expected the shape \(2, 5\) of the prompt, got \(5,\)",
        ),
        ({"input_ids": [PROMPT], "seed": 1 << 64}, r"`seed`: expected a whole number from 0 to 2\*\*64 - 1"),
        ({"input_ids": [PROMPT], "seed": -1}, r"`seed`: expected a whole number from 0"),
        (
            {"input_ids": [PROMPT], "forced_eos_token_id": 64},
            r"`forced_eos_token_id`: id 64 is out of range: the model has 64 tokens",
        ),
        (
            {"input_ids": [PROMPT], "forced_eos_token_id": [2, 70]},
            r"`forced_eos_token_id`: id 70 is out of range",
        ),
        ({"input_ids": [PROMPT], "forced_bos_token_id": 64}, r"`forced_bos_token_id`: id 64 is out of range"),
        ({"input_ids": [PROMPT], "bad_words_ids": [[3], [64, 5]]}, r"`bad_words_ids`: id 64 is out of range"),
        ({"input_ids": [PROMPT], "sequence_bias": {(5, 64): 1.0}}, r"`sequence_bias`: id 64 is out of range"),
        ({"input_ids": [PROMPT], "sequence_bias": [[[99], 1.0]]}, r"`sequence_bias`: id 99 is out of range"),
        (
            {"input_ids": [PROMPT] * 2, "pad_token_id": 64},
            r"`pad_token_id`: id 64 is out of range: the model has 64 tokens",
        ),
    ],
)
def test_bad_prompts_are_told(model: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate(**arguments)


EVERY_ID = list(range(64))


def _forbid_all(ids: Any, scores: Any) -> Any:
    return torch.full_like(scores, -torch.inf)


def _not_a_number(ids: Any, scores: Any) -> Any:
    return scores.index_fill(1, torch.tensor([7]), torch.nan)


@pytest.mark.parametrize(
    "strategy",
    [
        {},
        {"do_sample": True, "seed": 0},
        {"num_beams": 3},
        {"num_beams": 2, "do_sample": True},
        {"prompt_lookup_num_tokens": 2},
    ],
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"suppress_tokens": EVERY_ID}, "what changed them: suppress_tokens"),
        ({"bad_words_ids": [[id] for id in EVERY_ID], "eos_token_id": []}, "changed them: sequence_bias"),
        ({"logits_processor": [_forbid_all]}, "what changed them: _forbid_all"),
        ({"logits_processor": [_not_a_number]}, "one is NaN; what changed them: _not_a_number"),
    ],
)
def test_a_step_without_a_token_to_choose_is_told(
    model: Any, strategy: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"row 0: there is no token to choose.*{message}"):
        model.generate([PROMPT], max_new_tokens=4, **strategy, **arguments)


def test_a_finished_row_needs_no_choice(model: Any) -> None:
    def one_goes_on(ids: Any, scores: Any) -> Any:
        first = ids.shape[1] == len(PROMPT)
        out = torch.full_like(scores, -torch.inf)
        out[0, 2 if first else slice(0)] = 1.0
        out[1, 9] = 1.0
        return out

    found = model.generate([PROMPT, PROMPT], max_new_tokens=3, logits_processor=[one_goes_on])
    assert found[:, len(PROMPT) :].tolist() == [[2, 0, 0], [9, 9, 9]]


def test_beams_that_cannot_go_on_leave_finished_texts(model: Any) -> None:
    def ends_or_nothing(ids: Any, scores: Any) -> Any:
        keep = torch.full_like(scores, -torch.inf)
        if ids.shape[1] == len(PROMPT):
            keep[:, [2, 9]] = scores[:, [2, 9]]
        return keep

    found = model.generate([PROMPT], max_new_tokens=3, num_beams=2, logits_processor=[ends_or_nothing])
    assert found[0, len(PROMPT)].item() == 2


def test_any_number_is_a_length_penalty(model: Any) -> None:
    """A power beyond what a float holds is infinite."""
    ids = model.generate([PROMPT], num_beams=2, length_penalty=1e308, max_new_tokens=4, eos_token_id=None)
    assert ids.shape == (1, len(PROMPT) + 4)


def test_a_mask_of_one_row_goes_with_a_prompt_of_one_row(model: Any) -> None:
    mask = [0, 0, 1, 1, 1]
    expected = model.generate([PROMPT], attention_mask=torch.tensor([mask]), max_new_tokens=4)
    for given in (mask, torch.tensor(mask), [mask]):
        assert model.generate(PROMPT, attention_mask=given, max_new_tokens=4).equal(expected)


def test_tokens_that_there_are_not_may_be_suppressed(model: Any) -> None:
    expected = model.generate([PROMPT], max_new_tokens=4)
    assert model.generate([PROMPT], max_new_tokens=4, suppress_tokens=[64, 1000]).equal(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_token": 3}, r"did you mean `max_new_tokens`"),
        (
            {"num_beams": 2, "streamer": TextIteratorStreamer(Letters())},
            r"`streamer` does not go with `num_beams`",
        ),
        (
            {"compile": True, "use_cache": False},
            r"has no effect with `use_cache=False`|needs `use_cache=True`",
        ),
        (
            {"compile": True, "cache_implementation": "dynamic"},
            r"`compile` needs `cache_implementation='static'`",
        ),
        ({"prompt_lookup_num_tokens": 2, "use_cache": False}, r"speculative decoding needs `use_cache=True`"),
        ({"prompt_lookup_num_tokens": 2, "cache_implementation": "static"}, r"not a static one"),
    ],
)
def test_contradictions_are_told(model: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(GenerationConfigError, match=message):
        model.generate([PROMPT], **arguments)


def test_a_sliding_window_cannot_go_back_after_a_draft() -> None:
    settings: dict[str, Any] = {"vocab_size": 64, "hidden_size": 8, "intermediate_size": 8}
    config = LlamaConfig(num_hidden_layers=1, num_attention_heads=1, sliding_window=8, **settings)
    with pytest.raises(GenerationConfigError, match="does not go with a sliding window"):
        LlamaForCausalLM(config).generate([PROMPT], prompt_lookup_num_tokens=2)


def test_a_list_a_row_and_a_batch_are_prompts(model: Any) -> None:
    batch = model.generate(torch.tensor([PROMPT]), max_new_tokens=5)
    assert batch.shape == (1, 10)
    for prompt in (PROMPT, [PROMPT], torch.tensor(PROMPT)):
        assert torch.equal(model.generate(prompt, max_new_tokens=5), batch)
    assert torch.equal(model.generate(input_ids=[PROMPT], token_type_ids=None, max_new_tokens=5), batch)


def test_padding_is_told_by_the_pad_token(model: Any) -> None:
    alone = model.generate([PROMPT], max_new_tokens=8, eos_token_id=None)
    padded = model.generate([[0, 0, *PROMPT], [3, 4, *PROMPT]], max_new_tokens=8, eos_token_id=None)
    assert padded[0, 2:].tolist() == alone[0].tolist()


def test_padding_on_the_right_warns(model: Any) -> None:
    with pytest.warns(UserWarning, match="padded on the right"):
        model.generate([[*PROMPT, 0]], max_new_tokens=2)


def test_a_text_beyond_the_context_warns(model: Any) -> None:
    with pytest.warns(UserWarning, match=r"may get 130 tokens long, the model was made for 128"):
        model.generate([[3] * 125], max_new_tokens=5)


def test_finished_rows_are_padded(model: Any) -> None:
    free = model.generate([PROMPT, PROMPT[::-1]], max_new_tokens=20, eos_token_id=None)
    end = int(free[0, 7])
    assert end not in free[1, 5:].tolist()
    ended = model.generate([PROMPT, PROMPT[::-1]], max_new_tokens=20, eos_token_id=end)
    assert ended[0].tolist() == free[0, :8].tolist() + [0] * 17
    assert torch.equal(ended[1], free[1])


def test_custom_processors_and_criteria(model: Any) -> None:
    def only_seven(ids: Any, scores: Any) -> Any:
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([7]), 0.0)

    found = model.generate(
        [PROMPT],
        max_new_tokens=9,
        logits_processor=[only_seven],
        stopping_criteria=[lambda ids, scores: ids.shape[1] >= 8],
    )
    assert found.tolist() == [[*PROMPT, 7, 7, 7]]


def test_stop_strings(model: Any) -> None:
    free = model.generate([PROMPT], max_new_tokens=20, eos_token_id=None)[0].tolist()
    text = Letters().decode(free[5:])
    for stop in (text[6:10], text[7:9]):
        found = model.generate(
            [PROMPT], max_new_tokens=20, eos_token_id=None, stop_strings=stop, tokenizer=Letters()
        )
        written = Letters().decode(found[0, 5:].tolist())
        at = text.index(stop) + len(stop)
        assert written == text[: at + at % 2]


def test_the_result_can_be_trained_on(model: Any) -> None:
    found = model.generate([PROMPT], max_new_tokens=4)
    model(found, labels=found).loss.backward()
    model.zero_grad()


def test_attentions_and_hidden_states(model: Any) -> None:
    found = model.generate(
        [PROMPT],
        max_new_tokens=3,
        return_dict_in_generate=True,
        output_attentions=True,
        output_hidden_states=True,
    )
    assert [step[0].shape for step in found.attentions] == [(1, 4, 5, 5), (1, 4, 1, 6), (1, 4, 1, 7)]
    assert [len(step) for step in found.hidden_states] == [3, 3, 3]
    assert set(found.keys()) == {"sequences", "attentions", "hidden_states", "past_key_values"}
    assert found[0] is found.sequences


def test_a_configuration_of_its_own(model: Any) -> None:
    config = GenerationConfig(max_new_tokens=3, eos_token_id=None)
    assert model.generate([PROMPT], config).shape == (1, 8)
    assert model.generate([PROMPT], config, max_new_tokens=4).shape == (1, 9)
    assert config.max_new_tokens == 3


def test_streams_give_the_text(model: Any) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 12, "eos_token_id": None}
    ids = model.generate([PROMPT], **settings)[0, 5:].tolist()
    text = Letters().decode(ids)
    assert [int(step) for step in stream_tokens(model, [PROMPT], **settings)] == ids
    assert "".join(stream(model, Letters(), [PROMPT], **settings)) == text
    lookup = stream(model, Letters(), [PROMPT], prompt_lookup_num_tokens=3, **settings)
    assert "".join(lookup) == text

    async def collect() -> str:
        return "".join([part async for part in astream(model, Letters(), [PROMPT], **settings)])

    assert asyncio.run(collect()) == text


def test_a_stream_gives_one_text_only(model: Any) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 3, "do_sample": True, "num_return_sequences": 2}
    with pytest.raises(ValueError, match="takes one prompt and gives one text, got 2"):
        stream(model, Letters(), [PROMPT], **settings)
    with pytest.raises(ValueError, match="a text streamer takes one row, got 2"):
        model.generate([PROMPT], streamer=TextStreamer(Letters()), **settings)


def test_a_cache_that_holds_the_whole_prompt_is_gone_on_from(model: Any) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 6, "eos_token_id": None}
    cache = DynamicCache(model.config)
    model(torch.tensor([PROMPT]), past_key_values=cache, use_cache=True)
    found = model.generate([PROMPT], past_key_values=cache, **settings)
    assert torch.equal(found, model.generate([PROMPT], **settings))


def test_a_mask_tells_that_a_prompt_has_the_new_tokens_only(model: Any) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 6, "eos_token_id": None}
    cache = DynamicCache(model.config)
    model(torch.tensor([PROMPT]), past_key_values=cache, use_cache=True)
    new = [8, 9, 10, 11, 12, 13, 14, 15]
    mask = torch.ones((1, len(PROMPT + new)))
    found = model.generate([new], past_key_values=cache, attention_mask=mask, **settings)
    assert torch.equal(found[:, len(new) :], model.generate([PROMPT + new], **settings)[:, -6:])


def test_a_stream_keeps_the_callers_mode_and_can_be_left(model: Any) -> None:
    texts = stream(model, Letters(), [PROMPT], max_new_tokens=100, eos_token_id=None)
    next(texts)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    texts.close()  # type: ignore[attr-defined]


def test_an_iterator_streamer_in_a_thread_can_be_cancelled(model: Any) -> None:
    streamer = TextIteratorStreamer(Letters(), skip_prompt=True, timeout=60)
    results: list[Any] = []
    settings = {"streamer": streamer, "max_new_tokens": 120, "eos_token_id": None}
    thread = threading.Thread(target=lambda: results.append(model.generate([PROMPT], **settings)))
    thread.start()
    first = next(streamer)
    streamer.cancel()
    rest = "".join(streamer)
    thread.join()
    assert Letters().decode(results[0][0, 5:].tolist()) == first + rest
    assert results[0].shape[1] <= 125


def test_the_embedded_tokenizer_streams_whole_characters() -> None:
    tokenizer = Tokenizer.default()
    text = "Grüße 🦙👩‍👩‍👧"
    ids = tokenizer.encode(text)

    class Parrot(torch.nn.Module):
        """Says `text` after its prompt, whatever that is."""

        def __init__(self) -> None:
            super().__init__()
            from llamatok.models import LlamaConfig

            self.config = LlamaConfig(vocab_size=tokenizer.vocab_size, num_hidden_layers=1)
            self.device, self.dtype = torch.device("cpu"), torch.float32
            self.said = 0

        def forward(self, **inputs: Any) -> Any:
            from types import SimpleNamespace

            logits = torch.zeros((1, 1, tokenizer.vocab_size))
            logits[..., ids[self.said]] = 1
            self.said += 1
            return SimpleNamespace(logits=logits)

    parts = list(stream(Parrot(), tokenizer, [[1]], max_new_tokens=len(ids), eos_token_id=None))
    assert "".join(parts).strip() == text
    assert len(parts) > 3
    assert not any("\ufffd" in part for part in parts)
