"""Pictures of attention: SVG, a page with choices and keys, and PNG."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from llamatok.inspect.attention import AttentionView

__all__ = ["page", "svg", "write_png"]

_CELL = 18
_COLOUR = (31, 78, 156)


def _fill(shade: float) -> str:
    mixed = [round(255 + (c - 255) * float(shade)) for c in _COLOUR]
    return f"#{mixed[0]:02x}{mixed[1]:02x}{mixed[2]:02x}"


def svg(view: AttentionView, shades: npt.NDArray[np.float32]) -> str:
    """The picture, a cell a pair of tokens, with its numbers as tooltips."""
    n = len(view.tokens)
    labels = [view.label(i) for i in range(n)]
    margin = 12 + 8 * max(map(len, labels), default=0)
    size = n * _CELL
    width, height = margin + size + 12, margin + size + 36
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" font-family="ui-monospace, monospace" font-size="12">',
        f"<title>{html.escape(view.title)}: {n} tokens</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="18" font-size="14" fill="#111111">{html.escape(view.title)}</text>',
    ]
    top = margin + 24
    for i, label in enumerate(labels):
        middle = i * _CELL + _CELL * 0.7
        text = html.escape(label)
        parts.append(
            f'<text x="{margin - 6}" y="{top + middle:g}" text-anchor="end" fill="#111111">{text}</text>'
        )
        x = margin + middle
        parts.append(
            f'<text x="{x:g}" y="{top - 6}" transform="rotate(-90 {x:g} {top - 6})"'
            f' fill="#111111">{text}</text>'
        )
    for i in range(n):
        for j in range(n):
            allowed = bool(view.mask[i, j])
            value = f"{shades[i, j]:.3f}" if view.weights is not None else "yes" if allowed else "no"
            colour = _fill(shades[i, j]) if allowed else "#e8e8e8"
            tip = html.escape(f"{labels[i]} → {labels[j]}: {value}")
            parts.append(
                f'<rect x="{margin + j * _CELL}" y="{top + i * _CELL}" width="{_CELL - 1}"'
                f' height="{_CELL - 1}" fill="{colour}" stroke="#cccccc"'
                f' stroke-width="0.5"><title>{tip}</title></rect>'
            )
    parts.append("</svg>")
    return "\n".join(parts)


def page(view: AttentionView) -> str:
    """A page that needs nothing else: choices of layer and head, tooltips, arrow keys, a reading line."""
    data: dict[str, Any] = {
        "title": view.title,
        "tokens": [view.label(i) for i in range(len(view.tokens))],
        "mask": _packed(view.mask.astype(np.uint8)),
        "layers": 0,
        "heads": 0,
        "weights": "",
    }
    if view.weights is not None:
        data["layers"], data["heads"] = view.weights.shape[:2]
        data["weights"] = _packed(np.rint(np.clip(view.weights, 0, 1) * 65535).astype("<u2"))
    # `<` would let a token end the script.
    content = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    template = Path(__file__).with_name("attention.html").read_text(encoding="utf-8")
    return template.replace("{{title}}", html.escape(view.title)).replace("{{data}}", content)


def _packed(values: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def write_png(view: AttentionView, shades: npt.NDArray[np.float32], path: Path) -> None:
    """Draws with matplotlib.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a PNG needs matplotlib: pip install matplotlib, or save as .svg", name=error.name
        ) from None
    n = len(view.tokens)
    side = max(3.0, 0.28 * n + 1.5)
    figure = Figure(figsize=(side, side), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = np.where(view.mask, shades, np.nan)
    axes.set_facecolor("#e8e8e8")
    axes.imshow(shown, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    # A `$` would begin a formula.
    labels = [view.label(i).replace("$", r"\$") for i in range(n)]
    axes.set_xticks(range(n), labels, rotation=90, family="monospace", fontsize=8)
    axes.set_yticks(range(n), labels, family="monospace", fontsize=8)
    axes.xaxis.tick_top()
    axes.set_title(view.title)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.getvalue())
    os.replace(partial, path)
