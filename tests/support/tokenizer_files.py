"""Random `tokenizer.json` files, of every component that files of the Llama family use, and texts."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

from hypothesis import strategies as st

from support import models

SPACE = "\u2581"

#: Letters of the vocabularies. Between them they change under every normalizer: in length (İ, ﬁ, ½), by
#: composition (e and its accent, the jamo), by case, and some are whitespace.
LETTERS = tuple(f"abcseEAfo<>0x_ \n\t{SPACE}éÅﬁ½İßΣ각가\u0301\u0323\u1100\u1161\u11a8\u00a0\u3000漢🦙")
#: Letters that vocabularies never have.
STRANGERS = tuple("zQ¿Ω\u200b\u200d\ufeff\r\x1c\x85\u2028한①ｶﾞ😀\U0001f1e9\ufffd")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
CONTENTS = (
    "<s>", "</s>", "<unk>", "<pad>", "<foo>", "foo", "ab", "abc", "bc", "a", "b", "E", "é", "e\u0301", "ﬁ",
    f"{SPACE}a", f"{SPACE}", " ", " a", "a ", "a b", "  ", "\n", "<0x0A>", "<0x61>", "İ", "Å", "🦙", "<s>a",
    f"a{SPACE}", "_", "foo bar", "zz", "½", "\u0301",
)  # fmt: skip


class TokenizerFile:
    """A `tokenizer.json`: as a message, in which precompiled rules stand by their name, and as text."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    @functools.cached_property
    def text(self) -> str:
        written = json.dumps(self.content, ensure_ascii=False)
        for name in CHARSMAPS:
            written = written.replace(f'"{name}"', f'"{charsmap(name)}"')
        return written

    def __repr__(self) -> str:
        return f"TokenizerFile({json.dumps(self.content)})"


# Components

_spaces = st.sampled_from((SPACE, SPACE, SPACE, "_"))
_snippets = st.sampled_from(
    (SPACE, " ", "", "a", "ab", "  ", f"{SPACE}{SPACE}", "é", "<s>", "\n", "x", "e", "\u0301", "E", "ss")
)
_patterns = st.sampled_from(
    (" ", "  ", SPACE, "a", "ab", "é", "\n", "<", "foo", "ﬁ", "e", "E", "\u0301", "aa", "🦙")
)


#: Models whose rules are used, see `support.models`.
CHARSMAPS = ("nmt_nfkc", "nfkc_cf", "custom_rules")


@functools.cache
def charsmap(name: str) -> str:
    """Precompiled rules of SentencePiece, in base64 as they stand in a `tokenizer.json`."""
    rules = models.parsed(models.model(name)).normalizer_spec.precompiled_charsmap
    return base64.b64encode(rules).decode()


def _replace() -> st.SearchStrategy[dict[str, Any]]:
    usual = st.just({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    any_other = st.builds(
        lambda pattern, content: {"type": "Replace", "pattern": {"String": pattern}, "content": content},
        _patterns,
        _snippets,
    )
    return st.one_of(usual, usual, any_other)


def _simple_normalizer() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        _replace(),
        st.builds(lambda text: {"type": "Prepend", "prepend": text}, _snippets.filter(bool)),
        st.sampled_from(("NFC", "NFD", "NFKC", "NFKD", "Lowercase")).map(lambda name: {"type": name}),
        st.builds(
            lambda left, right: {"type": "Strip", "strip_left": left, "strip_right": right},
            st.booleans(),
            st.booleans(),
        ),
        st.builds(
            lambda rules: {"type": "Precompiled", "precompiled_charsmap": rules},
            st.sampled_from(CHARSMAPS),
        ),
    )


LEGACY = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ],
}


def normalizers() -> st.SearchStrategy[dict[str, Any] | None]:
    """The section `normalizer`."""
    flat = st.lists(_simple_normalizer(), max_size=4)
    sequence = flat.map(lambda parts: {"type": "Sequence", "normalizers": parts})
    nested = st.lists(st.one_of(_simple_normalizer(), sequence), max_size=3).map(
        lambda parts: {"type": "Sequence", "normalizers": parts}
    )
    return st.one_of(st.none(), st.just(LEGACY), _simple_normalizer(), sequence, nested)


def _metaspace() -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda replacement, scheme, split: {
            "type": "Metaspace", "replacement": replacement, "prepend_scheme": scheme, "split": split
        },
        _spaces,
        st.sampled_from(("always", "first", "never")),
        st.booleans(),
    )  # fmt: skip


def pre_tokenizers() -> st.SearchStrategy[dict[str, Any] | None]:
    """The section `pre_tokenizer`."""
    sequence = st.lists(_metaspace(), max_size=2).map(
        lambda parts: {"type": "Sequence", "pretokenizers": parts}
    )
    return st.one_of(st.none(), _metaspace(), _metaspace(), sequence)


def _simple_decoder() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.just({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        st.builds(
            lambda pattern, content: {"type": "Replace", "pattern": {"String": pattern}, "content": content},
            _patterns,
            _snippets,
        ),
        st.sampled_from(("ByteFallback", "Fuse")).map(lambda name: {"type": name}),
        st.builds(
            lambda content, start, stop: {"type": "Strip", "content": content, "start": start, "stop": stop},
            st.sampled_from((" ", SPACE, "a")),
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        _metaspace(),
    )


USUAL_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def decoders() -> st.SearchStrategy[dict[str, Any] | None]:
    """The section `decoder`."""
    flat = st.lists(_simple_decoder(), max_size=4).map(lambda parts: {"type": "Sequence", "decoders": parts})
    return st.one_of(st.none(), st.just(USUAL_DECODER), st.just(USUAL_DECODER), _simple_decoder(), flat)


@st.composite
def post_processors(draw: st.DrawFn, vocab: dict[str, int]) -> dict[str, Any] | None:
    """The section `post_processor`, with special tokens out of a vocabulary."""
    if draw(st.integers(0, 3)) == 0:
        return None
    names = [name for name in ("<s>", "</s>", "a") if name in vocab]
    special = {name: {"id": name, "ids": [vocab[name]], "tokens": [name]} for name in names}
    if names and draw(st.booleans()):
        two = [draw(st.sampled_from(names)) for _ in range(2)]
        special["both"] = {"id": "both", "ids": [vocab[name] for name in two], "tokens": two}
    types = st.sampled_from((0, 0, 0, 1, 2))

    def around(*sequences: str) -> list[dict[str, Any]]:
        pieces = []
        for sequence in (*sequences, None):
            for _ in range(draw(st.integers(0, 2)) if special else 0):
                name = draw(st.sampled_from(sorted(special)))
                pieces.append({"SpecialToken": {"id": name, "type_id": draw(types)}})
            if sequence is not None:
                pieces.append({"Sequence": {"id": sequence, "type_id": draw(types)}})
        return pieces

    pair = draw(st.sampled_from((("A", "B"), ("A", "B"), ("B", "A"))))
    template = {
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": around(*pair),
        "special_tokens": special,
    }
    if draw(st.integers(0, 5)) == 0:
        return {"type": "Sequence", "processors": [template]}
    return template


def added_tokens(vocab: dict[str, int]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """The section `added_tokens`; contents that are no tokens of the vocabulary get the next ids."""

    def number(tokens: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
        following = max(vocab.values(), default=-1) + 1
        numbered = []
        for content, single_word, lstrip, rstrip, normalized, special in tokens:
            if content in vocab:
                token_id = vocab[content]
            else:
                token_id, following = following, following + 1
            numbered.append(
                {
                    "id": token_id,
                    "content": content,
                    "single_word": single_word,
                    "lstrip": lstrip,
                    "rstrip": rstrip,
                    "normalized": normalized,
                    "special": special,
                }
            )
        return sorted(numbered, key=lambda token: token["id"])

    flags = [st.booleans()] * 5
    rarely = st.sampled_from((False, False, False, True))
    free = st.tuples(st.sampled_from(CONTENTS), *flags)
    usual = st.tuples(st.sampled_from(CONTENTS), rarely, rarely, rarely, st.booleans(), st.booleans())
    return st.lists(st.one_of(usual, free), max_size=5, unique_by=lambda token: token[0]).map(number)


@st.composite
def bpe_models(draw: st.DrawFn) -> dict[str, Any]:
    """The section `model`: a vocabulary grown by random merges over some of the letters."""
    letters = draw(st.lists(st.sampled_from(LETTERS), min_size=2, max_size=14, unique=True))
    tokens = dict.fromkeys(name for name in ("<unk>", "<s>", "</s>") if draw(st.integers(0, 7)))
    byte_tokens = draw(st.sampled_from(("none", "some", "all", "all")))
    if byte_tokens == "all":
        tokens |= dict.fromkeys(BYTES)
    elif byte_tokens == "some":
        tokens |= dict.fromkeys(draw(st.lists(st.sampled_from(BYTES), max_size=20)))
        tokens |= dict.fromkeys(f"<0x{byte:02X}>" for byte in "z한".encode())
    mergeable = list(letters)
    if draw(st.booleans()):
        mergeable += [token for token in tokens if token in ("<0x0A>", "<0xC3>", "<0xA9>", "<unk>")]
    grown = dict.fromkeys(letters)
    merges: list[list[str]] = []
    places = st.integers(0, 63)
    for left, right in draw(st.lists(st.tuples(places, places), max_size=24)):
        # Counted from the end: what was made last is merged on.
        pair = [mergeable[-1 - left % len(mergeable)], mergeable[-1 - right % len(mergeable)]]
        product = "".join(pair)
        if pair in merges or len(product) > 12:
            continue
        merges.append(pair)
        if product not in grown and product not in tokens:
            grown[product] = None
            mergeable.append(product)
    if draw(st.booleans()):
        merges = draw(st.permutations(merges))
    # Words that no merge makes.
    grown |= dict.fromkeys(draw(st.lists(st.sampled_from(CONTENTS), max_size=2)))
    names = list(tokens | grown)
    if draw(st.integers(0, 4)) == 0:
        names = draw(st.permutations(names)) if len(names) < 60 else names[::-1]
    vocab = {name: number for number, name in enumerate(names)}
    pairs_as_strings = not any(" " in token for pair in merges for token in pair) and draw(st.booleans())
    return {
        "type": "BPE",
        "dropout": draw(st.sampled_from((None, None, None, 0.0, 1.0))),
        "unk_token": draw(st.sampled_from(("<unk>", "<unk>", None))) if "<unk>" in vocab else None,
        "continuing_subword_prefix": draw(st.sampled_from((None, None, ""))),
        "end_of_word_suffix": draw(st.sampled_from((None, None, ""))),
        "fuse_unk": draw(st.booleans()),
        "byte_fallback": draw(st.booleans()),
        "ignore_merges": draw(st.sampled_from((False, False, True))),
        "vocab": vocab,
        "merges": [" ".join(pair) for pair in merges] if pairs_as_strings else merges,
    }


@st.composite
def tokenizer_files(draw: st.DrawFn) -> TokenizerFile:
    """Whole files."""
    model = draw(bpe_models())
    return TokenizerFile(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": draw(added_tokens(model["vocab"])),
            "normalizer": draw(normalizers()),
            "pre_tokenizer": draw(pre_tokenizers()),
            "post_processor": draw(post_processors(model["vocab"])),
            "decoder": draw(decoders()),
            "model": model,
        }
    )


def texts_for(file: TokenizerFile) -> st.SearchStrategy[str]:
    """Texts that the file's tokens, its letters and strange ones are in."""
    added = [token["content"] for token in file.content["added_tokens"]]
    vocab = [token for token in file.content["model"]["vocab"] if token not in BYTES]
    parts = [
        st.sampled_from(LETTERS),
        st.sampled_from((" ", " ", "  ", "\n", SPACE, "a", "e")),
        st.sampled_from(STRANGERS),
    ]
    if vocab:
        parts.append(st.sampled_from(vocab))
    if added:
        parts += [st.sampled_from(added)] * 2
        parts.append(st.sampled_from([content.swapcase().replace(" ", SPACE) for content in added]))
    return st.lists(st.one_of(parts), max_size=12).map("".join)
