"""The demo checkpoint: it is there, small, complete, and has learned from its text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.locations import DEFAULT_MODEL

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

import llamatok  # noqa: E402
from llamatok import Tokenizer, demo_checkpoint  # noqa: E402
from llamatok.models import LlamaForCausalLM  # noqa: E402

FOLDER = Path(demo_checkpoint())


@pytest.fixture(scope="module")
def model():
    return LlamaForCausalLM.from_pretrained(demo_checkpoint(), dtype=torch.float32)


def test_it_is_small_and_whole():
    # The tokenizer's model is a link in the repository, a copy where it was installed.
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir() if path.name != "tokenizer.model"}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer_config.json"} <= set(
        sizes
    )
    assert sum(sizes.values()) <= 4_000_000
    assert (FOLDER / "tokenizer.model").read_bytes() == DEFAULT_MODEL.read_bytes()
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["vocab_size"] == Tokenizer.default().vocab_size


def loss(model, ids):
    with torch.inference_mode():
        return float(model(ids, labels=ids).loss)


def test_it_tells_text_from_noise(model):
    text = "And he said unto them, I will go with thee, my lord, and I will not be thy servant in the land."
    ids = torch.tensor([Tokenizer.default().encode(text, add_bos=True)])
    shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
    assert loss(model, ids) < 5
    assert loss(model, shuffled) > loss(model, ids) + 1


def test_it_goes_on_with_words(model):
    tokenizer = Tokenizer.default()
    ids = torch.tensor([tokenizer.encode("And God said unto", add_bos=True)])
    with torch.inference_mode():
        for _ in range(20):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    text = tokenizer.decode(ids[0].tolist())
    assert text.startswith("And God said unto")
    assert text.isascii()
    assert len(text.split()) > 10


def test_transformers_gives_the_same_logits(model, from_folder):
    reference = from_folder(FOLDER)
    ids = torch.randint(3, 32000, (2, 30), generator=torch.Generator().manual_seed(0))
    expected = reference.logits(ids).float()
    bf16 = LlamaForCausalLM.from_pretrained(FOLDER)
    with torch.inference_mode():
        found = bf16(ids).logits.float()
    assert float((found - expected).abs().max() / expected.abs().max()) < 0.02


def test_its_name_is_at_the_top():
    from llamatok.weights import demo_checkpoint as same

    assert llamatok.demo_checkpoint() == same()
