"""`docs/architecture.md` shows the parts that there are, and the uses among them that the sources have."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path

from support.locations import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PYTHON = ROOT / "python" / "llamatok"
CORE = ROOT / "rust" / "llamatok" / "src"
IMAGES = ROOT / "docs" / "images"
TWO_CELLS = r"^\| `([\w-]+)` \|(.*?)\|"


Uses = set[tuple[str, str]]


def drawn_uses() -> tuple[Uses, Uses]:
    """The solid and the dashed arrows of `packages.dot`."""
    text = (IMAGES / "packages.dot").read_text(encoding="utf-8")
    parts = re.sub(r"//.*", "", text).split("edge [style=dashed]")
    solid, dashed = (
        {
            (user, used)
            for user, several in re.findall(r"(\w+) -> ([^{}\n]+|\{[^}]*\})", part)
            for used in re.findall(r"\w+", several)
        }
        for part in parts
    )
    return solid, dashed


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """The modules of llamatok that a file imports, and whether it does so only when something is called."""

    def walk(node: ast.AST, late: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, late) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                package = ["llamatok", *path.relative_to(PYTHON).parts[:-1]]
                parents = package[: len(package) - child.level + 1] if child.level else []
                module = ".".join([*parents, *filter(None, [child.module])])
                yield from ((f"{module}.{alias.name}", late) for alias in child.names)
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith("import_module"):
                yield str(getattr(child.args[0], "value", "")), late
            yield from walk(child, late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def python_uses() -> tuple[Uses, Uses]:
    """Which room imports which: as it is imported itself, and only when something is called."""
    named = ast.parse((PYTHON / "__init__.py").read_text(encoding="utf-8"))
    home = {
        alias.name: node.module.split(".")[1]
        for node in ast.walk(named)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("llamatok.")
        for alias in node.names
    }
    early: Uses = set()
    late: Uses = set()
    for path in PYTHON.rglob("*.py"):
        user = path.relative_to(PYTHON).parts[0].removesuffix(".py")
        for name, when_called in imported(path):
            parts = name.split(".")
            if parts[0] != "llamatok" or len(parts) == 1 or user.startswith("__"):
                continue
            used = home.get(parts[1], parts[1])
            if used != user:
                (late if when_called else early).add((user, used))
    return early, late - early


def test_packages() -> None:
    assert drawn_uses() == python_uses()


def test_the_picture_is_that_of_its_text() -> None:
    """`packages.svg` was drawn again after `packages.dot` was changed."""
    picture = html.unescape((IMAGES / "packages.svg").read_text(encoding="utf-8"))
    arrows = re.findall(r"<title>(\w+)->(\w+)</title>\s*<path ([^>]*)>", picture)
    dashed = {(user, used) for user, used, line in arrows if "stroke-dasharray" in line}
    assert ({(user, used) for user, used, _ in arrows} - dashed, dashed) == drawn_uses()


def test_packages_are_all_told() -> None:
    rooms = {path.name.removesuffix(".py") for path in PYTHON.iterdir() if not path.name.startswith("__")}
    rooms = {room for room in rooms if (PYTHON / room).is_dir() or (PYTHON / f"{room}.py").exists()}
    table = PAGE.split("## Python packages\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == rooms | {"_core"}


def rust_uses() -> Uses:
    """Which module of the core uses which, tests left out."""
    modules = {path.stem for path in CORE.iterdir()} - {"lib"}
    lib = (CORE / "lib.rs").read_text(encoding="utf-8")
    home = {
        name.strip(): module
        for module, names in re.findall(r"^pub use (\w+)::\{?([\w, \n]+)\}?;", lib, re.MULTILINE)
        for name in names.split(",")
    }
    uses = set()
    for path in CORE.rglob("*.rs"):
        parts = path.relative_to(CORE).parts
        if "tests" in parts or parts[-1] in {"tests.rs", "lib.rs"}:
            continue
        text = path.read_text(encoding="utf-8").split("#[cfg(test)]")[0]
        text = re.sub(r"//.*", "", text)
        names = re.findall(r"\bcrate::(\w+)", text)
        for several in re.findall(r"\bcrate::\{([^}]*)\}", text):
            names += re.findall(r"\w+", several)
        user = parts[0].removesuffix(".rs")
        for name in names:
            used = home.get(name, name)
            assert used in modules, f"{path.name} uses crate::{name}"
            if used != user:
                uses.add((user, used))
    return uses


def test_modules_of_the_core() -> None:
    """Each module uses only those below it, but for the uses upwards that the page names, which exist."""
    section = PAGE.split("## Modules of the core\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| \d+ \| (.+?) \|", section, re.MULTILINE)
    layer = {name: number for number, row in enumerate(rows) for name in re.findall(r"`(\w+)`", row)}
    assert set(layer) == {path.stem for path in CORE.iterdir()} - {"lib"}
    upwards = {(user, used) for user, used in rust_uses() if layer[user] >= layer[used]}
    assert upwards == set(re.findall(r"^- `(\w+)` uses `(\w+)`", section, re.MULTILINE))


def test_crates() -> None:
    """What the page says a crate uses are the dependencies by path in its manifest."""
    section = PAGE.split("## Crates\n")[1].split("\n## ")[0]
    told = {
        name: set(re.findall(r"[\w-]+", uses)) for name, uses in re.findall(TWO_CELLS, section, re.MULTILINE)
    }
    found = {
        manifest.parent.name: set(
            re.findall(
                r'^([\w-]+) = \{[^}]*path = "\.\./', manifest.read_text(encoding="utf-8"), re.MULTILINE
            )
        )
        for manifest in (ROOT / "rust").glob("*/Cargo.toml")
    }
    assert told == found
