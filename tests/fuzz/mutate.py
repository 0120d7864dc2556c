"""Inputs without end: seeds, and what becomes of them by chance, the same for the same seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

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
    while True:
        data = bytearray(rng.choice(known))
        for _ in range(1 << rng.randrange(5)):
            _mutate(rng, data, words, known)
        yield bytes(data[:LONGEST])


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
