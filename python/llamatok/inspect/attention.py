"""Which tokens may attend to which (the mask), and how much they do (the weights)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llamatok.inspect import attention_html

__all__ = ["AttentionMaskVisualizer", "AttentionView", "attention_mask", "attention_weights"]

#: Longer tokens are cut in pictures, in characters.
_LABEL = 16


@dataclass
class AttentionView:
    """A text's tokens, and what they attend to.

    Attributes:
        tokens: the pieces, n of them; rows are queries, columns are keys.
        mask: bool of shape (n, n): whether a query may attend to a key.
        weights: float32 of shape (layers, heads, n, n), each row of which sums up to 1; None for a mask
            alone. title: stands above the picture.
    """

    tokens: list[str]
    mask: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float32] | None = None
    title: str = "Attention mask"

    def __post_init__(self) -> None:
        n = len(self.tokens)
        if self.mask.shape != (n, n):
            raise ValueError(f"`mask`: expected the shape ({n}, {n}) of the tokens, got {self.mask.shape}")
        if self.weights is not None and (self.weights.ndim != 4 or self.weights.shape[2:] != (n, n)):
            raise ValueError(
                f"`weights`: expected the shape (layers, heads, {n}, {n}), got {self.weights.shape}"
            )

    def shades(self, layer: int | None = None, head: int | None = None) -> npt.NDArray[np.float32]:
        """What a picture shows, from 0 to 1, of shape (n, n).

        Args:
            layer: a layer's weights; None is the mean of all (the mask, where there are no weights).
            head: a head's weights; None is the mean of all.

        Raises:
            ValueError: there is no such layer or head, or there are no weights.
        """
        if self.weights is None:
            if layer is not None or head is not None:
                raise ValueError("this view has a mask and no weights: it has no layers and heads")
            return self.mask.astype(np.float32)
        layers, heads = self.weights.shape[:2]
        for name, index, count in (("layer", layer, layers), ("head", head, heads)):
            if index is not None and not 0 <= index < count:
                raise ValueError(f"there is no {name} {index}: the model has {count}, counted from 0")
        chosen = self.weights[slice(None) if layer is None else slice(layer, layer + 1)]
        chosen = chosen[:, slice(None) if head is None else slice(head, head + 1)]
        return np.asarray(chosen.mean(axis=(0, 1)), dtype=np.float32)

    def to_text(self, layer: int | None = None, head: int | None = None) -> str:
        """The picture in characters, for a terminal: darker is more, `·` is not allowed."""
        shades = self.shades(layer, head)
        labels = [self.label(i) for i in range(len(self.tokens))]
        width = max(map(len, labels), default=0)
        scale = " ░▒▓█"
        lines = [self.title, ""]
        for i, label in enumerate(labels):
            cells = [
                "·" if not self.mask[i, j] else "■" if self.weights is None else scale[_step(shades[i, j])]
                for j in range(len(labels))
            ]
            lines.append(f"{label.rjust(width)} {i:>3} " + " ".join(cells))
        legend = (
            "■ attends   · does not" if self.weights is None else "weight: ' ' < .05 ░ < .25 ▒ < .5 ▓ < .75 █"
        )
        return "\n".join([*lines, "", legend])

    def to_svg(self, layer: int | None = None, head: int | None = None) -> str:
        """The picture as SVG, with the numbers as tooltips."""
        return attention_html.svg(self, self.shades(layer, head))

    def to_html(self) -> str:
        """A page of its own: layers and heads to choose from, arrow keys walk through the cells."""
        return attention_html.page(self)

    def _repr_html_(self) -> str:
        return self.to_svg()

    def save(
        self, path: str | os.PathLike[str], *, layer: int | None = None, head: int | None = None
    ) -> Path:
        """Writes `.txt`, `.svg`, `.html` or `.png` (needs matplotlib), by the ending of the name.

        Raises:
            ValueError: another ending.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if kind == ".png":
            attention_html.write_png(self, self.shades(layer, head), path)
            return path
        writers = {".txt": self.to_text, ".svg": self.to_svg}
        if kind in writers:
            content = writers[kind](layer, head) + "\n"
        elif kind == ".html":
            content = self.to_html()
        else:
            raise ValueError(f"`{path}`: the ending must be .txt, .svg, .html or .png")
        partial = path.with_name(path.name + ".partial")
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
        return path

    def label(self, index: int) -> str:
        """A token as it is shown: cut where it is long, control characters replaced."""
        token = "".join(c if c.isprintable() else "�" for c in self.tokens[index])
        return token if len(token) <= _LABEL else token[: _LABEL - 1] + "…"


def _step(weight: float) -> int:
    return int(np.searchsorted([0.05, 0.25, 0.5, 0.75], weight, side="right"))


def attention_mask(
    tokens: Sequence[str],
    *,
    sliding_window: int | None = None,
    padding: Sequence[int] | None = None,
) -> AttentionView:
    """The mask of a decoder: a token attends to itself and to what stands before it.

    Args:
        tokens: the pieces of a text.
        sliding_window: how many tokens back it reaches, itself included (Mistral); None is all.
        padding: the attention mask of the tokens, 0 at padding, which nothing attends to.
    """
    places = np.arange(len(tokens))
    distance = places[:, None] - places[None, :]
    mask = distance >= 0
    if sliding_window:
        mask &= distance < sliding_window
    if padding is not None:
        mask &= np.asarray(padding, dtype=bool)[None, :]
    return AttentionView(list(tokens), mask)


def attention_weights(model: Any, tokenizer: Any, text: str) -> AttentionView:
    """Runs a model on a text and gives the weights of every layer and head.

    Memory is layers x heads x tokens² x 4 bytes.
    """
    import torch

    ids = tokenizer(text)["input_ids"]
    with torch.inference_mode():
        output = model(
            input_ids=torch.tensor([ids], device=model.device),
            output_attentions=True,
            use_cache=False,
            return_dict=True,
        )
    weights = torch.stack([layer[0].float() for layer in output.attentions]).cpu().numpy()
    view = attention_mask(
        tokenizer.convert_ids_to_tokens(ids), sliding_window=getattr(model.config, "sliding_window", None)
    )
    view.weights, view.title = weights, "Attention weights"
    return view


class AttentionMaskVisualizer:
    """Prints which tokens of a text attend to which, by the name of transformers' class.

    Args:
        model: a model of this package, its configuration, or a folder or hub id with a tokenizer.
        tokenizer: the tokenizer, where the model is not named by a folder.

    Examples:
        `AttentionMaskVisualizer("path/to/checkpoint")("Plants create energy")`
    """

    def __init__(self, model: Any, tokenizer: Any = None) -> None:
        if isinstance(model, (str, os.PathLike)):
            from llamatok import LlamaTokenizer
            from llamatok.models import LlamaConfig

            tokenizer = LlamaTokenizer.from_pretrained(model) if tokenizer is None else tokenizer
            model = LlamaConfig.from_pretrained(model)
        if tokenizer is None:
            raise ValueError("give the `tokenizer` too: a model that is loaded already does not name one")
        self._config = getattr(model, "config", model)
        self._tokenizer = tokenizer

    def __call__(self, text: str, *, suffix: str = "") -> AttentionView:
        """Prints the mask of a text, and returns the view of it."""
        ids = self._tokenizer(text + suffix)["input_ids"]
        view = attention_mask(
            self._tokenizer.convert_ids_to_tokens(ids),
            sliding_window=getattr(self._config, "sliding_window", None),
        )
        print(view.to_text(), file=sys.stdout)
        return view
