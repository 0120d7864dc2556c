"""The crates that a wheel is made of, as a bill of materials (CycloneDX 1.5).

`python tools/sbom.py x86_64-unknown-linux-gnu > sbom.json` writes it.

maturin can write one too, but with a date and the paths of the machine that built the wheel, so that no two
wheels are alike. The same `Cargo.lock` gives the same bytes here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = "llamatok-python"


def metadata(target: str) -> Any:
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def checksums() -> dict[tuple[str, str], str]:
    """SHA-256 of each crate's archive, by name and version."""
    pattern = r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"'
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    return {(name, version): sha for name, version, sha in re.findall(pattern, lock)}


def bill(target: str) -> dict[str, Any]:
    """The extension, what it needs to be built and to run (no tests, no benches), and who needs whom."""
    found = metadata(target)
    packages = {package["id"]: package for package in found["packages"]}
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    sums = checksums()

    def purl(id: str) -> str:
        return f"pkg:cargo/{packages[id]['name']}@{packages[id]['version']}"

    def component(id: str) -> dict[str, Any]:
        package = packages[id]
        made = {
            "type": "library",
            "bom-ref": purl(id),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(id),
            "licenses": [{"expression": package["license"].replace("/", " OR ")}],
        }
        sha = sums.get((package["name"], package["version"]))
        return made | ({"hashes": [{"alg": "SHA-256", "content": sha}]} if sha else {})

    needs: dict[str, list[str]] = {}
    root = next(id for id, package in packages.items() if package["name"] == EXTENSION)
    rest = [root]
    while rest:
        id = rest.pop()
        if id not in needs:
            kinds = ((dep["pkg"], {kind["kind"] for kind in dep["dep_kinds"]}) for dep in nodes[id]["deps"])
            needs[id] = [needed for needed, kinds_of_it in kinds if kinds_of_it != {"dev"}]
            rest.extend(needs[id])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root)},
        "components": [component(id) for id in sorted(needs, key=purl) if id != root],
        "dependencies": [
            {"ref": purl(id), "dependsOn": sorted(map(purl, needs[id]))} for id in sorted(needs, key=purl)
        ],
    }


if __name__ == "__main__":
    json.dump(bill(sys.argv[1]), sys.stdout, indent=1)
    print()
