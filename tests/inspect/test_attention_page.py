"""The page of attention weights in a real browser: hover, arrow keys, choices, what screen readers get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamatok.inspect import AttentionView, attention_mask

from .conftest import Open

TOKENS = ["<s>", "▁The", "▁old", "▁king", "."]


def view() -> AttentionView:
    found = attention_mask(TOKENS)
    raw = np.random.default_rng(3).random((2, 2, 5, 5)) * found.mask
    found.weights = (raw / raw.sum(axis=-1, keepdims=True)).astype(np.float32)
    found.title = "Attention weights"
    return found


@pytest.fixture(scope="module")
def browser(open_page: Open) -> Any:
    return open_page(view().to_html())


def told(browser: Any) -> str:
    text: str = browser.find_element("id", "told").text
    return text


def cell(browser: Any, row: int, column: int) -> Any:
    return browser.find_element("css selector", f'td[data-row="{row}"][data-column="{column}"]')


def test_hovering_tells_the_pair(browser: Any) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).move_to_element(cell(browser, 3, 1)).perform()
    *text, weight, to, key, place = told(browser).split()
    assert [*text, to, key, place] == ["▁king", "(3)", "attends", "with", "weight", "to", "▁The", "(1)"]
    assert abs(float(weight) - view().shades()[3, 1]) <= 0.001


def test_arrow_keys_walk_and_stop_at_the_edge(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    cell(browser, 0, 0).send_keys(Keys.ARROW_DOWN)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert told(browser).startswith("▁The (1) attends with weight")
    for _ in range(9):
        browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert told(browser) == "▁The (1) does not attend to . (4)"
    assert {h.text for h in browser.find_elements("css selector", "th.on")} == {"▁The", "."}


def test_choosing_a_layer_and_a_head_changes_the_numbers(browser: Any) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", "layer")).select_by_visible_text("1")
    Select(browser.find_element("id", "head")).select_by_visible_text("0")
    exact = view().shades(1, 0)[4, 2]
    label = cell(browser, 4, 2).get_attribute("aria-label")
    assert abs(float(label.split()[5]) - exact) <= 0.001
    Select(browser.find_element("id", "layer")).select_by_visible_text("mean of all")
    Select(browser.find_element("id", "head")).select_by_visible_text("mean of all")


def test_only_one_cell_is_in_the_tab_order(browser: Any) -> None:
    assert len(browser.find_elements("css selector", 'td[tabindex="0"]')) == 1


def test_a_picture(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.png"
    assert browser.save_screenshot(str(path))
    assert path.stat().st_size > 5000
