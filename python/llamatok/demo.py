"""The demo checkpoint that comes with the package: a tiny Llama for the embedded tokenizer."""

from __future__ import annotations

from pathlib import Path


def demo_checkpoint() -> str:
    """The folder of the demo checkpoint, in Hugging Face's layout, with its tokenizer.

    For trying things out without a download: 2 million parameters, trained for minutes on public-domain
    English. `llamatok/data/demo/README.md` tells from what and how. Needs no torch to be found.
    """
    return str(Path(__file__).parent / "data" / "demo")
