"""Cases at random, answered by transformers and by us; and files that one saves and the other loads.

With the transformers that is installed here, in this process; with other versions, by -m slow, where their
environments have been made (see `compat.environments`).
"""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import llamatok
from compat.cases import Answerer, Case
from compat.peer import Peer, environments
from support import llama_files, oracle

SPACE = "\u2581"
CONTENTS = (
    "<foo>", "foo", "ab", "abc", "bcd", "new york", " x", f"{SPACE}the", "ing", "é", "<pad>", "🦙", "▁",
    "Hello", "\n", "<s>x",
)  # fmt: skip
FRAGMENTS = (
    "Hello", " world", "a", "b", "the ", "<s>", "</s>", "<unk>", " ", "  ", "   ", "\n", "\t", SPACE,
    f"{SPACE}a", "é", "🦙", "日本", "e\u0301", "\u00a0", "1.5", "<0x0A>", "ing ", "x", ".", "</s", "[INST]",
    "\u200b", "\ufffd",
)  # fmt: skip
TEXT = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS + CONTENTS), max_size=10).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=25),
)
IDS = st.lists(st.one_of(st.integers(0, 300), st.integers(0, 31_999)), max_size=12)
FLAGS = st.fixed_dictionaries(
    {"content": st.sampled_from(CONTENTS)},
    optional={
        "single_word": st.booleans(),
        "lstrip": st.booleans(),
        "rstrip": st.booleans(),
        "normalized": st.booleans(),
        "special": st.booleans(),
    },
)
TRUNCATION: dict[str, st.SearchStrategy[Any]] = {
    "truncation": st.sampled_from((True, "longest_first", "only_first", "only_second")),
    "max_length": st.integers(4, 14),
    "stride": st.integers(0, 2),
    "return_overflowing_tokens": st.booleans(),
}
RETURNED: dict[str, st.SearchStrategy[Any]] = {
    "return_token_type_ids": st.booleans(),
    "return_special_tokens_mask": st.booleans(),
    "return_length": st.booleans(),
}


@st.composite
def specs(draw: st.DrawFn, slow: bool) -> dict[str, Any]:
    """A tokenizer: of `tokenizer.model` with its settings, or of a `tokenizer.json`; with added tokens."""
    legacy, prefix = draw(st.booleans()), draw(st.sampled_from((True, True, False)))
    if slow:
        spec = {
            "class": "slow",
            "path": str(llama_files.model_file()),
            "init": {"legacy": legacy, "add_prefix_space": prefix},
        }
        spec["init"] |= draw(
            st.fixed_dictionaries(
                {}, optional={name: st.booleans() for name in ("add_bos_token", "add_eos_token")}
            )
        )
    else:
        folder = llama_files.json_folder(legacy=legacy, prefix=prefix)
        spec = {"class": "generic", "path": str(folder), "init": {}}
    sides = st.sampled_from(("left", "right"))
    spec["init"] |= {"padding_side": draw(sides), "truncation_side": draw(sides)}
    tokens = draw(st.lists(FLAGS, max_size=3, unique_by=lambda token: token["content"]))
    if tokens:
        spec["add_tokens"] = [tokens]
    spec["pad_token"] = draw(st.sampled_from(("<pad>", "=eos")))
    return spec


@st.composite
def questions(draw: st.DrawFn, slow: bool) -> Case:
    """An operation, its input and its options."""
    special = draw(st.fixed_dictionaries({}, optional={"add_special_tokens": st.booleans()}))
    kind = draw(
        st.sampled_from(
            ("encode", "tokenize", "decode", "convert", "call", "pair", "batch", "words", "places")
        )
    )
    if kind == "encode":
        split = st.fixed_dictionaries({}, optional={"split_special_tokens": st.booleans()})
        return {"op": "encode", "input": draw(TEXT), "call": special | draw(split)}
    if kind == "tokenize":
        return {"op": "tokenize", "input": draw(TEXT), "call": {}}
    if kind == "decode":
        flags = ("skip_special_tokens", "spaces_between_special_tokens")
        call = draw(st.fixed_dictionaries({}, optional=dict.fromkeys(flags, st.booleans())))
        return {"op": "decode", "input": draw(IDS), "call": call}
    if kind == "convert":
        op = draw(st.sampled_from(("convert_ids_to_tokens", "ids_to_string")))
        return {"op": op, "input": draw(IDS.filter(bool)), "call": {}}
    if kind == "words":
        words = draw(st.lists(TEXT, min_size=1, max_size=4))
        op = "encode" if slow else draw(st.sampled_from(("encode", "word_ids", "offsets")))
        return {"op": op, "input": words, "call": {**special, "is_split_into_words": True}}
    if kind == "places" and not slow:
        return {"op": draw(st.sampled_from(("offsets", "char_maps"))), "input": draw(TEXT), "call": special}
    returned = draw(st.fixed_dictionaries({}, optional=RETURNED))
    if kind == "pair":
        cut = draw(st.one_of(st.just({}), st.fixed_dictionaries(TRUNCATION)))
        return {"op": "pair", "input": [draw(TEXT), draw(TEXT)], "call": special | returned | cut}
    padded = {"padding": True}
    if draw(st.booleans()):
        padded["pad_to_multiple_of"] = draw(st.sampled_from((4, 8)))
    cut = draw(
        st.one_of(
            st.just({}), st.fixed_dictionaries({"truncation": st.just(True), "max_length": st.integers(3, 9)})
        )
    )
    return {
        "op": "call",
        "input": draw(st.lists(TEXT, min_size=1, max_size=3)),
        "call": special | returned | padded | cut,
    }


def cases(slow: bool) -> st.SearchStrategy[Case]:
    """Whole cases."""
    return st.builds(lambda spec, question: {"tokenizer": spec, **question}, specs(slow), questions(slow))


def _ours(path: str, **init: Any) -> Any:
    if path.endswith(".model"):
        return llamatok.LlamaTokenizer(path, **init)
    return llamatok.LlamaTokenizer.from_pretrained(path, **init)


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    # What is logged and warned of is tested where it is written.
    log = logging.getLogger("llamatok.tokenization")
    log.disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    log.disabled = False


@functools.cache
def ours() -> Answerer:
    return Answerer(dict.fromkeys(("slow", "fast", "generic"), _ours), llamatok.AddedToken, keep=4)


@functools.cache
def installed() -> Answerer:
    """The transformers of this environment, in this process."""
    pytest.importorskip("transformers", reason="needs transformers (extra `transformers`)")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    from compat.worker import classes

    return Answerer(*classes(), keep=4)


@functools.cache
def peer(name: str) -> Peer:
    python = environments().get(name)
    if python is None:
        pytest.skip(
            f"no environment {name}: run `python -m compat.environments DIR`, set LLAMATOK_COMPAT=DIR"
        )
    return Peer(python)


def compare(case: Case, theirs: Any) -> None:
    """Our answer is theirs; where theirs is an error, ours is one too."""
    found = ours().answer(case)
    if isinstance(theirs, dict) and "error" in theirs:
        # A stride without room is refused by the tokenizers library even where nothing is cut off.
        assume("stride" not in case["call"])
        assert isinstance(found, dict), (case, theirs, found)
        assert "error" in found, (case, theirs, found)
        return
    assert found == theirs, f"{oracle.shortened(case)}: {found} but {theirs}"


@given(cases(slow=False))
def test_tokenizer_json_against_the_installed(case: Case) -> None:
    """A `tokenizer.json`, against the transformers of this environment."""
    theirs = installed().answer(case)
    compare(case, theirs)


@pytest.mark.slow
@settings(max_examples=25_000)
@given(cases(slow=True))
def test_tokenizer_model_against_4_57(case: Case) -> None:
    """A `tokenizer.model`, against the SentencePiece-backed class of the last transformers 4."""
    compare(case, peer("transformers-4").answer([case])[0])


@pytest.mark.slow
@settings(max_examples=15_000)
@given(cases(slow=False))
def test_tokenizer_json_against_4_57(case: Case) -> None:
    """A `tokenizer.json`, against the last transformers 4. Its tokenizers library ignores a token that is
    added again, with other properties; see `docs/compatibility.md`."""
    spec = case["tokenizer"]
    added = [token["content"] for group in spec.get("add_tokens", []) for token in group]
    assume(spec.get("pad_token") not in added)
    compare(case, peer("transformers-4").answer([case])[0])


@pytest.mark.slow
@settings(max_examples=15_000)
@given(cases(slow=True))
def test_tokenizer_model_against_4_37(case: Case) -> None:
    """A `tokenizer.model`, against transformers 4.37.2. Its decoding after BOS differs, and is left out; it
    does not know `add_prefix_space`."""
    assume(case["op"] not in ("decode", "ids_to_string"))
    assume(case["tokenizer"]["init"]["add_prefix_space"])
    compare(case, peer("transformers-4.37.2").answer([case])[0])


TEXTS = ["Hello world", "a  b", "", " x", "Hello <s> x<foo> y", "日本 🦙\n", "<pad>", "1.5 ab"]


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("name", ["transformers-4.37.2", "transformers-4", "transformers-5"])
def test_files_both_ways(name: str, legacy: bool, tmp_path: Path) -> None:
    """What we save they load, and what they save we load, with equal ids."""
    other = peer(name)
    made = llamatok.LlamaTokenizer(str(llama_files.model_file()), legacy=legacy)
    made.add_special_tokens({"pad_token": "<pad>"})
    made.add_tokens([llamatok.AddedToken("<foo>", normalized=False)])
    made.save_pretrained(tmp_path / "ours")
    kinds = ["auto"] if name == "transformers-5" else ["slow", "auto"]
    for kind in kinds:
        spec = {"class": kind, "path": str(tmp_path / "ours"), "init": {}}
        answers = other.answer(
            [{"tokenizer": spec, "op": "encode", "input": text, "call": {}} for text in TEXTS]
            + [{"tokenizer": spec, "op": "save_to", "input": str(tmp_path / kind), "call": {}}]
        )
        loaded = llamatok.LlamaTokenizer.from_pretrained(str(tmp_path / kind))
        if kind == "slow":
            assert answers[:-1] == [made(text)["input_ids"] for text in TEXTS]
        assert [loaded(text)["input_ids"] for text in TEXTS] == answers[:-1], kind
