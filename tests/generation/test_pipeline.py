"""The pipeline has transformers' shapes, and gives transformers' text."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="generation needs torch")

import llamatok  # noqa: E402
from llamatok import demo_checkpoint  # noqa: E402

TEXTS = ["Once upon a time", "The old king", "In the beginning there was a"]
SETTINGS: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}


@pytest.fixture(scope="module")
def generate() -> Any:
    return llamatok.pipeline("text-generation")


def test_one_text_gives_a_list_of_results(generate: Any) -> None:
    found = generate(TEXTS[0], **SETTINGS)
    assert len(found) == 1
    assert found[0]["generated_text"].startswith(TEXTS[0])
    new = generate(TEXTS[0], return_full_text=False, **SETTINGS)[0]["generated_text"]
    assert TEXTS[0] + new == found[0]["generated_text"]


def test_several_texts_give_a_list_each_and_padding_changes_nothing(generate: Any) -> None:
    apart = [generate(text, **SETTINGS) for text in TEXTS]
    assert generate(TEXTS, **SETTINGS) == apart
    assert generate(TEXTS, batch_size=3, **SETTINGS) == apart


def test_several_sequences(generate: Any) -> None:
    found = generate(TEXTS[:2], num_beams=3, num_return_sequences=2, max_new_tokens=6)
    assert [len(results) for results in found] == [2, 2]


def test_ids_instead_of_text(generate: Any) -> None:
    found = generate(TEXTS[0], return_tensors=True, **SETTINGS)[0]["generated_token_ids"]
    assert (
        generate.tokenizer.decode(found, skip_special_tokens=True)
        == generate(TEXTS[0], **SETTINGS)[0]["generated_text"]
    )


def test_a_conversation_gets_an_answer(generate: Any) -> None:
    pytest.importorskip("jinja2", reason="chat templates need jinja2")
    chat = [{"role": "user", "content": "Hello"}]
    messages = generate(chat, **SETTINGS)[0]["generated_text"]
    assert messages[0] == chat[0]
    assert messages[1]["role"] == "assistant"
    assert len(chat) == 1, "the conversation given is left as it was"


def test_what_it_cannot_do_is_told() -> None:
    with pytest.raises(ValueError, match='there is "text-generation"'):
        llamatok.pipeline("summarization")
    with pytest.raises(ValueError, match="give the `tokenizer` too"):
        llamatok.pipeline(model=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="unknown generation argument `lenght`"):
        llamatok.pipeline("text-generation", lenght=3)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_rows(generate: Any, size: int) -> None:
    with pytest.raises(ValueError, match=f"`batch_size`: expected a whole number of at least 1, got {size}"):
        generate("A", batch_size=size)
    with pytest.raises(ValueError, match="`batch_size`"):
        llamatok.pipeline(batch_size=size)


@pytest.mark.filterwarnings("ignore")
def test_texts_are_those_of_transformers_pipeline(generate: Any) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="transformers is what the pipeline is compared with"
    )
    theirs = transformers.pipeline(
        "text-generation",
        model=transformers.AutoModelForCausalLM.from_pretrained(demo_checkpoint(), dtype=torch.float32),
        tokenizer=transformers.AutoTokenizer.from_pretrained(demo_checkpoint()),
    )
    ours = llamatok.pipeline("text-generation", model=demo_checkpoint(), dtype=torch.float32)
    for text in TEXTS:
        expected = theirs(text, max_new_tokens=20, do_sample=False)[0]["generated_text"]
        found = ours(text, max_new_tokens=20, do_sample=False)[0]["generated_text"]
        # Theirs decodes the new tokens by themselves, which loses the space before a first word.
        assert found.replace(" ", "") == expected.replace(" ", "")
