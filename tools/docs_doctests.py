"""An extension of Griffe for the reference: doctests are shown as blocks of code.

Markdown takes `>>>` for a quotation in a quotation in a quotation.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*\n?(?:^[^\n]+\n?)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts fences around each run of lines that begins with `>>>`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the object's docstring, before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = DOCTEST.sub(
                lambda lines: f"```pycon\n{lines[0].rstrip()}\n```\n", obj.docstring.value
            )
