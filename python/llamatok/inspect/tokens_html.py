"""Tokens as HTML: a page of its own, and what a notebook shows."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llamatok.inspect.tokens import Group, Token, TokenView

__all__ = ["chip", "describe", "escaped", "fill", "fragment", "page"]

#: What a page and a notebook show at most, in tokens; more would be slow to draw, and nobody reads them.
PAGE_TOKENS = 20_000
NOTEBOOK_TOKENS = 400

_TURNS = 4
_VISIBLE = {" ": "·", "\n": "↵", "\t": "→", "\r": "␍", "\u00a0": "⍽"}
_NAMES = {" ": "space", "\n": "line break", "\t": "tab", "\r": "carriage return", "\u00a0": "no-break space"}


def fill(template: str, **values: str) -> str:
    """A template of this folder with `{{name}}` filled in, in one pass: values may hold braces themselves."""
    text = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], text)


def page(views: Sequence[TokenView], title: str = "Tokens") -> str:
    """A page that needs nothing else, of one view or several side by side."""
    css = Path(__file__).with_name("tokens.css").read_text(encoding="utf-8")
    panels = "\n".join(_panel(view, i) for i, view in enumerate(views))
    return fill("tokens.html", title=escaped(title), css=css, panels=panels, legend=_legend(views))


def fragment(views: Sequence[TokenView], more: str = "") -> str:
    """What a notebook shows: the first tokens of each view, with their details as tooltips."""
    css = Path(__file__).with_name("tokens.css").read_text(encoding="utf-8")
    left = NOTEBOOK_TOKENS
    parts = [f'<div class="llamatok"><style>{css}</style>']
    for view in views:
        if view.title:
            parts.append(f'<p class="name">{escaped(view.title)}</p>')
        parts.append(f'<div class="tokens" role="list">{_tokens(view, left, "listitem")}</div>')
        parts.append(_left_out(view, left))
        left = max(0, left - len(view.tokens))
    if more:
        parts.append(f'<p class="note">{html.escape(more)}</p>')
    return "".join(parts) + "</div>"


def _panel(view: TokenView, index: int) -> str:
    name = escaped(view.title) or "Tokens"
    facts = [view.totals()]
    if view.size and view.tokens:
        facts.append(f"{view.size / len(view.tokens):.2f} bytes per token")
    if view.different:
        facts.append(f"{len(view.different)} not on the other side")
    return (
        f'<section class="panel" aria-labelledby="name{index}">'
        f'<h2 id="name{index}">{name}</h2><p class="facts">{" · ".join(facts)}</p>'
        f'<div class="tokens" role="listbox" aria-labelledby="name{index}" aria-orientation="horizontal">'
        f"{_tokens(view, PAGE_TOKENS, 'option')}</div>{_left_out(view, PAGE_TOKENS)}</section>"
    )


def _left_out(view: TokenView, limit: int) -> str:
    more = len(view.tokens) - max(limit, 0)
    return f'<p class="note">… and {more:,} more tokens</p>' if more > 0 else ""


def _tokens(view: TokenView, limit: int, role: str) -> str:
    parts: list[str] = []
    shown = 0
    for i, group in enumerate(view.groups()):
        if shown >= limit:
            break
        shown += len(group.tokens)
        parts.append(_group(group, i, role, i in view.different))
        if group.kind != "special" and group.text.endswith("\n"):
            parts.append("<br>")
    return "".join(parts)


def chip(token: Token, index: int) -> str:
    """A piece of a list of pieces."""
    from llamatok.inspect.tokens import TokenView

    return _group(TokenView([token]).groups()[0], index, "listitem", False)


def _group(group: Group, index: int, role: str, different: bool) -> str:
    classes = ["token", f"c{index % _TURNS}"]
    if group.kind != "text":
        classes.append(group.kind)
    if group.tokens[0].kind == "padding":
        classes.append("padding")
    if different:
        classes.append("different")
    label = escaped(describe(group, different))
    place = "" if group.span is None else f' data-start="{group.span[0]}" data-end="{group.span[1]}"'
    focus = f' tabindex="{0 if index == 0 else -1}" aria-selected="false"' if role == "option" else ""
    ids = "".join(f"<i>{token.id}</i>" for token in group.tokens)
    return (
        f'<span class="{" ".join(classes)}" role="{role}"{focus}{place} title="{label}" aria-label="{label}">'
        f'<span class="text">{_shown(group)}</span><span class="ids">{ids}</span></span>'
    )


def _shown(group: Group) -> str:
    if group.kind in ("special", "stray"):
        return escaped(group.text)
    return "".join(_marked(character, i == 0) for i, character in enumerate(group.text)) or "&nbsp;"


def _marked(character: str, first: bool) -> str:
    """A character so that it is seen: spaces and line breaks as signs, what is invisible by its number."""
    if character in _VISIBLE:
        return f'<span class="mark">{_VISIBLE[character]}</span>'
    if not character.isprintable():
        return f'<span class="escaped">U+{ord(character):04X}</span>'
    if first and unicodedata.combining(character):
        return f"◌{html.escape(character)}"
    return html.escape(character)


def escaped(text: str) -> str:
    """The text for HTML, without what is invisible or turns the direction of what follows."""
    return "".join(html.escape(c) if c.isprintable() else f"U+{ord(c):04X}" for c in text)


def describe(group: Group, different: bool = False) -> str:
    """The group in words: what is read out, and shown at the pointer."""
    parts = [_spoken(group)]
    if len(group.tokens) == 1:
        parts.append(f"id {group.tokens[0].id}")
    else:
        parts.append("ids " + " ".join(str(token.id) for token in group.tokens))
    parts.append(_kind(group))
    if group.span is not None:
        parts.append(f"characters {group.span[0]} to {group.span[1]}")
    score = group.tokens[0].score
    if group.kind == "text" and score is not None:
        parts.append(f"score {score:g}")
    if different:
        parts.append("not on the other side")
    return " · ".join(parts)


def _kind(group: Group) -> str:
    first: Token = group.tokens[0]
    if group.kind == "bytes":
        pieces = " ".join(token.piece for token in group.tokens)
        return f"{'byte' if len(group.tokens) == 1 else f'{len(group.tokens)} bytes'} {pieces}"
    if group.kind == "stray":
        return "byte of no character"
    return first.kind.replace("_", "-")


def _spoken(group: Group) -> str:
    if group.kind in ("special", "stray"):
        return "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in group.text)
    return "".join(_spoken_parts(group.text)).strip() or "nothing"


def _spoken_parts(text: str) -> Iterator[str]:
    """Runs of one invisible character are counted: `4 × space`."""
    for found in re.finditer(r"([ \n\t\r\u00a0])\1*|[^ \n\t\r\u00a0]+", text):
        run = found[0]
        if found[1]:
            yield f" {'' if len(run) == 1 else f'{len(run)} × '}[{_NAMES[run[0]]}] "
        else:
            yield "".join(c if c.isprintable() else f" U+{ord(c):04X} " for c in run)


def _legend(views: Sequence[TokenView]) -> str:
    kinds = {group.kind for view in views for group in view.groups()}
    parts = ['<span><span class="mark">·</span> space</span>']
    for kind, sample, text in (
        ("bytes", "é", "bytes that make one character"),
        ("stray", "&lt;0xE2&gt;", "byte of no character"),
        ("special", "&lt;s&gt;", "special token"),
    ):
        if kind in kinds:
            parts.append(f'<span><span class="token {kind}">{sample}</span> {text}</span>')
    if any(view.different for view in views):
        parts.append('<span><span class="token different">a</span> not on the other side</span>')
    return "".join(parts)
