"""Make the environments of the differential runs: one virtual environment for each version of transformers.

    python -m compat.environments DIR          (from the folder `tests`)

makes `DIR/<name>` for each name in `ENVIRONMENTS`, and leaves alone those that are complete. Tests find them
through the environment variable LLAMATOK_COMPAT=DIR and are skipped without it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

#: What is installed in each environment. Tokenizing needs no torch.
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "transformers-4.37.2": ("transformers==4.37.2", "numpy<2"),
    "transformers-4": ("transformers>=4.57,<5",),
    "transformers-5": ("transformers>=5,<6",),
}
COMMON = ("sentencepiece>=0.2.1,<0.3", "protobuf>=4.25", "jinja2>=3.1")
#: Marks an environment whose installation ran to its end.
COMPLETE = "complete"


def interpreter(folder: Path) -> Path:
    """The Python of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make(folder: Path, requirements: tuple[str, ...]) -> None:
    """Make one environment, unless it is there."""
    mark = folder / COMPLETE
    wanted = "\n".join(requirements)
    if mark.exists() and mark.read_text() == wanted:
        return
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(interpreter(folder)), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, *requirements], check=True)
    mark.write_text(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the environments of the differential runs")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=f"only these of {', '.join(ENVIRONMENTS)}")
    arguments = parser.parse_args()
    for name in arguments.names or ENVIRONMENTS:
        if name not in ENVIRONMENTS:
            parser.error(f"no environment `{name}`; there are {', '.join(ENVIRONMENTS)}")
        print(name, file=sys.stderr)
        make(arguments.folder / name, ENVIRONMENTS[name] + COMMON)


if __name__ == "__main__":
    main()
