"""Files of the Llama family to compare with other libraries: real vocabularies, in every form."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

import llamatok
from support import locations

SPACE = "\u2581"


@functools.cache
def model_file() -> Path:
    """A `tokenizer.model` of 32,000 pieces: Llama 2's where it is at hand, else Mistral's."""
    llama = locations.shared() / "models" / "llama2" / "tokenizer.model"
    if llama.exists():
        return llama
    found = [
        path
        for name, path in locations.mistral_common_models().items()
        if name.endswith("tokenizer.model.v1")
    ]
    if not found:
        pytest.skip("needs a real vocabulary: pip install mistral-common")
    return found[0]


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="llama-files-")


def json_folder(*, legacy: bool = True, prefix: bool = True) -> Path:
    """A folder with a `tokenizer.json`, as transformers 4.57's converter makes it of the model, and a
    `tokenizer_config.json`."""
    folder = Path(_folder().name, f"{'legacy' if legacy else 'nonlegacy'}-{'prefix' if prefix else 'bare'}")
    if folder.exists():
        return folder
    folder.mkdir()
    tokenizer = llamatok.LlamaTokenizer(str(model_file()), legacy=legacy, add_prefix_space=prefix)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.model").unlink(missing_ok=True)
    config: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    # The class that takes the file as it is, in every version of transformers.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    for name in ("legacy", "add_prefix_space", "add_bos_token", "add_eos_token", "llamatok_source"):
        config.pop(name, None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
