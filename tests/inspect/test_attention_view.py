"""The views of attention show what the mask and the weights say."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from llamatok.inspect import AttentionView, attention_mask

TOKENS = ["<s>", "▁A", "▁nor", "mal", "▁<b>&", "x" * 40]


def _weights(layers: int = 2, heads: int = 3) -> np.ndarray:
    n = len(TOKENS)
    raw = np.random.default_rng(1).random((layers, heads, n, n)) * attention_mask(TOKENS).mask
    return (raw / raw.sum(axis=-1, keepdims=True)).astype(np.float32)


def _view() -> AttentionView:
    view = attention_mask(TOKENS)
    view.weights = _weights()
    return view


def test_the_mask_is_causal() -> None:
    assert np.array_equal(attention_mask(TOKENS).mask, np.tril(np.ones((6, 6), dtype=bool)))


def test_a_sliding_window_ends_what_is_far_back() -> None:
    mask = attention_mask(TOKENS, sliding_window=2).mask
    assert mask.sum(axis=1).tolist() == [1, 2, 2, 2, 2, 2]
    assert mask[5, 4]
    assert not mask[5, 3]


def test_nothing_attends_to_padding() -> None:
    mask = attention_mask(TOKENS, padding=[0, 0, 1, 1, 1, 1]).mask
    assert not mask[:, :2].any()
    assert mask[5, 2:].all()


def test_the_terminal_view_has_a_row_a_token() -> None:
    lines = attention_mask(TOKENS).to_text().splitlines()
    assert lines[2].split() == ["<s>", "0", "■", "·", "·", "·", "·", "·"]
    assert lines[7].split()[-6:] == ["■"] * 6
    assert "…" in lines[7]


def test_shades_are_means_of_what_is_not_chosen() -> None:
    view, weights = _view(), _weights()
    assert np.allclose(view.shades(), weights.mean(axis=(0, 1)))
    assert np.allclose(view.shades(layer=1), weights[1].mean(axis=0))
    assert np.allclose(view.shades(head=2), weights[:, 2].mean(axis=0))
    assert np.allclose(view.shades(1, 2), weights[1, 2])


@pytest.mark.parametrize(
    ("layer", "head", "named"), [(2, None, "layer 2"), (None, 3, "head 3"), (-1, 0, "layer -1")]
)
def test_a_layer_or_head_that_there_is_not_is_named(layer: int | None, head: int | None, named: str) -> None:
    with pytest.raises(ValueError, match=f"there is no {named}"):
        _view().shades(layer, head)


def test_a_mask_has_no_layers() -> None:
    with pytest.raises(ValueError, match="has a mask and no weights"):
        attention_mask(TOKENS).shades(layer=0)


def test_the_svg_is_well_formed_and_tells_each_pair() -> None:
    root = ElementTree.fromstring(_view().to_svg())
    tips = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(tips) == 1 + 36
    weights = _weights().mean(axis=(0, 1))
    assert f"▁<b>& → ▁A: {weights[4, 1]:.3f}" in tips


def test_a_token_cannot_end_the_script_of_the_page() -> None:
    page = attention_mask(["</script><script>alert(1)</script>"]).to_html()
    assert page.count("</script>") == 2  # the page's own
    assert "alert(1)<" not in page


@pytest.mark.parametrize("kind", ["txt", "svg", "html"])
def test_files_are_written_whole(tmp_path: Path, kind: str) -> None:
    path = _view().save(tmp_path / f"view.{kind}")
    assert path.stat().st_size > 100
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="PNG is drawn by matplotlib")
    assert _view().save(tmp_path / "view.png").read_bytes().startswith(b"\x89PNG")


def test_another_ending_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be \.txt, \.svg, \.html or \.png"):
        _view().save(tmp_path / "view.gif")


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`mask`: expected the shape \(6, 6\)"):
        AttentionView(TOKENS, np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match=r"`weights`: expected the shape"):
        AttentionView(TOKENS, attention_mask(TOKENS).mask, np.ones((1, 6, 6), dtype=np.float32))
