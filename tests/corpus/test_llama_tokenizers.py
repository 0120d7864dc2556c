"""Runs with Hugging Face's interface write what its tokenizer gives for each text."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llamatok import AddedToken, CodeLlamaTokenizer, LlamaTokenizer
from llamatok.corpus import BatchTokenizer, CorpusError, tokenize
from llamatok.corpus.tokenizers import TokenizerSource

from .conftest import TEXTS, manifest, nanogpt, write_jsonl

DOCUMENTS = [*TEXTS, "<added> and </s> and <s>", " leading", "\n"]

KINDS: dict[str, dict[str, Any]] = {
    "tokenizer.model": {"legacy": False},
    "legacy": {"legacy": True},
    "tokenizer.json": {"legacy": False},
    "with eos": {"add_eos_token": True},
    "without bos": {"add_bos_token": False},
    "text only": {"split_special_tokens": True, "add_prefix_space": False, "legacy": False},
}


@pytest.fixture(scope="module", params=KINDS)
def llama(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LlamaTokenizer:
    made = LlamaTokenizer.default(**KINDS[request.param])
    made.add_tokens([AddedToken("<added>", rstrip=True), "<beyond>"])
    if request.param == "tokenizer.json":
        folder = tmp_path_factory.mktemp("tokenizer")
        made.save_pretrained(folder)
        made = LlamaTokenizer(folder / "tokenizer.json")
        assert made.is_fast
    return made


def flat(rows: list[list[int]]) -> list[int]:
    return [id for ids in rows for id in ids]


def test_shards_hold_what_the_tokenizer_gives(llama: LlamaTokenizer, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", DOCUMENTS)
    plain = [llama(text)["input_ids"] if text else [] for text in DOCUMENTS]
    tokenize(source, tmp_path / "out", tokenizer=llama, format="nanogpt", block_size=2048, progress=False)
    assert nanogpt(tmp_path / "out") == flat(plain)
    told = manifest(tmp_path / "out")["tokenizer"]
    assert (told["vocab_size"], told["bos_id"], told["eos_id"]) == (len(llama), 1, 2)

    # What the run asks for comes once, whether the tokenizer puts it there or not.
    bare = [llama(text, add_special_tokens=False)["input_ids"] for text in DOCUMENTS]
    around = [[1, *ids, 2] if text else [] for text, ids in zip(DOCUMENTS, bare, strict=True)]
    both = {"add_bos": True, "add_eos": True, "tokenizer": llama, "format": "nanogpt", "progress": False}
    tokenize(source, tmp_path / "both", **both)
    assert nanogpt(tmp_path / "both") == flat(around)
    assert llama(DOCUMENTS[0])["input_ids"] == plain[0], "the tokenizer is left as it was"


def test_cut_documents_keep_the_tokenizers_own_eos(tmp_path: Path) -> None:
    llama = LlamaTokenizer.default(add_eos_token=True)
    source = write_jsonl(tmp_path / "a.jsonl", ["Hello world, again and again", "Hi"])
    cut = {"max_tokens": 4, "long_documents": "truncate", "format": "nanogpt", "progress": False}
    tokenize(source, tmp_path / "out", tokenizer=llama, **cut)
    long, short = llama(["Hello world, again and again", "Hi"])["input_ids"]
    assert nanogpt(tmp_path / "out") == [*long[:3], 2, *short]


def test_another_machine_gets_the_same_tokenizer(llama: LlamaTokenizer) -> None:
    source = TokenizerSource.of(llama)
    there = pickle.loads(pickle.dumps(source))
    expected = [llama(text)["input_ids"] for text in DOCUMENTS]
    for found in (source, there):
        batch = found.tokenizer.encode_batch(pa.chunked_array([DOCUMENTS[:5], DOCUMENTS[5:]]))
        assert batch.ids.tolist() == flat(expected)
    assert there.sha256 == source.sha256 == TokenizerSource.of(llama).sha256
    assert BatchTokenizer(llama).arrays(DOCUMENTS).to_pylist() == expected


def test_the_hash_tells_tokenizers_with_other_ids_apart() -> None:
    made = [LlamaTokenizer.default(**settings) for settings in KINDS.values() if settings != {"legacy": True}]
    with_token = LlamaTokenizer.default()
    with_token.add_tokens(["<added>"])
    hashes = {TokenizerSource.of(tokenizer).sha256 for tokenizer in [*made[:1], *made[2:], with_token]}
    assert len(hashes) == len(made)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (
            LlamaTokenizer.default(sp_model_kwargs={"enable_sampling": True, "alpha": 0.1}),
            "the tokenizer draws its ids",
        ),
        (CodeLlamaTokenizer.default(), "a CodeLlamaTokenizer fills gaps"),
    ],
)
def test_tokenizers_whose_ids_are_not_those_of_a_text_are_refused(
    tokenizer: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=message):
        tokenize("nothing", tmp_path / "out", tokenizer=tokenizer)
    with pytest.raises(TypeError, match=r"must be a path, a llamatok.Tokenizer or a llamatok.LlamaTokenizer"):
        tokenize("nothing", tmp_path / "out", tokenizer=3)
