"""What is told of a vocabulary, against counts made another way, and pages that it cannot act on."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from llamatok import Tokenizer
from llamatok._core import Pipeline
from llamatok.inspect import vocabulary_report
from llamatok.inspect.samples import SAMPLES
from llamatok.inspect.vocabulary import OTHER, compare, script_of, unproduced
from support.models import edited, model


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.default()


def with_pieces(data: bytes, pieces: dict[str, float]) -> bytes:
    """A model with more pieces at its end."""

    def change(message: Any) -> None:
        for piece, score in pieces.items():
            message.pieces.add(piece=piece, score=score, type=1)

    return edited(data, change)


def test_counts(tokenizer: Tokenizer) -> None:
    report = vocabulary_report(tokenizer, name="mine")
    counted = {kind.lower(): count for kind, count in tokenizer.settings["kinds"].items() if count}
    assert report.kinds == counted
    assert sum(report.lengths.values()) == counted["normal"]
    normal = [piece for id, piece in enumerate(tokenizer.pieces()) if tokenizer.kind(id) == "NORMAL"]
    assert report.lengths[1] == sum(len(piece) == 1 for piece in normal)
    cyrillic = next(script for script in report.scripts if script.name == "Cyrillic")
    assert cyrillic.pieces == sum(any(script_of(c) == "Cyrillic" for c in piece) for piece in normal)
    longest = report.pieces[report.longest[0]].piece
    assert len(longest) == max(map(len, normal))


def test_bytes_per_token(tokenizer: Tokenizer) -> None:
    report = vocabulary_report(tokenizer, {"a": "Grüße", "b": b"\xff", "none": ""})
    assert [(m.name, m.bytes, m.characters) for m in report.measures] == [
        ("a", 7, 5),
        ("b", 1, 1),
        ("none", 0, 0),
    ]
    assert [m.tokens for m in report.measures] == tokenizer.count(["Grüße", b"\xff", ""]).tolist()
    assert report.measures[0].bytes_per_token == 7 / len(tokenizer.encode("Grüße"))
    assert report.measures[2].bytes_per_token == 0
    assert report.total().bytes == 8


@pytest.mark.parametrize(
    ("character", "script"),
    [
        ("a", "Latin"),
        ("Ａ", "Latin"),
        ("ß", "Latin"),
        ("世", "CJK"),
        ("ᥐ", "Tai Le"),
        ("ก", "Thai"),
        ("ｶ", "Katakana"),
        ("한", "Hangul"),
        ("µ", OTHER),
        ("ʰ", OTHER),
        ("1", None),
        ("▁", None),
        ("🦙", None),
    ],
)
def test_scripts(character: str, script: str | None) -> None:
    assert script_of(character) == script


def test_the_embedded_vocabulary_gives_all_its_pieces(tokenizer: Tokenizer) -> None:
    report = vocabulary_report(tokenizer)
    assert report.unproduced == []
    assert report.unproduced_is_proof


def test_a_piece_that_merging_never_makes() -> None:
    # No two characters of "②④⑤" are a piece; and "①②③④" needs "①②" and "③④", but "②③" is taken before them.
    more = {"①②": -3.0, "③④": -4.0, "②③": -1.0, "①②③④": -5.0, "②④⑤": -6.0, "▁①②": -7.0}
    data = with_pieces(model("llama_like"), more)
    tokenizer = Tokenizer.from_bytes(data)
    report = vocabulary_report(tokenizer)
    named_ids = report.unproduced or []
    named = [report.pieces[id].piece for id in named_ids]
    assert named == ["①②③④", "②④⑤"]
    assert report.unproduced_is_proof
    ids = set(named_ids)
    for text in ("①②③④", "②④⑤", "a ①②③④⑤", "①①②③④④", *SAMPLES.values()):
        assert not ids & set(tokenizer.encode(text))


@pytest.mark.parametrize("seed", range(8))
def test_no_short_text_gives_an_unproduced_piece(seed: int) -> None:
    """Against all texts of up to seven of three characters; scores are few, so that many are equal."""
    rng = random.Random(seed)
    texts = ["".join(text) for size in range(1, 8) for text in itertools.product("①②③", repeat=size)]
    longer = [text for text in texts if 2 <= len(text) <= 5]
    pieces = {text: -float(rng.randrange(6)) for text in rng.sample(longer, 60)}
    tokenizer = Tokenizer.from_bytes(with_pieces(model("llama_like"), pieces))
    given = {tokenizer.id_to_piece(id) for id in set(tokenizer.encode_batch(texts).ids.tolist())}
    not_given = {tokenizer.id_to_piece(id) for id in unproduced(tokenizer) or []}
    assert len(not_given) > 10
    assert not_given == set(pieces) - given


@pytest.mark.parametrize(
    "name", ["llama_like", "nmt_nfkc", "suffix_spaces", "unescaped_spaces", "user_defined", "few_characters"]
)
def test_what_a_text_gives_is_not_called_unproduced(name: str) -> None:
    tokenizer = Tokenizer.from_bytes(model(name))
    report = vocabulary_report(tokenizer)
    given = set(tokenizer.encode_batch(list(SAMPLES.values())).ids.tolist())
    assert report.unproduced_is_proof is (name in ("llama_like", "unescaped_spaces"))
    assert report.unproduced is not None
    if report.unproduced_is_proof:
        assert not given & set(report.unproduced)
    assert len(report.unproduced) < len(report.pieces) / 20


def test_pieces_in_common(tokenizer: Tokenizer) -> None:
    mine = vocabulary_report(tokenizer)
    other = vocabulary_report(Tokenizer.from_bytes(model("llama_like")))
    found = compare(mine, other)
    left, right = set(tokenizer.pieces()), {token.piece for token in other.pieces}
    assert found.common == len(left & right) > 256
    assert {mine.pieces[id].piece for id in found.only_left} == left - right
    assert {other.pieces[id].piece for id in found.only_right} == right - left


def test_pages_are_of_their_own_and_escape_pieces() -> None:
    hostile = "<script>alert(1)</script>\u202e"
    data = with_pieces(model("llama_like"), {hostile: -1e6, '"><img src=x>': -1e6})
    report = vocabulary_report(Tokenizer.from_bytes(data), {hostile: "text"}, name=hostile)
    plain = vocabulary_report(Tokenizer.default(), {hostile: "text"})
    for content in (report.to_html(), report.to_html(plain), plain.to_html(report)):
        assert "<script" not in content
        assert "<img" not in content
        assert "\u202e" not in content
        assert "<link" not in content
        assert "url(" not in content
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content
    assert "Pieces in common" in report.to_html(plain)
    assert "Pieces in common" not in report.to_html()


def test_reports_on_other_texts_do_not_go_beside(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="other texts"):
        vocabulary_report(tokenizer).to_html(vocabulary_report(tokenizer, {"a": "b"}))


def test_json_and_files(tokenizer: Tokenizer, tmp_path: Path) -> None:
    report = vocabulary_report(tokenizer, {"a": "b"})
    assert json.loads(json.dumps(report.to_dict()))["texts"][0]["name"] == "a"
    assert report.save(tmp_path / "a.html").read_text(encoding="utf-8") == report.to_html()


def test_without_a_character_to_stand_between_nothing_is_told() -> None:
    everything = {chr(code): -1e6 - code for code in range(0xE000, 0xF900)}
    tokenizer = Tokenizer.from_bytes(with_pieces(model("llama_like"), everything))
    report = vocabulary_report(tokenizer)
    assert report.unproduced is None
    assert report.to_dict()["unproduced"] is None
    assert "Not known" in report.to_html()


def test_a_tokenizer_json(tokenizer: Tokenizer) -> None:
    content = Pipeline.from_tokenizer(tokenizer, legacy=False).to_json()
    mine, other = vocabulary_report(tokenizer), vocabulary_report(Tokenizer.from_bytes(content))
    assert other.unproduced == []
    assert not other.unproduced_is_proof
    assert (other.kinds, other.lengths, other.scripts) == (mine.kinds, mine.lengths, mine.scripts)
    assert other.measures == mine.measures
    assert compare(mine, other).common == tokenizer.vocab_size
    assert "Pieces in common" in mine.to_html(other)
