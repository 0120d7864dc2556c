"""The tokens of a text, one by one: what each stands for, and where in the text it is from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from llamatok._core import Pipeline, Tokenizer
from llamatok.inspect import tokens_html

__all__ = ["Group", "Token", "TokenView", "legacy_views", "side_by_side", "token_view"]

SPACE = "▁"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

#: Kinds that no text spells.
_SPECIAL = frozenset({"control", "unknown", "special", "padding"})

#: Two backgrounds, taken by turns, under black; and one for special tokens.
COLOURS = ("\x1b[30;48;5;152m", "\x1b[30;48;5;223m")
SPECIAL_COLOUR = "\x1b[97;48;5;60m"
FAINT = "\x1b[2m"
RESET = "\x1b[0m"


class Token(NamedTuple):
    """A token.

    Attributes:
        id: its id.
        piece: as it stands in the vocabulary, "▁" for a space and "<0x0A>" for a byte.
        kind: "normal", "byte", "control", "unknown", "user_defined" or "unused", by the model; "special" and
            "padding" where only an encoding is known, which does not tell the others apart.
        span: the code points of the text that it is from, from the first to before the last; None for a
            token that is not from the text, and where that is not known.
        score: as it stands in the model; None where there is none.
    """

    id: int
    piece: str
    kind: str
    span: tuple[int, int] | None = None
    score: float | None = None


class Group(NamedTuple):
    """Tokens that make a character together (bytes), or a single one.

    Attributes:
        tokens: the tokens.
        text: what they stand for, with spaces as spaces; the piece of a special token or a byte that is part
            of no character.
        kind: "text", "bytes", "stray" (a byte that is part of no character), or "special".
        span: the code points of the text, or None.
    """

    tokens: tuple[Token, ...]
    text: str
    kind: str
    span: tuple[int, int] | None


@dataclass
class TokenView:
    """The tokens of a text, for people to look at.

    Attributes:
        tokens: the tokens.
        title: what stands above them: the name of a tokenizer, say.
        size: the text in bytes of UTF-8; None where the text is not known.
        length: the text in code points, likewise.
    """

    tokens: list[Token]
    title: str = ""
    size: int | None = None
    length: int | None = None
    #: Indexes of the groups that another view of the same text does not have; `side_by_side` fills it in.
    different: set[int] = field(default_factory=set)

    def groups(self) -> list[Group]:
        """The tokens, with those put together that make one character."""
        return list(_groups(self.tokens))

    def totals(self) -> str:
        """The numbers of tokens and bytes."""
        count = f"{len(self.tokens)} token{'' if len(self.tokens) == 1 else 's'}"
        return count if self.size is None else f"{count}, {self.size} byte{'' if self.size == 1 else 's'}"

    def to_text(self, *, coloured: bool = False) -> str:
        """The view for a terminal: the text in pieces, a line a token, and the totals.

        A line has the id, the kind, the piece, its range of code points, and, at the first of several bytes,
        their character. `≠` marks what the view beside it does not have.
        """
        return "\n".join(self._lines(coloured)) + "\n"

    def to_html(self) -> str:
        """A page of its own that takes nothing from the network; see `side_by_side` for two views."""
        return tokens_html.page([self])

    def to_dict(self) -> dict[str, Any]:
        """The view as JSON has it."""
        tokens = [token._asdict() | {"kind": token.kind.upper()} for token in self.tokens]
        return {"title": self.title, "bytes": self.size, "tokens": tokens}

    def _repr_html_(self) -> str:
        return tokens_html.fragment([self])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page (`.html`) or the view for terminals (`.txt`), by the ending of the name.

        Raises:
            ValueError: another ending.
        """
        path = Path(path)
        writers = {".html": self.to_html, ".txt": self.to_text}
        if path.suffix.lower() not in writers:
            raise ValueError(f"`{path}`: the ending must be .html or .txt")
        partial = path.with_name(path.name + ".partial")
        partial.write_text(writers[path.suffix.lower()](), encoding="utf-8")
        partial.replace(path)
        return path

    def _lines(self, coloured: bool) -> Iterator[str]:
        groups = self.groups()
        rows = [(i, j, token) for i, group in enumerate(groups) for j, token in enumerate(group.tokens)]
        colours = [SPECIAL_COLOUR if g.kind == "special" else COLOURS[i % 2] for i, g in enumerate(groups)]

        def shown(i: int, token: Token) -> str:
            piece = printable(token.piece)
            return f"{colours[i]}{piece}{RESET}" if coloured else piece

        if self.title:
            yield printable(self.title)
        yield ("" if coloured else "|").join(shown(i, token) for i, _, token in rows)
        yield ""
        width = max([len(str(token.id)) for token in self.tokens], default=0)
        kind_width = max([len(token.kind) for token in self.tokens], default=0)
        piece_width = max([len(printable(token.piece)) for token in self.tokens], default=0)
        faint, reset = (FAINT, RESET) if coloured else ("", "")
        for i, j, token in rows:
            line = f"{token.id:>{width}}  {faint}{token.kind:<{kind_width}}{reset}  {shown(i, token)}"
            notes = [] if token.span is None else [f"{token.span[0]}-{token.span[1]}"]
            if j == 0 and groups[i].kind == "bytes":
                notes.append(printable(groups[i].text))
            if i in self.different:
                notes.append("≠")
            if notes:
                padding = " " * (piece_width - len(printable(token.piece)))
                line += f"{padding}  {faint}{'  '.join(notes)}{reset}"
            yield line
        if rows:
            yield ""
        yield self.totals()


def printable(text: str) -> str:
    """The text with controls and other invisible characters escaped, which a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read(data: bytes) -> str:
    """Bytes as the tokenizer reads them: one that begins no valid character counts as U+FFFD."""
    return re.sub("[\udc80-\udcff]", "\ufffd", data.decode(errors="surrogateescape"))


def _groups(tokens: Sequence[Token]) -> Iterator[Group]:
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.kind == "byte":
            stop = place
            while stop < len(tokens) and tokens[stop].kind == "byte":
                stop += 1
            yield from _byte_groups(tokens[place:stop])
            place = stop
            continue
        special = token.kind in _SPECIAL
        text = token.piece if special else token.piece.replace(SPACE, " ")
        yield Group((token,), text, "special" if special else "text", token.span)
        place += 1


def _byte_groups(tokens: Sequence[Token]) -> Iterator[Group]:
    """A run of bytes, cut into characters."""
    data = bytes(int(found[1], 16) if (found := _BYTE.fullmatch(t.piece)) else 0 for t in tokens)
    place = 0
    while place < len(data):
        size = _character_size(data, place)
        part = tuple(tokens[place : place + max(size, 1)])
        spans = [token.span for token in part if token.span is not None]
        span = (min(s for s, _ in spans), max(e for _, e in spans)) if spans else None
        if size:
            yield Group(part, data[place : place + size].decode(), "bytes", span)
        else:
            yield Group(part, part[0].piece, "stray", span)
        place += len(part)


def _character_size(data: bytes, place: int) -> int:
    """The length of the UTF-8 character at a place, or 0."""
    for size in range(1, 5):
        try:
            return len(data[place : place + size].decode().encode())
        except UnicodeDecodeError:
            continue
    return 0


def token_view(
    tokenizer: Any,
    text: str | bytes,
    *,
    add_bos: bool = False,
    add_eos: bool = False,
    parse_special: bool = False,
    title: str = "",
) -> TokenView:
    """The tokens of a text.

    Args:
        tokenizer: a `Tokenizer`; or a `LlamaTokenizer`, which has its own rules for special tokens, so that
            the three flags are not for it.
        text: the text; bytes are UTF-8, in which a byte that begins no valid character counts as U+FFFD.
        add_bos: put the beginning-of-sequence token in front.
        add_eos: put the end-of-sequence token behind.
        parse_special: turn the text of control tokens into the tokens.
        title: stands above the view.

    Raises:
        ValueError: a flag is given with a `LlamaTokenizer`, the vocabulary lacks the token, or the text has a
            lone surrogate.

    Examples:
        `token_view(Tokenizer.default(), "Hello 🦙").save("tokens.html")`
    """
    data = text.encode() if isinstance(text, str) else text
    decoded = read(data)
    if not isinstance(tokenizer, Tokenizer):
        if add_bos or add_eos or parse_special:
            raise ValueError(
                "`add_bos`, `add_eos` and `parse_special` are for a `Tokenizer`; this one has its own rules"
            )
        tokens = _of_encoding(tokenizer(decoded)[0], frozenset(tokenizer.all_special_ids))
        return TokenView(tokens, title, len(data), len(decoded))
    ids = tokenizer.encode_batch(
        [data], add_bos=add_bos, add_eos=add_eos, parse_special=parse_special
    ).ids.tolist()
    spans = _spans(tokenizer, decoded, ids, add_bos, parse_special)
    score = score_of(tokenizer)
    tokens = [
        Token(id, tokenizer.id_to_piece(id), tokenizer.kind(id).lower(), span, score(id))
        for id, span in zip(ids, spans, strict=True)
    ]
    return TokenView(tokens, title, len(data), len(decoded))


def score_of(tokenizer: Tokenizer) -> Callable[[int], float | None]:
    """What gives the score of an id: None for a `tokenizer.json`, which lists merges instead."""
    if tokenizer.settings["format"] == "tokenizer.json":
        return lambda id: None
    return tokenizer.score


def _spans(
    tokenizer: Tokenizer, text: str, ids: list[int], add_bos: bool, parse_special: bool
) -> list[tuple[int, int] | None]:
    """The range of each token, by a pipeline of the same rules; none where its ids are others."""
    pipeline = Pipeline.from_tokenizer(tokenizer)
    is_json = pipeline.mode == "tokenizer_json"
    if parse_special and not is_json:
        special = [i for i in range(len(tokenizer)) if tokenizer.kind(i) in ("CONTROL", "UNKNOWN")]
        added = [(i, tokenizer.id_to_piece(i), False, False, False, False, True) for i in special]
        pipeline = pipeline.with_added_tokens(added).with_special_ids(special)
    encoded = pipeline.encode_batch(
        [text], offsets=True, add_special_tokens=False, split_special_tokens=is_json and not parse_special
    )
    found, before = encoded.ids.tolist(), int(add_bos)
    after = len(ids) - len(found) - before
    if encoded.char_offsets is None or ids[before : before + len(found)] != found or after not in (0, 1):
        return [None] * len(ids)
    return [None] * before + [(start, end) for start, end in encoded.char_offsets.tolist()] + [None] * after


def _of_encoding(encoding: Any, special_ids: frozenset[int] = frozenset()) -> list[Token]:
    """The tokens of an `Encoding`."""
    tokens = []
    for row in range(len(encoding)):
        id, piece = encoding.ids[row], encoding.tokens[row]
        from_text = encoding.sequence_ids[row] is not None
        if not encoding.attention_mask[row]:
            kind = "padding"
        elif encoding.special_tokens_mask[row] or id in special_ids:
            kind = "special"
        else:
            kind = "byte" if _BYTE.fullmatch(piece) else "normal"
        tokens.append(Token(id, piece, kind, encoding.offsets[row] if from_text else None))
    return tokens


def encoding_view(encoding: Any, title: str = "", first: int | None = None) -> TokenView:
    """The view of an `Encoding`, or of its first tokens. It does not know which tokens in the middle of a
    text are special."""
    tokens = _of_encoding(encoding)
    return TokenView(tokens if first is None else tokens[:first], title)


def legacy_views(tokenizer: Tokenizer, text: str | bytes, *, title: str = "") -> tuple[TokenView, TokenView]:
    """A text as Hugging Face's interface encodes it, with `legacy=True` and with `legacy=False`.

    The difference is the prefix space that text after a special token gets with `legacy=True` only.

    Raises:
        ValueError: the tokenizer is from a `tokenizer.json`, which settles this.
    """
    if tokenizer.settings["format"] == "tokenizer.json":
        raise ValueError(
            "a tokenizer.json settles by itself what `legacy` would: there is nothing to compare"
        )
    from llamatok.tokenization import LlamaTokenizer

    lead = f"{title}, " if title else ""
    views = [
        token_view(
            LlamaTokenizer(tokenizer_object=tokenizer, legacy=legacy), text, title=f"{lead}legacy={legacy}"
        )
        for legacy in (True, False)
    ]
    return side_by_side(views[0], views[1])


def side_by_side(left: TokenView, right: TokenView) -> tuple[TokenView, TokenView]:
    """Marks in each view what the other one of the same text does not have: the same piece from the same
    place. The ids do not count, since those of two vocabularies have nothing to do with each other."""

    def keys(view: TokenView) -> list[object]:
        return [(g.span, tuple(t.piece for t in g.tokens)) for g in view.groups()]

    ours, theirs = keys(left), keys(right)
    in_right, in_left = set(theirs), set(ours)
    left.different = {i for i, key in enumerate(ours) if key not in in_right}
    right.different = {i for i, key in enumerate(theirs) if key not in in_left}
    return left, right
