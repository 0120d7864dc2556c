"""The table of `docs/compatibility.md`: every call gives what the page says."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

import pytest

import llamatok
from support import llama_files, locations

PAGE = locations.ROOT / "docs" / "compatibility.md"
CODE = re.compile(r"^`(.+)`$")


def rows() -> list[tuple[str, str, str]]:
    """What is compared, the call and its result, of each row that has them."""
    section = PAGE.read_text(encoding="utf-8").split("## Where the libraries disagree")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    found = []
    for what, _, call, result in cells:
        code, expected = CODE.match(call), CODE.match(result)
        assert code is not None, what
        assert expected is not None, what
        found.append((what, code[1], expected[1]))
    return found


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    path = str(llama_files.model_file())
    made: dict[str, Any] = {
        "model": llamatok.LlamaTokenizer(path, legacy=True),
        "model_n": llamatok.LlamaTokenizer(path, legacy=False),
        "model_bare": llamatok.LlamaTokenizer(path, legacy=True, add_prefix_space=False),
        "model_n_bare": llamatok.LlamaTokenizer(path, legacy=False, add_prefix_space=False),
        "file": llamatok.LlamaTokenizer(tokenizer_file=str(llama_files.json_folder() / "tokenizer.json")),
        "file_n": llamatok.LlamaTokenizer(
            tokenizer_file=str(llama_files.json_folder(legacy=False) / "tokenizer.json")
        ),
    }
    for tokenizer in made.values():
        tokenizer.add_tokens(["<foo>"])
    return made


@pytest.mark.parametrize(("what", "call", "result"), rows(), ids=[f"{w}: {c}" for w, c, _ in rows()])
def test_the_page_tells_the_truth(what: str, call: str, result: str, tokenizers: dict[str, Any]) -> None:
    """What the call gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert eval(call, {"len": len}, tokenizers) == ast.literal_eval(result)
