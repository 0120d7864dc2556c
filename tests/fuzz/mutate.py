"""Inputs without end: seeds, and what becomes of them by chance, the same for the same seed."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz.targets import WORDS, seeds

#: The longest input, in bytes.
LONGEST = 1 << 16
_NUMBERS = [
    0,
    1,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
_VALUES: list[Any] = [
    None,
    True,
    False,
    "",
    "a",
    "\u2581",
    "<s>",
    [],
    {},
    [[]],
    0.5,
    1e300,
    "{{ a }}",
    "\ud800",
]


def regressions(target: str) -> list[bytes]:
    """The inputs that were findings once, and must not be again."""
    folder = Path(__file__).parent / "findings" / target
    return [path.read_bytes() for path in sorted(folder.glob("*"))] if folder.is_dir() else []


def inputs(target: str, seed: int) -> Iterator[bytes]:
    """The seeds of a target, its regressions, then mutations of these."""
    rng = random.Random(f"{target} {seed}")
    known = [*seeds(target), *regressions(target)]
    yield from known
    words = WORDS.get(target, [])
    trees = [tree for tree in map(_tree, known) if tree is not None]
    while True:
        if trees and rng.random() < 0.7:
            yield _mutated_tree(rng, rng.choice(trees))[:LONGEST]
            continue
        data = bytearray(rng.choice(known))
        for _ in range(1 << rng.randrange(5)):
            _mutate(rng, data, words, known)
        yield bytes(data[:LONGEST])


def _tree(data: bytes) -> Any:
    """The object that an input is in JSON, if it is one: bytes mutated by chance are JSON no more."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) and tree else None


def _mutated_tree(rng: random.Random, tree: Any) -> bytes:
    """A tree with some of its values and keys exchanged, as JSON."""
    tree = copy.deepcopy(tree)
    places: list[tuple[Any, Any]] = []
    _list_places(tree, places)
    for _ in range(1 << rng.randrange(3)):
        parent, key = rng.choice(places)
        other, other_key = rng.choice(places)
        choice = rng.randrange(6)
        # Of a list that lost a value, the last place is there no more.
        with contextlib.suppress(LookupError):
            if choice == 0:
                del parent[key]
            elif choice == 1:
                parent[key] = copy.deepcopy(other[other_key])
            elif choice == 2 and isinstance(parent, dict) and isinstance(other_key, str):
                parent[other_key] = parent.pop(key)
            elif choice == 3 and isinstance(parent, list):
                parent.append(copy.deepcopy(other[other_key]))
            elif choice == 4 and isinstance(parent[key], str):
                text = bytearray(parent[key].encode("utf-8", "surrogatepass"))
                _mutate(rng, text, [], [bytes(text)])
                parent[key] = text.decode("utf-8", "replace")
            else:
                parent[key] = rng.choice([*_VALUES, rng.choice(_NUMBERS), -rng.choice(_NUMBERS)])
    return json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _list_places(tree: Any, places: list[tuple[Any, Any]]) -> None:
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    for key in keys:
        places.append((tree, key))
        _list_places(tree[key], places)


def _mutate(rng: random.Random, data: bytearray, words: list[bytes], known: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 32, 256)))
    choice = rng.randrange(8)
    if choice == 0 and data:
        data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
    elif choice == 1:
        data[at:end] = rng.randbytes(end - at or 1)
    elif choice == 2:
        del data[at:end]
    elif choice == 3:
        data[at:at] = bytes(data[at:end]) * rng.choice((1, 2, 16))
    elif choice == 4:
        number = rng.choice(_NUMBERS)
        data[at:end] = struct.pack("<Q", number)[: rng.choice((1, 2, 4, 8))]
    elif choice == 5 and words:
        data[at : at if rng.random() < 0.5 else end] = rng.choice(words)
    elif choice == 6:
        other = rng.choice(known)
        start = rng.randrange(len(other) + 1)
        data[at:at] = other[start : start + rng.randrange(64)]
    else:
        data[at:at] = rng.choice(
            (b"\0", b"\xff", b"\xed\xa0\x80", b"\xe2\x96\x81", b" ", b"\n", b"9" * 30, b"[" * 200)
        )
