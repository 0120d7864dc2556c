"""transformers' own tokenizers with our engine: what they return, what they keep, and who works with them."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat import cases
from support import llama_files, texts

transformers = pytest.importorskip("transformers", reason="needs transformers (extra `transformers`)")
tokenizers = pytest.importorskip("tokenizers")

from llamatok.integrations import transformers as integration  # noqa: E402
from llamatok.integrations.transformers import accelerate, is_accelerated  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}\n{% endfor %}"
)


def fresh(*, legacy: bool = True) -> Any:
    """A tokenizer of transformers, with a padding token and a chat template."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(llama_files.json_folder(legacy=legacy)))
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="module", params=[True, False], ids=["legacy", "nonlegacy"])
def both(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A tokenizer, and the accelerated one of it."""
    original = fresh(legacy=request.param)
    return original, accelerate(original)


def plain(encoding: Any) -> dict[str, Any]:
    """Values as lists, with the types that they had."""
    return {
        key: (type(value), str(getattr(value, "dtype", "")), cases.plain(value))
        for key, value in encoding.items()
    }


def assert_same(both: tuple[Any, Any], *arguments: Any, **options: Any) -> None:
    """The same values, keys in the same order, and the same of each token; or the same error."""
    original, accelerated = both
    try:
        expected = original(*arguments, **options)
    except BaseException as error:  # the tokenizers library's panics are no Exception
        with pytest.raises(type(error)):
            accelerated(*arguments, **options)
        return
    found = accelerated(*arguments, **options)
    assert plain(found) == plain(expected)
    assert list(found) == list(expected)
    assert found.is_fast
    for row in range(len(expected.encodings)):
        assert found.tokens(row) == expected.tokens(row)
        assert found.word_ids(row) == expected.word_ids(row)
        assert found.sequence_ids(row) == expected.sequence_ids(row)
        assert found[row].offsets == expected[row].offsets


SAMPLE = [text for text in texts.tricky()[::17] if len(text) < 500]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"add_special_tokens": False},
    {"padding": True},
    {"padding": "max_length", "max_length": 30, "padding_side": "left"},
    {"padding": True, "pad_to_multiple_of": 8, "return_tensors": "np"},
    {"padding": True, "return_tensors": "pt", "return_length": True},
    {"truncation": True, "max_length": 5},
    {"truncation": True, "max_length": 6, "stride": 2, "return_overflowing_tokens": True},
    {
        "truncation": True, "max_length": 6, "stride": 2, "return_overflowing_tokens": True, "padding": True,
        "return_tensors": "np",
    },
    {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_token_type_ids": True},
    {"return_offsets_mapping": True, "padding": True, "return_special_tokens_mask": True},
    {"truncation": True, "max_length": 1, "return_overflowing_tokens": True, "padding": True},
    {"truncation": True, "max_length": 3, "return_overflowing_tokens": True, "padding": True},
    {
        "truncation": True, "max_length": 0, "return_overflowing_tokens": True, "padding": True,
        "add_special_tokens": False,
    },
    {"padding": True, "pad_to_multiple_of": -3},
    {"return_attention_mask": False},
    {"return_tensors": "np"},
    {"split_special_tokens": True},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_calls(both: tuple[Any, Any], options: dict[str, Any]) -> None:
    """Lists of texts, single ones, pairs, words: the results of transformers, errors among them."""
    if options.get("return_tensors") == "pt":
        pytest.importorskip("torch")
    assert_same(both, SAMPLE, **options)
    assert_same(both, SAMPLE[:5], SAMPLE[5:10], **options)
    assert_same(both, list(zip(SAMPLE[:5], SAMPLE[5:10], strict=True)), **options)
    for text in ("Hello <s> world", "", " a"):
        assert_same(both, text, **options)
        assert_same(both, text, "other", **options)
    assert_same(both, ["Hello", " world"], is_split_into_words=True, **options)
    assert_same(both, [["Hello", " world"], ["x"]], is_split_into_words=True, **options)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.sampled_from(OPTIONS[:7]))
def test_any_texts(both: tuple[Any, Any], some: list[str], options: dict[str, Any]) -> None:
    """Texts at random, lone surrogates among them."""
    assert_same(both, some, **options)
    assert_same(both, some[0], **options)


@pytest.mark.parametrize(
    "wrong", [None, 1, [1, 2], ["a", None], [["a", "b"]], [], ["a", ("b", "c")]], ids=str
)
def test_wrong_inputs(both: tuple[Any, Any], wrong: Any) -> None:
    """What transformers refuses, or reads in its own way."""
    assert_same(both, wrong)


def test_decoding(both: tuple[Any, Any]) -> None:
    """Ids of all kinds, lists of them, arrays and tensors."""
    original, accelerated = both
    lists = [original(text)["input_ids"] for text in SAMPLE]
    lists += [[], [1, 35, 40_000, 243, 162], [1, 2], [32_000, 5]]
    for skip in (False, True):
        for ids in lists:
            expected = original.decode(ids, skip_special_tokens=skip)
            assert accelerated.decode(ids, skip_special_tokens=skip) == expected
            assert accelerated.decode(np.array(ids, dtype=np.int64), skip_special_tokens=skip) == expected
        assert accelerated.batch_decode(lists, skip_special_tokens=skip) == original.batch_decode(
            lists, skip_special_tokens=skip
        )
    assert accelerated.decode(15) == original.decode(15)
    assert accelerated.decode([306, 525, 29885], clean_up_tokenization_spaces=True) == original.decode(
        [306, 525, 29885], clean_up_tokenization_spaces=True
    )
    with pytest.raises(OverflowError):
        accelerated.decode([-1])


def test_it_is_the_tokenizer_it_was(both: tuple[Any, Any], tmp_path: Path) -> None:
    """Class, name, settings, and the files that are saved."""
    original, accelerated = both
    assert isinstance(accelerated, type(original))
    assert type(accelerated).__name__ == type(original).__name__
    assert is_accelerated(accelerated)
    assert not is_accelerated(original)
    assert accelerate(accelerated) is accelerated
    for name in ("padding_side", "pad_token_id", "chat_template", "all_special_ids", "model_max_length"):
        assert getattr(accelerated, name) == getattr(original, name)
    assert accelerated.get_vocab() == original.get_vocab()
    # Padding and truncation of the last call are in the file that transformers writes.
    original("x")
    for name, tokenizer in (("theirs", original), ("ours", accelerated)):
        tokenizer.save_pretrained(tmp_path / name)
    for path in (tmp_path / "theirs").iterdir():
        assert (tmp_path / "ours" / path.name).read_text() == path.read_text()


def test_later_changes_are_heeded() -> None:
    """Tokens, templates and components that are changed afterwards, in whichever way."""
    original = fresh()
    accelerated = accelerate(original)
    both = (original, accelerated)

    def check() -> None:
        assert_same(both, "Hello  <new> ab the <next>x", "a pair")

    check()
    for tokenizer in both:
        tokenizer.add_tokens(["<new>"])
    check()
    for tokenizer in both:
        tokenizer.backend_tokenizer.add_tokens(["<next>", "the"])
    check()
    held = [tokenizer.backend_tokenizer for tokenizer in both]
    check()
    for backend in held:
        backend.add_special_tokens(["Hello"])
    check()
    for backend in held:
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single="</s> $A", pair="$A </s> $B:1", special_tokens=[("</s>", 2)]
        )
    check()
    if tuple(map(int, tokenizers.__version__.split(".")[:2])) >= (0, 23):
        # Older ones go on to look for added tokens as the normalizer before made them.
        for backend in held:
            backend.normalizer = tokenizers.normalizers.Lowercase()
        check()
    for tokenizer in both:
        tokenizer.truncation_side = tokenizer.padding_side = "left"
    assert_same(both, ["Hello", "Hello, Hello world"], padding=True, truncation=True, max_length=4)


def test_becoming_unsupported() -> None:
    """A component that we do not have: the results are those of transformers, after a warning."""
    original = fresh()
    accelerated = accelerate(original)
    for tokenizer in (original, accelerated):
        tokenizer.backend_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    expected = original("Hello world")
    with pytest.warns(integration.AccelerationWarning, match="no longer"):
        found = accelerated("Hello world")
    assert dict(found) == dict(expected)
    assert dict(accelerated("Hello world")) == dict(expected)


def test_copies(both: tuple[Any, Any]) -> None:
    """Pickled, copied, changed in place."""
    original, accelerated = both
    expected = original("Hello <s>")["input_ids"]
    for other in (
        pickle.loads(pickle.dumps(accelerated)),
        copy.copy(accelerated),
        copy.deepcopy(accelerated),
    ):
        assert is_accelerated(other)
        assert type(other) is type(accelerated)
        assert other("Hello <s>")["input_ids"] == expected
    deep = copy.deepcopy(accelerated)
    deep.add_tokens(["Hello"])
    assert deep("Hello")["input_ids"] != accelerated("Hello")["input_ids"]
    same = copy.deepcopy(original)
    assert accelerate(same, in_place=True) is same
    assert is_accelerated(same)
    encoding = pickle.loads(pickle.dumps(accelerated("Hello world")))
    assert encoding.tokens() == original("Hello world").tokens()


def test_unsupported_tokenizers_stay(tmp_path: Path) -> None:
    """Other pipelines, and classes that encode in their own way."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.warns(integration.AccelerationWarning, match="ByteLevel"):
        assert accelerate(tokenizer) is tokenizer

    class Own(transformers.PreTrainedTokenizerFast):  # type: ignore[misc, name-defined]
        def _decode(self, *arguments: Any, **options: Any) -> str:
            return "own"

    own = Own(tokenizer_object=fresh().backend_tokenizer)
    with pytest.warns(integration.AccelerationWarning, match="_decode"):
        assert accelerate(own) is own
    with pytest.warns(integration.AccelerationWarning, match="tokenizers library"):
        assert accelerate("no tokenizer") == "no tokenizer"


def test_auto_tokenizer() -> None:
    """Within the context, and from the switch on, AutoTokenizer returns accelerated tokenizers."""
    folder = str(llama_files.json_folder())
    load = transformers.AutoTokenizer.from_pretrained
    with integration.installed():
        inside = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    outside = load(folder)
    assert is_accelerated(inside)
    assert inside.padding_side == "left"
    assert not is_accelerated(outside)
    assert inside("Hello")["input_ids"] == outside("Hello")["input_ids"]
    integration.install()
    try:
        with integration.installed():
            pass
        assert is_accelerated(transformers.AutoTokenizer.from_pretrained(folder))
    finally:
        integration.uninstall()
    assert not is_accelerated(transformers.AutoTokenizer.from_pretrained(folder))


def test_chat_templates(both: tuple[Any, Any]) -> None:
    """Templates, and the mask of what the assistant says, which asks for places of characters."""
    original, accelerated = both
    messages = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2 <s>"},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes."},
    ]
    options = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    expected = original.apply_chat_template(messages, **options)
    found = accelerated.apply_chat_template(messages, **options)
    assert dict(found) == dict(expected)
    assert sum(found["assistant_masks"]) > 0


def tiny_model() -> Any:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32_064, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pipeline(both: tuple[Any, Any]) -> None:
    """A pipeline for generation says the same by both."""
    model = tiny_model()
    said = []
    for tokenizer in both:
        generate = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
        said.append(
            generate(
                ["Hello", "a b"], max_new_tokens=4, do_sample=False, batch_size=2, return_full_text=False
            )
        )
    assert said[0] == said[1]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_trainer_and_collator(both: tuple[Any, Any], tmp_path: Path) -> None:
    """The collator makes the same batches, and Trainer the same steps; it saves the tokenizer, too."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    losses = []
    for tokenizer in both:
        rows = [tokenizer(text) for text in ("Hello world", "a", "one two three", "x y")]
        collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
        batch = collator(rows)
        assert batch["labels"].shape == batch["input_ids"].shape
        torch.manual_seed(0)
        arguments = transformers.TrainingArguments(
            str(tmp_path), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True,
            save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = transformers.Trainer(
            tiny_model(), arguments, collator, train_dataset=[dict(row) for row in rows],
            processing_class=tokenizer,
        )  # fmt: skip
        losses.append(trainer.train().training_loss)
        trainer.save_model(str(tmp_path / "saved"))
        config = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
        assert "accelerat" not in config["tokenizer_class"].lower()
    assert losses[0] == losses[1]


def test_datasets_map(both: tuple[Any, Any]) -> None:
    """Mapping in two processes, into which the tokenizer is pickled; the fingerprint stays the same."""
    datasets = pytest.importorskip("datasets")
    from datasets.fingerprint import Hasher

    original, accelerated = both
    before = Hasher.hash(accelerated)
    data = datasets.Dataset.from_dict({"text": SAMPLE})
    mapped = data.map(
        lambda rows: accelerated(rows["text"], truncation=True, max_length=32),
        batched=True,
        num_proc=2,
        batch_size=8,
    )
    expected = original(SAMPLE, truncation=True, max_length=32)
    assert mapped["input_ids"][:] == expected["input_ids"]
    assert mapped["attention_mask"][:] == expected["attention_mask"]
    assert Hasher.hash(accelerated) == before


def test_preparing_as_trl_does(both: tuple[Any, Any]) -> None:
    """Prompt and completion apart, cut at the places of characters, padded in the end."""
    padded = []
    for tokenizer in both:
        rows = []
        for prompt, completion in (("Question: 1+1?", " 2"), ("Q", " a longer answer")):
            encoded = tokenizer(prompt + completion, return_offsets_mapping=True)
            start = encoded.char_to_token(len(prompt))
            ids = [*encoded["input_ids"], tokenizer.eos_token_id]
            rows.append({"input_ids": ids, "completion_mask": [0] * start + [1] * (len(ids) - start)})
        padded.append(
            tokenizer.pad([{"input_ids": row["input_ids"]} for row in rows], padding=True)["input_ids"]
            + [row["completion_mask"] for row in rows]
        )
    assert padded[0] == padded[1]
