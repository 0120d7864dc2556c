"""The page of tokens in a real browser: hover, keys, two sides, and texts that would be code."""

from __future__ import annotations

from typing import Any

import pytest

from llamatok import Tokenizer
from llamatok.inspect import legacy_views, token_view, vocabulary_report
from llamatok.inspect.tokens_html import page

from .conftest import Open

TEXT = "Hello 🦙 world\nsecond line"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.default()


def tokens(browser: Any, side: int = 0) -> list[Any]:
    boxes = browser.find_elements("css selector", "[role=listbox]")
    found: list[Any] = boxes[side].find_elements("css selector", "[role=option]")
    return found


def told(browser: Any) -> str:
    text: str = browser.find_element("id", "told").text
    return text


def label(element: Any) -> str:
    text: str = element.get_attribute("aria-label")
    return text


def press(browser: Any, *names: str) -> Any:
    """The element that has the focus after the keys."""
    from selenium.webdriver.common.keys import Keys

    for name in names:
        browser.switch_to.active_element.send_keys(getattr(Keys, name))
    return browser.switch_to.active_element


def no_complaints(browser: Any) -> None:
    assert browser.get_log("browser") == []


def test_hovering_tells_the_token(open_page: Open, tokenizer: Tokenizer) -> None:
    from selenium.webdriver import ActionChains

    browser = open_page(token_view(tokenizer, TEXT).to_html())
    llama = next(token for token in tokens(browser) if label(token).startswith("🦙"))
    ActionChains(browser).move_to_element(llama).perform()
    assert told(browser) == label(llama)
    assert "4 bytes" in told(browser)
    assert "characters 6 to 7" in told(browser)
    no_complaints(browser)


def test_one_stop_for_tab_and_arrows_from_there(open_page: Open, tokenizer: Tokenizer) -> None:
    browser = open_page(token_view(tokenizer, TEXT).to_html())
    found = tokens(browser)
    browser.find_element("id", "ids").click()
    first = press(browser, "TAB")
    assert first == found[0]
    assert told(browser) == label(found[0])
    assert press(browser, "ARROW_RIGHT", "ARROW_RIGHT") == found[2]
    assert press(browser, "ARROW_LEFT") == found[1]
    assert found[1].get_attribute("aria-selected") == "true"
    assert [token.get_attribute("tabindex") for token in found].count("0") == 1
    assert press(browser, "END", "ARROW_RIGHT") == found[-1]
    assert press(browser, "HOME", "ARROW_LEFT") == found[0]
    below = press(browser, "ARROW_DOWN")
    assert below.rect["y"] > found[0].rect["y"]
    assert told(browser) == label(below)
    assert press(browser, "ARROW_UP") == found[0]


def test_a_token_shows_its_place_on_the_other_side(open_page: Open, tokenizer: Tokenizer) -> None:
    browser = open_page(page(legacy_views(tokenizer, "Hi</s>there")))
    left, right = tokens(browser), tokens(browser, 1)
    browser.execute_script("arguments[0].focus()", left[-1])
    same = browser.find_elements("css selector", ".same")
    assert same == right[3:]
    assert "not on the other side" in told(browser)
    browser.execute_script("arguments[0].focus()", right[1])
    assert browser.find_elements("css selector", ".same") == [left[1]]


def test_ids_can_be_hidden(open_page: Open, tokenizer: Tokenizer) -> None:
    browser = open_page(token_view(tokenizer, TEXT).to_html())
    assert tokens(browser)[0].find_element("css selector", ".ids").is_displayed()
    browser.find_element("id", "ids").click()
    assert not tokens(browser)[0].find_element("css selector", ".ids").is_displayed()


def test_texts_are_not_run(open_page: Open, tokenizer: Tokenizer) -> None:
    text = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    browser = open_page(page([token_view(tokenizer, text, title=text)], title="Mine"))
    assert browser.title == "Mine"
    shown = "".join(
        token.find_element("css selector", ".text").get_attribute("textContent") for token in tokens(browser)
    )
    assert shown == "·" + text.replace(" ", "·")
    no_complaints(browser)


def test_a_narrow_window_has_nothing_to_scroll_sideways(open_page: Open, tokenizer: Tokenizer) -> None:
    view = token_view(tokenizer, TEXT + " " * 40 + "a" * 400, title="a" * 300)
    browser = open_page(page([view, view]))
    browser.set_window_size(500, 700)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        browser.set_window_size(1000, 700)


def test_the_report_draws_bars_without_scripts(open_page: Open, tokenizer: Tokenizer) -> None:
    report = vocabulary_report(tokenizer, {"short": "a", "long": "Hello world " * 9})
    browser = open_page(report.to_html(report))
    histogram = browser.find_element("css selector", ".histogram")
    assert "of length 1," in histogram.get_attribute("aria-label")
    bars = histogram.find_elements("css selector", "rect")
    assert len(bars) == 2 * max(report.lengths)
    heights = [bar.rect["height"] for bar in bars[::2]]
    assert heights.index(max(heights)) + 1 == max(report.lengths, key=lambda n: report.lengths[n])
    no_complaints(browser)
