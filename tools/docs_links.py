"""Hooks of MkDocs: links out of `docs/` become the paths that they name, and llamatok must be there.

On a forge such a link opens the file. The site does not hold it, so it says where it is. A link to a file
that is not there fails the build.
"""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)\)")
log = logging.getLogger("mkdocs.hooks.docs_links")


def on_config(config: Any) -> Any:
    """The reference shows the extension's docstrings, so it has to be there."""
    try:
        importlib.import_module("llamatok._core")
    except ImportError as error:
        log.warning("the reference needs llamatok itself: pip install '.[docs]' (%s)", error)
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with its outward links as text."""
    folder = (DOCS / page.file.src_uri).parent

    def as_path(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = (folder / target).resolve()
        if path.is_relative_to(DOCS):
            return link[0]
        if not path.exists():
            log.warning("`%s` links to `%s`, which does not exist", page.file.src_uri, target)
        name = path.relative_to(ROOT).as_posix()
        return f"`{name}`" if text.strip("`") == name else f"{text} (`{name}`)"

    return LINK.sub(as_path, markdown)
