"""The blocks of code in Markdown, and why some of them do not run in tests.

A comment on the line above a block excuses it: `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"^(?P<comment><!-- [^\n]+ -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
_EXCUSE = re.compile(r"<!-- not run: (.+) -->\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its code, the line where the code begins, and why it does not run."""

    language: str
    code: str
    line: int
    excuse: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        excuse = _EXCUSE.fullmatch(match["comment"] or "")
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(match["language"], match["code"], line, excuse and excuse[1]))
    return found
