"""What notebooks show of encodings: their first tokens, and how many more there are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llamatok.inspect import tokens_html
from llamatok.inspect.tokens import TokenView, encoding_view

if TYPE_CHECKING:
    from llamatok.tokenization.batch_encoding import BatchEncoding
    from llamatok.tokenization.encoding import Encoding

__all__ = ["batch_html", "encoding_html"]

#: A batch with more ids is shown as text: its tokens are found by encoding it once more.
MOST_IDS = 100_000
_ROWS = 20


def encoding_html(encoding: Encoding) -> str:
    """The tokens of a row."""
    return tokens_html.fragment([encoding_view(encoding)])


def batch_html(batch: BatchEncoding) -> str | None:
    """The tokens of the first rows, as far as there is room; None where the batch is a large one."""
    ids = _number_of_ids(batch.data.get("input_ids"))
    if ids > MOST_IDS or batch.encodings is None:
        return None
    count = len(batch.encodings)
    views: list[TokenView] = []
    left = tokens_html.NOTEBOOK_TOKENS
    for row in range(min(count, _ROWS)):
        if left <= 0:
            break
        encoding = batch.encodings[row]
        views.append(encoding_view(encoding, f"row {row}" if count > 1 else ""))
        left -= len(encoding)
    shapes = ", ".join(f"{name} {_shape(value)}".rstrip() for name, value in batch.data.items())
    hidden = count - len(views)
    more = f"… and {hidden:,} more row{'' if hidden == 1 else 's'}. " if hidden else ""
    return tokens_html.fragment(views, more + shapes)


def _number_of_ids(ids: Any) -> int:
    shape = getattr(ids, "shape", None)
    if shape is not None:
        return math.prod(shape)
    if not ids:
        return 0
    return len(ids) if isinstance(ids[0], int) else sum(map(len, ids))


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return "" if shape is None else str(tuple(shape))
