"""A browser to look at pages with; skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Open = Callable[[str], Any]


@pytest.fixture(scope="module")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """`open_page(content)` shows a page in headless Chromium and returns selenium's driver."""
    webdriver: Any = pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,700"):
        options.add_argument(switch)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    path: Path = tmp_path_factory.mktemp("page") / "page.html"

    def open_page(content: str) -> Any:
        path.write_text(content, encoding="utf-8")
        driver.get(path.as_uri())
        return driver

    yield open_page
    driver.quit()
