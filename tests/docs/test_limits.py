"""The limits in `docs/security.md` are those of the code, and loaders of one kind of file have the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.locations import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
CORE = ROOT / "rust" / "llamatok" / "src"
PYTHON = ROOT / "python" / "llamatok"
SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")

#: For the words that a row begins with, the constants behind each of its numbers. A number has several where
#: several loaders read the same thing; None stands for what another library holds.
ROWS: dict[str, list[list[str] | None]] = {
    "`tokenizer.model`, `tokenizer.json`": [
        [
            "load/mod.rs:MAX_MODEL_BYTES",
            "tokenization/sources.py:MAX_MODEL_BYTES",
            "weights/gguf_header.py:MAX_HEADER_BYTES",
        ]
    ],
    "pieces of a vocabulary": [["vocabulary.rs:MAX_PIECES"]],
    "bytes of a piece": [["vocabulary.rs:MAX_PIECE_BYTES"]],
    "metadata keys of a GGUF file": [
        ["load/gguf_metadata.rs:MAX_KEYS", "weights/gguf_header.py:MAX_KEYS"],
        ["load/gguf_metadata.rs:MAX_KEY_BYTES", "weights/gguf_header.py:MAX_NAME_BYTES"],
    ],
    "arrays in arrays": [],
    "nesting of a `tokenizer.json`": [None],
    "a key twice": [],
    "steps of a normalizer": [["components/growth.rs:MAX_STEPS"]],
    "how many times as long": [["components/growth.rs:MAX_GROWTH"]],
    "bytes that a normalizer may put": [["components/growth.rs:MAX_PREFIX"]],
    "bytes that a normalizer may make": [["components/growth.rs:MAX_NORMALIZED_TOKENS"]],
    "pieces and tokens of a template": [
        ["components/growth.rs:MAX_TEMPLATE_PIECES"],
        ["components/growth.rs:MAX_TEMPLATE_TOKENS"],
        ["components/growth.rs:MAX_REPEATS"],
    ],
    "bytes of all added tokens": [["added_tokens/matcher.rs:MAX_BYTES"], ["bpe/trie.rs:MAX_NODES"]],
    "bytes of a key of a character map": [
        ["normalize/charsmap.rs:MAX_KEY_BYTES"],
        ["normalize/charsmap.rs:MAX_REPLACEMENT_BYTES"],
    ],
    "JSON beside a tokenizer": [["_limited.py:MAX_JSON_BYTES"]],
    "added tokens there": [
        ["tokenization/configured.py:MAX_ADDED_TOKENS"],
        ["tokenization/configured.py:MAX_TOKEN_BYTES"],
        ["tokenization/configured.py:MAX_ID"],
    ],
    "a file of a chat template": [
        ["tokenization/configured.py:MAX_TEMPLATE_BYTES"],
        ["tokenization/configured.py:MAX_TEMPLATES"],
    ],
    "a chat template": [["tokenization/chat/limits.py:MAX_TEMPLATE"]],
    "what rendering may spend": [
        ["tokenization/chat/limits.py:ALLOWANCE"],
        ["tokenization/chat/limits.py:PER_GIVEN"],
    ],
    "seconds of the processor": [["tokenization/chat/limits.py:MAX_SECONDS"]],
    "width of a format's field": [
        ["tokenization/chat/limits.py:MAX_WIDTH"],
        ["tokenization/chat/limits.py:MAX_INDENT"],
        ["tokenization/chat/limits.py:MAX_BITS"],
    ],
    "tensors of a GGUF file": [
        ["weights/gguf_header.py:MAX_TENSORS"],
        ["weights/gguf_header.py:MAX_DIMENSIONS"],
        ["weights/gguf_header.py:MAX_ELEMENTS"],
    ],
    "layers and labels": [
        ["models/config.py:num_hidden_layers"],
        ["models/config.py:num_labels"],
        ["models/config.py:MAX_COUNT"],
    ],
    "new tokens": [["generation/config.py:MAX_TOKENS"], ["generation/config.py:MAX_ROWS"]],
    "a document of a corpus": [["corpus/sources/cut.py:LARGEST_DOCUMENT"]],
    "the window of a Zstandard stream": [["_frames.py:LARGEST_ZSTD_WINDOW"]],
}


def rows() -> list[list[str]]:
    """The cells of the table of limits."""
    section = PAGE.split("## Limits\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def numbers(cell: str) -> list[float]:
    """The numbers of a cell: `65,536`, `256 MiB`, `2²⁵ − 1`."""
    found = []
    for digits, power, size, less in re.findall(
        r"(\d[\d,]*)([⁰¹²³⁴⁵⁶⁷⁸⁹]*)(?: ([KMG]iB))?(?: − (\d+))?", cell
    ):
        number = int(digits.replace(",", ""))
        if power:
            number **= int(power.translate(POWERS))
        found.append(number * SIZES.get(size, 1) - int(less or 0))
    return found


def constant(place: str) -> float:
    """The value of a constant, by its file and name."""
    file, name = place.split(":")
    path: Path = (CORE if file.endswith(".rs") else PYTHON) / file
    text = path.read_text(encoding="utf-8")
    match = re.search(
        rf'(?:^(?:pub(?:\(\w+\))? )?const |^|"){name}"?(?:: ?[\w.]+)?(?: =|:) ([^;,}}\n#]+)', text, re.M
    )
    assert match, place
    source = re.sub(r"(?<=\d)_(?=\d)", "", match[1])
    if name == "MAX_NODES":
        source = source.replace("BASE_SHIFT", str(int(constant(f"{file}:BASE_SHIFT"))))
    assert re.fullmatch(r"[\d.<>()\s+-]+", source), f"{place}: {source}"
    return float(eval(source))


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0][:40])
def test_limits_are_those_of_the_code(cells: list[str]) -> None:
    """Each number, and the files that the row names."""
    what, limit, where = cells
    names = [name for name in ROWS if what.startswith(name)]
    expected = ROWS[max(names, key=len)]
    found = numbers(limit)
    assert len(found) == len(expected)
    for number, places in zip(found, expected, strict=True):
        for place in places or []:
            assert constant(place) == number, place
    files = {place.split(":")[0] for places in expected for place in places or []}
    assert all(any(file.endswith(named) for named in re.findall(r"`([\w./]+)`", where)) for file in files)


def test_no_row_is_passed_over() -> None:
    """The page has these rows, each once."""
    assert sorted(ROWS) == sorted(
        max((name for name in ROWS if cells[0].startswith(name)), key=len) for cells in rows()
    )
