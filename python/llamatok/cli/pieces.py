"""Pieces as words of a line: how `encode --format pieces` writes them and `decode` reads them."""

from __future__ import annotations

from llamatok import Tokenizer


def shown_pieces(tokenizer: Tokenizer) -> list[str]:
    """A form of each piece without spaces, line breaks and controls, all different.

    Almost every piece is shown as it is. One with such a character (a user-defined line break, say) is shown
    with `\\n` in its place, and with more backslashes in front where that is a piece of its own.
    """
    pieces = [tokenizer.id_to_piece(id) for id in range(tokenizer.vocab_size)]
    awkward = [id for id, piece in enumerate(pieces) if any(c <= " " for c in piece)]
    if awkward:
        taken = set(pieces)
        for id in awkward:
            shown = "".join(_escape(c) if c <= " " else c for c in pieces[id])
            while shown in taken:
                shown = "\\" + shown
            taken.add(shown)
            pieces[id] = shown
    return pieces


def _escape(character: str) -> str:
    return "\\x20" if character == " " else character.encode("unicode_escape").decode()
