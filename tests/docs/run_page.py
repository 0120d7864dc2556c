"""Runs the blocks of a page in order, Python in one namespace and shell in bash: run_page.py PAGE [CHECK].

Runs in the current folder; CHECK is a statement for the end. Where a package is missing, prints its name and
exits with 77.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from support.markdown import blocks
from support.small_checkpoints import tiny_llama

MISSING = 77


def main(page: Path, check: str) -> int:
    # What the page calls "your model" without making it.
    names: dict[str, Any] = {"__name__": "__main__"}
    if page.name == "corpus.md":
        names["model"] = tiny_llama()
    for block in blocks(page):
        if block.excuse is not None:
            continue
        if block.language == "python":
            # Line numbers and source lines of tracebacks are then those of the page.
            code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
            exec(code, names)
        elif block.language == "sh":
            print(f"$ {block.code}", flush=True)
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.code], stdin=subprocess.DEVNULL, check=True
            )
    exec(check, names)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), "".join(sys.argv[2:])))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "llamatok":
            raise
        print(error.name)
        sys.exit(MISSING)
