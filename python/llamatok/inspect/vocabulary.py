"""What is in a vocabulary: kinds, lengths and scripts of pieces, those never used, and bytes per token."""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llamatok._core import Tokenizer
from llamatok.inspect import vocabulary_html
from llamatok.inspect.samples import SAMPLES
from llamatok.inspect.tokens import SPACE, Token, read, score_of

__all__ = ["Comparison", "Measure", "Script", "VocabularyReport", "compare", "vocabulary_report"]

#: How many of the longest pieces are named.
LONGEST = 40

#: In a letter's name in Unicode, the first of these words ends the name of its script; and without one of
#: the former, it is a sign of no script.
_CLASS = re.compile(r"\b(?:LETTER|SYLLABLE|SYLLABICS|IDEOGRAPH|CHARACTER|LIGATURE|VOWEL|[A-Z]+SEONG)\b")
_QUALITY = re.compile(r"\b(?:CAPITAL|SMALL|UNIFIED|COMPATIBILITY|INDEPENDENT|SUBSCRIPT|MODIFIER)\b")
_WIDTHS = ("FULLWIDTH ", "HALFWIDTH ", "SUPERSCRIPT ", "SUBSCRIPT ")

OTHER = "other letters"


class Measure(NamedTuple):
    """What a text takes: its bytes of UTF-8, its code points, and its tokens, none put around it."""

    name: str
    bytes: int
    characters: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        """The more, the fewer tokens a text takes; 0 for an empty one."""
        return self.bytes / self.tokens if self.tokens else 0.0


class Script(NamedTuple):
    """A script: how many pieces have letters of it, and how many of its letters are pieces themselves."""

    name: str
    pieces: int
    letters: int


@dataclass
class VocabularyReport:
    """What is in a vocabulary.

    Attributes:
        name: what it is called.
        settings: those of the tokenizer.
        kinds: the number of pieces of each kind.
        lengths: for each length in code points (a space counts), the number of pieces; only normal and
            user-defined pieces, which text spells.
        scripts: those whose letters are in these pieces, by the number of pieces. A letter's script is
            the begin of its name in Unicode, of the version that Python has.
        without_letters: how many of these pieces have none.
        measures: what texts take.
        unproduced: the ids of normal and user-defined pieces that their own text does not give; None where
            that cannot be told.
        unproduced_is_proof: whether no text at all gives those; see `unproduced`.
        longest: the ids of the longest of these pieces.
        pieces: all pieces, by id.
    """

    name: str
    settings: Mapping[str, Any]
    kinds: dict[str, int]
    lengths: dict[int, int]
    scripts: list[Script]
    without_letters: int
    measures: list[Measure]
    unproduced: list[int] | None
    unproduced_is_proof: bool
    longest: list[int]
    pieces: list[Token]

    def total(self) -> Measure:
        """What all texts take together."""
        sums = [sum(getattr(m, part) for m in self.measures) for part in ("bytes", "characters", "tokens")]
        return Measure("all", *sums)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "kinds": self.kinds,
            "lengths": {str(length): count for length, count in self.lengths.items()},
            "scripts": [script._asdict() for script in self.scripts],
            "without_letters": self.without_letters,
            "texts": [
                m._asdict() | {"bytes_per_token": m.bytes_per_token} for m in (*self.measures, self.total())
            ],
            "unproduced": None if self.unproduced is None else self._named(self.unproduced),
            "unproduced_is_proof": self.unproduced_is_proof,
            "longest": self._named(self.longest),
        }

    def _named(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        return [{"id": id, "piece": self.pieces[id].piece} for id in ids]

    def to_html(self, beside: VocabularyReport | None = None) -> str:
        """A page of its own that takes nothing from the network; with another report beside.

        Raises:
            ValueError: the other one has measured other texts.
        """
        ours, theirs = ([m[:3] for m in r.measures] for r in (self, beside or self))
        if ours != theirs:
            raise ValueError("`beside`: that report has measured other texts; give both the same `texts`")
        return vocabulary_html.page(self, beside)

    def save(self, path: str | os.PathLike[str], beside: VocabularyReport | None = None) -> Path:
        """Writes the page."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(self.to_html(beside), encoding="utf-8")
        partial.replace(path)
        return path


class Comparison(NamedTuple):
    """Two vocabularies: the number of pieces in both, and the ids of those in one only."""

    common: int
    only_left: list[int]
    only_right: list[int]


def compare(left: VocabularyReport, right: VocabularyReport) -> Comparison:
    """Which pieces two vocabularies share, whatever their ids and kinds."""
    ours, theirs = ({token.piece for token in report.pieces} for report in (left, right))
    return Comparison(
        len(ours & theirs),
        [token.id for token in left.pieces if token.piece not in theirs],
        [token.id for token in right.pieces if token.piece not in ours],
    )


def vocabulary_report(
    tokenizer: Tokenizer, texts: Mapping[str, str | bytes] | None = None, *, name: str = "tokenizer"
) -> VocabularyReport:
    """Looks through a vocabulary.

    Args:
        tokenizer: the tokenizer.
        texts: texts with their names, to measure bytes per token over; None is some sentences in several
            languages, and code.
        name: what to call the vocabulary.

    Examples:
        `vocabulary_report(Tokenizer.default()).save("vocabulary.html")`
    """
    score = score_of(tokenizer)
    tokens = [
        Token(id, piece, tokenizer.kind(id).lower(), None, score(id))
        for id, piece in enumerate(tokenizer.pieces())
    ]
    spelled = [token for token in tokens if token.kind in ("normal", "user_defined")]
    scripts, without_letters = _scripts(token.piece for token in spelled)
    settings: Mapping[str, Any] = tokenizer.settings
    longest = sorted(spelled, key=lambda token: (-len(token.piece), token.id))[:LONGEST]
    return VocabularyReport(
        name=name,
        settings=settings,
        kinds=dict(Counter(token.kind for token in tokens).most_common()),
        lengths=dict(sorted(Counter(len(token.piece) for token in spelled).items())),
        scripts=scripts,
        without_letters=without_letters,
        measures=_measures(tokenizer, SAMPLES if texts is None else texts),
        unproduced=unproduced(tokenizer),
        unproduced_is_proof=_is_proof(settings),
        longest=[token.id for token in longest],
        pieces=tokens,
    )


def _measures(tokenizer: Tokenizer, texts: Mapping[str, str | bytes]) -> list[Measure]:
    data = [text.encode() if isinstance(text, str) else text for text in texts.values()]
    counts = tokenizer.count(data).tolist()
    return [
        Measure(name, len(text), len(read(text)), count)
        for name, text, count in zip(texts, data, counts, strict=True)
    ]


def script_of(character: str) -> str | None:
    """A letter's script by its name in Unicode, "Latin" for one; None for what is no letter."""
    if not character.isalpha():
        return None
    name = unicodedata.name(character, "")
    for width in _WIDTHS:
        name = name.removeprefix(width)
    found = _CLASS.search(name)
    if found is None:
        return OTHER
    script = _QUALITY.split(name[: found.start()])[0].split()
    return " ".join(word if word == "CJK" else word.capitalize() for word in script) or OTHER


def _scripts(pieces: Iterable[str]) -> tuple[list[Script], int]:
    script = functools.cache(script_of)
    found: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    without = 0
    for piece in pieces:
        names = {found_in for c in piece if (found_in := script(c)) is not None}
        found.update(names)
        without += not names
        if len(piece) == 1:
            letters.update(names)
    return [Script(name, count, letters[name]) for name, count in found.most_common()], without


def unproduced(tokenizer: Tokenizer) -> list[int] | None:
    """The ids of normal and user-defined pieces that their own text does not give.

    The text is put between two characters that are in no piece, so that nothing outside merges with it, and
    the space that a model puts in front stays apart.

    Where the model does not normalize, keeps extra spaces and has no user-defined pieces, **no text at all**
    gives such a piece. For merging takes the best pair of neighbours, and the leftmost of equals. If a piece
    comes out of a text, then no pair across its borders was ever taken. So the pairs taken within were, each
    in its turn, the best of those within, which are the pairs that its own text alone would take, in the
    same order: it would give the same piece. Else, another text may, and this is only a hint.

    Control, unknown, unused and byte pieces are never asked about. None where no character can stand
    between: each is in a piece, or leaves no token.
    """
    pieces = tokenizer.pieces()
    kinds = ("NORMAL", "USER_DEFINED")
    asked = np.array([id for id in range(len(pieces)) if tokenizer.kind(id) in kinds], dtype=np.int64)
    borders = _border(tokenizer, pieces)
    if borders is None:
        return None
    border, before, after = borders
    settings = tokenizer.settings
    space = " " if settings["escape_whitespaces"] else SPACE
    batch = tokenizer.encode_batch([border + pieces[id].replace(SPACE, space) + border for id in asked])
    starts, length = batch.offsets[:-1], len(before) + 1 + len(after)
    rows = np.flatnonzero(np.diff(batch.offsets) == length)
    got = batch.ids[starts[rows, None] + np.arange(length)].astype(np.int64)
    wanted = np.empty_like(got)
    wanted[:, : len(before)], wanted[:, len(before)], wanted[:, len(before) + 1 :] = (
        before,
        asked[rows],
        after,
    )
    given = np.zeros(len(asked), dtype=bool)
    given[rows] = (got == wanted).all(axis=1)
    ids: list[int] = asked[~given].tolist()
    return ids


def _border(tokenizer: Tokenizer, pieces: Sequence[str]) -> tuple[str, list[int], list[int]] | None:
    """A character that is in no piece, and its ids at the begin and at the end of a text; or None."""
    taken = set().union(*pieces)
    for code in range(0xE000, 0xF900):
        character = chr(code)
        if character in taken:
            continue
        ids = tokenizer.encode(character)
        bytes_of = [tokenizer.piece_to_id(f"<0x{byte:02X}>") for byte in character.encode()]
        for found in (bytes_of, [tokenizer.unk_id]):
            alone = [id for id in found if id is not None]
            if alone and ids[-len(alone) :] == alone:
                return character, ids, alone
            if alone and ids[: len(alone)] == alone:
                return character, alone, ids
    return None


def _is_proof(settings: Mapping[str, Any]) -> bool:
    """Whether `unproduced` holds for every text."""
    return (
        settings["normalizer"] == "identity"
        and not settings["has_charsmap"]
        and not settings["remove_extra_whitespaces"]
        and not settings["kinds"]["USER_DEFINED"]
    )
