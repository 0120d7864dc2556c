"""Take the pictures of the docs site and of the vocabulary report: ``python tools/screenshots.py SITE``.

SITE is the folder of `mkdocs build`. Needs selenium, chromium and chromedriver; writes into `docs/images`
(`optipng -o5` makes them smaller), and fails if a page asks for anything from elsewhere.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from selenium import webdriver

from llamatok import Tokenizer
from llamatok.inspect import vocabulary_report

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
#: The picture, the page, and the height in pixels.
SITE = [("site-home", "/", 800), ("site-guide", "/guides/pipelines/", 800)]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The server of the standard library, without a line a request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def browser() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(switch)
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


def take(driver: webdriver.Chrome, url: str, name: str, height: int) -> None:
    driver.set_window_size(1280, height)  # narrower, and the site folds its list of pages
    driver.get(url)
    driver.save_screenshot(str(IMAGES / f"{name}.png"))
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    origin = "/".join(url.split("/")[:3])
    outside = [address for address in asked if not address.startswith((origin, "data:"))]
    if outside:
        raise SystemExit(f"{url} asks for {outside}")


def main(site: str) -> None:
    server = http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    driver = browser()
    try:
        for name, page, height in SITE:
            take(driver, f"http://localhost:{server.server_port}{page}", name, height)
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.html")
            vocabulary_report(Tokenizer.default(), name="the embedded tokenizer").save(report)
            take(driver, report.as_uri(), "report", 1000)
    finally:
        driver.quit()
        server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
