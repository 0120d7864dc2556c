"""What the manifests say: one version, the licence, and no limit that contradicts another."""

from __future__ import annotations

import re

import llamatok
from support.locations import ROOT

WORKSPACE = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
CRATES = {path.parent.name: path.read_text(encoding="utf-8") for path in ROOT.glob("rust/*/Cargo.toml")}


def workspace(key: str) -> str:
    found = re.search(rf'^{key} = "(.+)"$', WORKSPACE, re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_version_is_in_one_place() -> None:
    """`Cargo.toml` says it; the crates, the package and the extension take it from there."""
    version = workspace("version")
    assert llamatok.__version__ == version
    assert 'dynamic = ["version"]' in PROJECT
    assert not re.search(r"^version = ", PROJECT, re.MULTILINE)
    for name, manifest in CRATES.items():
        # What is a workspace of its own is not published, and has no version.
        assert "version.workspace = true" in manifest or "\n[workspace]\n" in manifest, name
        assert not re.search(r'^version = "', manifest, re.MULTILINE), name
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (.+)$", changes, re.MULTILINE)
    assert newest is not None
    assert version in newest[1]


def test_the_pages_name_the_oldest_rust_and_python() -> None:
    python = re.search(r'requires-python = ">=(.+)"', PROJECT)
    assert python is not None
    for page in ("README.md", "CONTRIBUTING.md", "docs/index.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert f"Python {python[1]} or newer" in text, page
        assert f"Rust {workspace('rust-version')} or newer" in text, page


def test_crates_that_are_published_say_what_they_are() -> None:
    for name, manifest in CRATES.items():
        if "publish = false" in manifest:
            continue
        for key in ("description", "readme", "keywords", "categories"):
            assert re.search(rf"^{key} = ", manifest, re.MULTILINE), (name, key)
        assert "license.workspace = true" in manifest, name
        assert (ROOT / "rust" / name / "README.md").exists()
