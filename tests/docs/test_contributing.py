"""`CONTRIBUTING.md` names places that exist, and `make` knows the verbs that it shows."""

from __future__ import annotations

import re

from support.locations import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_rooms_exist() -> None:
    table = PAGE.split("## Which room for which change\n")[1].split("\n## ")[0]
    named = re.findall(r"`((?:rust|python|tests|docs|examples)[\w./-]*)`", table)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_folder_of_tests_is_named() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders <= set(re.findall(r"`tests/(\w+)`", PAGE))


def test_verbs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = set(re.findall(r"^make (\w+)", PAGE, re.MULTILINE))
    assert shown
    assert shown <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
