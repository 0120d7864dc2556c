"""The view of a text's tokens: groups, ranges, differences, and nothing that a text could do to a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llamatok import LlamaTokenizer, Tokenizer
from llamatok._core import Pipeline
from llamatok.inspect import TokenView, legacy_views, side_by_side, token_view
from llamatok.inspect.notebook import MOST_IDS
from llamatok.inspect.tokens import Token
from llamatok.inspect.tokens_html import NOTEBOOK_TOKENS, PAGE_TOKENS, fragment, page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\" ' & {{css}} {{title}} </span>\u202e\x00"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.default()


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its texts."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_bytes_of_a_character_are_a_group(tokenizer: Tokenizer) -> None:
    view = token_view(tokenizer, "a🦙\n")
    *_, llama, line_break = view.groups()
    assert (llama.kind, llama.text, llama.span, len(llama.tokens)) == ("bytes", "🦙", (1, 2), 4)
    assert (line_break.text, line_break.span) == ("\n", (2, 3))
    assert [token.id for token in view.tokens] == tokenizer.encode("a🦙\n")
    assert [token for group in view.groups() for token in group.tokens] == view.tokens


def test_bytes_of_no_character_stand_alone() -> None:
    pieces = ["<0xF0>", "<0xC3>", "<0xA9>", "<0xA9>", "<0x41>"]
    view = TokenView([Token(i, piece, "byte") for i, piece in enumerate(pieces)])
    assert [(g.kind, g.text) for g in view.groups()] == [
        ("stray", "<0xF0>"),
        ("bytes", "é"),
        ("stray", "<0xA9>"),
        ("bytes", "A"),
    ]


@pytest.mark.parametrize("parse_special", [False, True])
@pytest.mark.parametrize("text", ["Hello  🦙</s> wörld\n", "<s><s>", "", " ", "世界 你好"])
def test_ranges_give_the_text(tokenizer: Tokenizer, text: str, parse_special: bool) -> None:
    view = token_view(tokenizer, text, add_bos=True, add_eos=True, parse_special=parse_special)
    assert [t.id for t in view.tokens] == tokenizer.encode(
        text, add_bos=True, add_eos=True, parse_special=parse_special
    )
    assert view.tokens[0].span is view.tokens[-1].span is None
    # A prefix space that is a token has the range of the character that it is put before.
    spans = [span for span in (group.span for group in view.groups()[1:-1]) if span is not None]
    assert len(spans) == len(view.groups()) - 2
    assert spans == sorted(spans)
    assert {place for start, end in spans for place in range(start, end)} == set(range(len(text)))


@pytest.mark.parametrize("parse_special", [False, True])
def test_a_tokenizer_json(tokenizer: Tokenizer, parse_special: bool) -> None:
    content = Pipeline.from_tokenizer(tokenizer, legacy=False).to_json()
    of_json = Tokenizer.from_bytes(content)
    text = "Hi</s>there 🦙\n"
    view = token_view(of_json, text, add_bos=True, parse_special=parse_special)
    assert [t.id for t in view.tokens] == of_json.encode(text, add_bos=True, parse_special=parse_special)
    spans = [group.span for group in view.groups()[1:]]
    assert "".join(text[s:e] for s, e in filter(None, spans)) == text
    assert {token.score for token in view.tokens} == {None}
    assert ("</s>" in [token.piece for token in view.tokens]) is parse_special
    with pytest.raises(ValueError, match="settles"):
        legacy_views(of_json, text)


def test_bytes_that_are_not_text_count_as_a_character_each(tokenizer: Tokenizer) -> None:
    data = b"a\xe2\x82b"
    view = token_view(tokenizer, data)
    assert [token.id for token in view.tokens] == tokenizer.encode(data)
    assert [group.span for group in view.groups()] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert (view.size, view.length) == (4, 4)


def test_lone_surrogates_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        token_view(tokenizer, "a\ud800")


def test_flags_are_not_for_a_tokenizer_with_its_own(tokenizer: Tokenizer) -> None:
    own = LlamaTokenizer(tokenizer_object=tokenizer, legacy=False)
    with pytest.raises(ValueError, match="its own rules"):
        token_view(own, "a", add_bos=True)
    view = token_view(own, "a</s>b")
    assert [token.id for token in view.tokens] == own("a</s>b")["input_ids"]
    assert [token.kind for token in view.tokens] == ["special", "normal", "special", "normal"]


def test_legacy_and_not(tokenizer: Tokenizer) -> None:
    legacy, not_legacy = legacy_views(tokenizer, "Hi</s>there")
    assert [legacy.tokens[i].piece for i in legacy.different] == ["▁there"]
    assert "".join(not_legacy.tokens[i].piece for i in sorted(not_legacy.different)) == "there"
    assert legacy.title == "legacy=True"


def test_the_same_beside_itself_does_not_differ(tokenizer: Tokenizer) -> None:
    left, right = side_by_side(token_view(tokenizer, "one two"), token_view(tokenizer, "one two"))
    assert left.different == right.different == set()


def test_a_page_has_every_token_and_takes_nothing_from_elsewhere(tokenizer: Tokenizer) -> None:
    text = "Hello 🦙\n<0x41> é"
    view = token_view(tokenizer, text, add_bos=True, title="mine")
    found = Elements(view.to_html())
    options = [attrs for _, attrs in found.elements if attrs.get("role") == "option"]
    assert len(options) == len(view.groups())
    assert [o["aria-label"] for o in options] == [o["title"] for o in options]
    assert [o["tabindex"] for o in options] == ["0"] + ["-1"] * (len(options) - 1)
    llama = next(o for o in options if o["aria-label"].startswith("🦙"))
    assert llama["aria-label"] == (
        "🦙 · ids 243 162 169 156 · 4 bytes <0xF0> <0x9F> <0xA6> <0x99> · characters 6 to 7"
    )
    assert (llama["data-start"], llama["data-end"]) == ("6", "7")
    assert not {"src", "href"} & {name for _, attrs in found.elements for name in attrs}
    assert "url(" not in view.to_html()
    assert "@import" not in view.to_html()


def test_a_text_cannot_act_on_the_page(tokenizer: Tokenizer) -> None:
    harmless = Elements(token_view(tokenizer, "abc", title="t").to_html())
    for view in (
        token_view(tokenizer, HOSTILE, title=HOSTILE),
        TokenView([Token(1, HOSTILE, kind) for kind in ("normal", "control", "byte")], HOSTILE),
    ):
        for content in (page([view], title=HOSTILE), fragment([view])):
            found = Elements(content)
            tags = [tag for tag, _ in found.elements]
            assert tags.count("script") == (1 if content.startswith("<!doctype") else 0)
            assert "img" not in tags
            assert not any(name.startswith("on") for _, attrs in found.elements for name in attrs)
            assert not {"\u202e", "\x00"} & set(content)
            if content.startswith("<!doctype"):
                assert set(tags) <= {tag for tag, _ in harmless.elements} | {"i", "br"}
                assert "{{title}}" in found.text


def test_invisible_characters_are_seen(tokenizer: Tokenizer) -> None:
    content = token_view(tokenizer, "a\u200bb\tc\n").to_html()
    assert "U+200B" in content
    assert "→" in content
    assert re.search(r"↵</span></span><span class=\"ids\"><i>\d+</i></span></span><br>", content)


def test_a_notebook_shows_some_and_tells_of_the_rest(tokenizer: Tokenizer) -> None:
    own = LlamaTokenizer(tokenizer_object=tokenizer, legacy=False, pad_token="</s>")
    batch = own(["Hello 🦙", "a"] * 30, padding=True, return_tensors="np")
    content = batch._repr_html_()
    assert content is not None
    assert "and 40 more rows" in content
    assert f"input_ids {batch['input_ids'].shape}" in content
    assert "padding" in content
    shown = Elements(batch[0]._repr_html_())
    assert sum(attrs.get("role") == "listitem" for _, attrs in shown.elements) == 5
    long = own("a b " * NOTEBOOK_TOKENS)
    found = Elements(long._repr_html_() or "")
    items = sum(attrs.get("role") == "listitem" for _, attrs in found.elements)
    assert items == NOTEBOOK_TOKENS
    assert f"… and {len(long['input_ids']) - NOTEBOOK_TOKENS:,} more tokens" in found.text


def test_a_page_ends_somewhere(tokenizer: Tokenizer) -> None:
    view = token_view(tokenizer, "a b " * PAGE_TOKENS)
    found = Elements(view.to_html())
    assert sum(attrs.get("role") == "option" for _, attrs in found.elements) == PAGE_TOKENS
    assert f"… and {len(view.tokens) - PAGE_TOKENS:,} more tokens" in found.text


def test_a_notebook_does_not_encode_a_large_batch_again(tokenizer: Tokenizer) -> None:
    own = LlamaTokenizer(tokenizer_object=tokenizer, legacy=False)
    assert own(["a b " * MOST_IDS])._repr_html_() is None
    assert type(own("a"))({"input_ids": [1]})._repr_html_() is None


def test_saving(tokenizer: Tokenizer, tmp_path: Path) -> None:
    view = token_view(tokenizer, "a b")
    assert view.save(tmp_path / "a.html").read_text(encoding="utf-8") == view.to_html()
    assert view.save(tmp_path / "a.txt").read_text(encoding="utf-8") == view.to_text()
    with pytest.raises(ValueError, match=r"\.html or \.txt"):
        view.save(tmp_path / "a.pdf")
