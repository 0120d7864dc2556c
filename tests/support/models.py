"""Small SentencePiece BPE models, trained on the spot, that between them use every setting.

`RECIPES` names them; `model(name)` trains one on first use and keeps it for the session.
"""

from __future__ import annotations

import functools
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb

from support import texts

SPACE = texts.SPACE
EUROPE = ("latin", "cyrillic", "greek", "latin")
WORLD = ("latin", "cyrillic", "arabic", "devanagari", "hangul", "kana", "cjk", "combining", "emoji")
LLAMA = {
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "byte_fallback": True,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
}

Recipe = Callable[[], bytes]
RECIPES: dict[str, Recipe] = {}


@functools.cache
def model(name: str) -> bytes:
    """The bytes of the model of this name."""
    return RECIPES[name]()


def train(
    *, vocab_size: int, alphabets: tuple[str, ...] = EUROPE, lines: int = 1_500, seed: int = 1, **options: Any
) -> bytes:
    """Train a BPE model on invented text."""
    written = io.BytesIO()
    settings = {"character_coverage": 1.0, "minloglevel": 2, "num_threads": 2, **options}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts.training_text(seed, lines, alphabets)),
        model_writer=written,
        model_type=settings.pop("model_type", "bpe"),
        vocab_size=vocab_size,
        **settings,
    )
    return written.getvalue()


def edited(data: bytes, change: Callable[[Any], None]) -> bytes:
    """A model file after a change to its message."""
    message = pb.ModelProto()
    message.ParseFromString(data)
    change(message)
    return bytes(message.SerializeToString(deterministic=True))


def parsed(data: bytes) -> Any:
    """The message of a model file."""
    message = pb.ModelProto()
    message.ParseFromString(data)
    return message


def recipe(function: Recipe) -> Recipe:
    """Enter a model, under the name of its function."""
    RECIPES[function.__name__] = function
    return function


def _normal(message: Any) -> list[Any]:
    return [piece for piece in message.pieces if piece.type == piece.NORMAL]


def _lower_runs(message: Any) -> None:
    """Let runs of spaces be merged last, as in Llama's vocabulary and as the fast engine wants it."""
    for piece in message.pieces:
        if not piece.piece.strip(SPACE):
            piece.score = -1e9


# Normalizers


@recipe
def llama_like() -> bytes:
    return edited(train(vocab_size=1_000, **LLAMA), _lower_runs)


@recipe
def identity() -> bytes:
    return train(vocab_size=700, normalization_rule_name="identity")


@recipe
def nmt_nfkc() -> bytes:
    return train(vocab_size=1_200, alphabets=WORLD, normalization_rule_name="nmt_nfkc")


@recipe
def nmt_nfkc_cf() -> bytes:
    return train(vocab_size=800, normalization_rule_name="nmt_nfkc_cf", byte_fallback=True)


@recipe
def nfkc() -> bytes:
    return train(
        vocab_size=1_200, alphabets=WORLD, normalization_rule_name="nfkc", remove_extra_whitespaces=False
    )


@recipe
def nfkc_cf() -> bytes:
    return train(
        vocab_size=800, normalization_rule_name="nfkc_cf", add_dummy_prefix=False, byte_fallback=True
    )


RULES = (
    "0041\t0061", "0041 0042\t0078 0079", "0041 0042 0043\t0020 007A", "00E9\t0065 0301", "0065 0301\t0045",
    "002D 002D\t0020 0020 0020", "0009\t0020", "000A\t", "0071\t", "00B7\t2581",
    "1F600\t003A 0029", "0020 0078\t0078 0020",
    "2460\t0020 0031 0020",
)  # fmt: skip


@recipe
def custom_rules() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder, "rules.tsv")
        rules.write_text("\n".join(RULES) + "\n", encoding="utf-8")
        return train(vocab_size=700, normalization_rule_tsv=str(rules), byte_fallback=True)


@recipe
def custom_rules_keep_spaces() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder, "rules.tsv")
        rules.write_text("\n".join(RULES) + "\n", encoding="utf-8")
        return train(vocab_size=700, normalization_rule_tsv=str(rules), remove_extra_whitespaces=False)


@recipe
def denormalizer() -> bytes:
    """Decoding runs through rules too: a loader may refuse this model, but must not ignore the rules."""
    donor = parsed(custom_rules()).normalizer_spec

    def add(message: Any) -> None:
        message.denormalizer_spec.precompiled_charsmap = donor.precompiled_charsmap
        message.denormalizer_spec.add_dummy_prefix = False
        message.denormalizer_spec.remove_extra_whitespaces = False
        message.denormalizer_spec.escape_whitespaces = False

    return edited(train(vocab_size=700, normalization_rule_name="identity"), add)


# Spaces


@recipe
def no_prefix() -> bytes:
    return train(vocab_size=700, **{**LLAMA, "add_dummy_prefix": False})


@recipe
def no_prefix_nmt() -> bytes:
    return train(vocab_size=700, normalization_rule_name="nmt_nfkc", add_dummy_prefix=False)


@recipe
def keep_spaces() -> bytes:
    return train(vocab_size=700, normalization_rule_name="identity", remove_extra_whitespaces=False)


@recipe
def unescaped_spaces() -> bytes:
    def change(message: Any) -> None:
        message.normalizer_spec.escape_whitespaces = False

    return edited(train(vocab_size=700, **LLAMA), change)


@recipe
def unescaped_spaces_trimmed() -> bytes:
    def change(message: Any) -> None:
        message.normalizer_spec.escape_whitespaces = False
        for piece in _normal(message)[::2]:
            piece.piece = piece.piece.replace(SPACE, " ")

    return edited(train(vocab_size=700, normalization_rule_name="identity"), change)


@recipe
def suffix_spaces() -> bytes:
    return train(vocab_size=700, normalization_rule_name="identity", treat_whitespace_as_suffix=True)


@recipe
def suffix_spaces_kept() -> bytes:
    return train(vocab_size=700, treat_whitespace_as_suffix=True, **LLAMA)


@recipe
def suffix_spaces_no_dummy() -> bytes:
    return train(
        vocab_size=700,
        normalization_rule_name="nmt_nfkc",
        treat_whitespace_as_suffix=True,
        add_dummy_prefix=False,
    )


@recipe
def runs_joined_to_words() -> bytes:
    """Pieces such as ▁▁a: runs of spaces take part in ordinary merges."""
    return train(vocab_size=1_500, lines=3_000, alphabets=("latin",), **LLAMA)


@recipe
def across_words() -> bytes:
    return train(
        vocab_size=1_500,
        normalization_rule_name="identity",
        split_by_whitespace=False,
        max_sentencepiece_length=24,
    )


@recipe
def across_words_kept() -> bytes:
    return train(vocab_size=1_500, split_by_whitespace=False, **LLAMA)


@recipe
def across_words_suffix() -> bytes:
    return train(
        vocab_size=1_500, split_by_whitespace=False, treat_whitespace_as_suffix=True, byte_fallback=True
    )


# Alphabets and sizes


@recipe
def no_script_split() -> bytes:
    return train(
        vocab_size=1_500,
        alphabets=WORLD,
        split_by_unicode_script=False,
        split_by_number=False,
        normalization_rule_name="identity",
    )


@recipe
def thai() -> bytes:
    return train(vocab_size=900, alphabets=("thai",), **LLAMA)


@recipe
def cjk() -> bytes:
    return train(
        vocab_size=1_500, alphabets=("cjk", "kana", "hangul", "jamo"), normalization_rule_name="nfkc"
    )


@recipe
def emoji() -> bytes:
    return train(vocab_size=700, alphabets=("emoji", "latin"), split_by_unicode_script=False, **LLAMA)


@recipe
def deseret() -> bytes:
    return train(vocab_size=900, alphabets=("deseret",), normalization_rule_name="identity")


@recipe
def tiny() -> bytes:
    return train(vocab_size=300, alphabets=("latin",), **{**LLAMA, "character_coverage": 0.98})


@recipe
def large() -> bytes:
    return train(vocab_size=8_000, alphabets=(*WORLD, "thai", "greek", "hebrew"), lines=6_000, **LLAMA)


@recipe
def soft_limit() -> bytes:
    return train(
        vocab_size=8_000,
        alphabets=("latin",),
        lines=100,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
    )


@recipe
def few_characters() -> bytes:
    """Most characters are unknown, and adjacent unknowns are one id."""
    return train(vocab_size=300, alphabets=("latin", "cyrillic"), character_coverage=0.98)


# Kinds of pieces


SYMBOLS = [
    "<sep>",
    "<sep><sep>",
    "foo",
    "foobar",
    "barbaz",
    f"foo{SPACE}bar",
    "foo bar",
    "日本",
    "日本語",
    "🦙",
    "ab",
    "b",
    "  ",
    "\t",
]


@recipe
def user_defined() -> bytes:
    return train(vocab_size=800, user_defined_symbols=SYMBOLS, **LLAMA)


@recipe
def user_defined_nmt() -> bytes:
    return train(vocab_size=700, user_defined_symbols=SYMBOLS, normalization_rule_name="nmt_nfkc")


@recipe
def user_defined_spaces() -> bytes:
    return train(
        vocab_size=700,
        user_defined_symbols=[SPACE, SPACE * 3, f"{SPACE}the", "e", "ﬁ", "<s>x", "é"],
        normalization_rule_name="nfkc_cf",
        byte_fallback=True,
    )


@recipe
def control_symbols() -> bytes:
    return train(vocab_size=800, control_symbols=["<ctrl>", "<sep>", "foo"], pad_id=3, **LLAMA)


@recipe
def moved_ids() -> bytes:
    return train(
        vocab_size=700,
        unk_id=3,
        pad_id=0,
        bos_id=-1,
        eos_id=1,
        eos_piece="<end>",
        normalization_rule_name="identity",
        hard_vocab_limit=False,
    )


@recipe
def no_unknown_piece() -> bytes:
    return train(vocab_size=700, unk_id=-1, bos_id=0, eos_id=1, **LLAMA)


@recipe
def unknown_surface() -> bytes:
    return train(
        vocab_size=400, unk_surface="[?]", normalization_rule_name="identity", character_coverage=0.99
    )


@recipe
def unknown_surface_empty() -> bytes:
    return train(vocab_size=400, unk_surface="", normalization_rule_name="identity", character_coverage=0.99)


@recipe
def unknown_surface_absent() -> bytes:
    def change(message: Any) -> None:
        message.trainer_spec.ClearField("unk_surface")

    return edited(identity(), change)


def _unused(data: bytes, seed: int, share: float) -> bytes:
    def change(message: Any) -> None:
        rng = random.Random(seed)
        for piece in _normal(message):
            if rng.random() < share:
                piece.type = piece.UNUSED

    return edited(data, change)


@recipe
def unused() -> bytes:
    """A third of all pieces is unused: single characters too, and pieces inside others unused too."""
    return _unused(train(vocab_size=1_000, **LLAMA), 5, 0.33)


@recipe
def unused_most() -> bytes:
    return _unused(train(vocab_size=1_000, normalization_rule_name="nmt_nfkc"), 6, 0.85)


@recipe
def unused_with_symbols() -> bytes:
    return _unused(
        train(
            vocab_size=800,
            user_defined_symbols=SYMBOLS,
            treat_whitespace_as_suffix=True,
            normalization_rule_name="nfkc",
        ),
        7,
        0.5,
    )


@recipe
def unused_deep() -> bytes:
    """A chain of unused pieces deeper than SentencePiece's limit of resegmentation."""

    def change(message: Any) -> None:
        kept = [piece for piece in message.pieces if piece.piece.count("q") < 2]
        del message.pieces[:]
        message.pieces.extend(kept)
        # q^n comes from q^(n-1) and q: longer pieces first, so that one symbol grows from the left.
        for length in range(2, 131):
            piece = message.pieces.add(piece="q" * length, score=float(length))
            piece.type = piece.UNUSED

    return edited(train(vocab_size=700, **LLAMA), change)


@recipe
def no_bytes_many_unknown() -> bytes:
    """Characters of merges that are not pieces themselves: what stays alone is unknown."""

    def change(message: Any) -> None:
        kept = [piece for piece in message.pieces if piece.piece not in ("a", "e", "t", SPACE, "о", "и")]
        del message.pieces[:]
        message.pieces.extend(kept)

    return edited(train(vocab_size=700, normalization_rule_name="identity"), change)


@recipe
def bytes_many_unknown() -> bytes:
    def change(message: Any) -> None:
        kept = [piece for piece in message.pieces if piece.piece not in ("a", "e", "t", SPACE, "о", "и")]
        del message.pieces[:]
        message.pieces.extend(kept)

    return edited(train(vocab_size=900, **LLAMA), change)


@recipe
def null_piece() -> bytes:
    """A piece of one NUL, as some converters write: SentencePiece never matches it."""

    def change(message: Any) -> None:
        message.pieces.add(piece="\0", score=-1.0)

    return edited(train(vocab_size=700, **LLAMA), change)


# Scores


def _scored(data: bytes, score: Callable[[random.Random, int], float]) -> bytes:
    def change(message: Any) -> None:
        rng = random.Random(11)
        for rank, piece in enumerate(_normal(message)):
            piece.score = score(rng, rank)

    return edited(data, change)


@recipe
def equal_scores() -> bytes:
    return _scored(train(vocab_size=1_000, **LLAMA), lambda rng, rank: -1.0)


@recipe
def few_scores() -> bytes:
    return _scored(train(vocab_size=1_000, **LLAMA), lambda rng, rank: float(-rng.randrange(4)))


@recipe
def signed_scores() -> bytes:
    """Positive, negative and both zeros: SentencePiece holds -0.0 below 0.0."""
    values = (-1.5, 1.5, 0.0, -0.0, 3.0, -3.0, 1e-30, -1e-30, 1e38, -1e38)
    return _scored(train(vocab_size=1_000, **LLAMA), lambda rng, rank: rng.choice(values))


@recipe
def infinite_scores() -> bytes:
    """Scores beyond all numbers."""
    values = (-1.5, 1.5, float("inf"), float("-inf"))
    return _scored(train(vocab_size=1_000, **LLAMA), lambda rng, rank: rng.choice(values))


@recipe
def shuffled_scores() -> bytes:
    return _scored(
        train(vocab_size=1_500, lines=3_000, split_by_whitespace=False, **LLAMA),
        lambda rng, rank: -rng.random(),
    )


@recipe
def shuffled_scores_no_bytes() -> bytes:
    return _scored(train(vocab_size=1_000, alphabets=WORLD), lambda rng, rank: rng.uniform(-2, 2))


# A loader may refuse these, with the reason; if it loads one, the ids must be right.
# For the fast engine


def _enter_with_runs_last(name: str) -> None:
    RECIPES[f"{name}_runs_last"] = lambda: edited(model(name), _lower_runs)


for _name in ("no_prefix", "thai", "emoji", "tiny", "large", "control_symbols"):
    _enter_with_runs_last(_name)


@recipe
def user_defined_no_spaces() -> bytes:
    symbols = [symbol for symbol in SYMBOLS if not {" ", SPACE} & {*symbol}]
    return edited(train(vocab_size=800, user_defined_symbols=symbols, **LLAMA), _lower_runs)


@recipe
def user_defined_no_spaces_nfkc() -> bytes:
    symbols = [symbol for symbol in SYMBOLS if not {" ", SPACE} & {*symbol}]
    return train(vocab_size=800, user_defined_symbols=[*symbols, "ﬁ", "e"], normalization_rule_name="nfkc_cf")


MAY_BE_REFUSED = frozenset({"denormalizer", "infinite_scores", "no_unknown_piece"})
