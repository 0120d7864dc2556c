"""Threads: one against several, on many documents and on one huge document.

    python benches/scaling.py                     # made-up prose, 1 thread against all cores
    python benches/scaling.py --threads 4 --mb 200 --model tokenizer.model book.txt

The two are timed in turn, warm, and the median of the ratios within a round is given; so are the lowest
and the highest, which tell how much else the machine had to do. All ids must be the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from llamatok import TokenBatch, Tokenizer

MB = 1_000_000
DOCUMENT = 10_000


def main() -> int:
    """Run the measurement; 1 when ids differ."""
    parser = argparse.ArgumentParser(description="Compare one thread with several.")
    parser.add_argument("file", nargs="?", type=Path, help="text (default: made up)")
    parser.add_argument("--mb", type=int, default=60, help="megabytes of it (default: 60)")
    parser.add_argument("--model", type=Path, help="vocabulary (default: the embedded one)")
    parser.add_argument("--threads", type=int, default=cores(), help="threads (default: all cores)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: 7)")
    arguments = parser.parse_args()

    tokenizer = Tokenizer.default() if arguments.model is None else Tokenizer.from_file(arguments.model)
    text = prose(arguments.mb * MB) if arguments.file is None else arguments.file.read_bytes()
    text = text[: arguments.mb * MB]
    documents = [text[at : at + DOCUMENT] for at in range(0, len(text), DOCUMENT)]
    same = True
    print(f"{len(text) / MB:.0f} MB, 1 against {arguments.threads} threads, {arguments.rounds} rounds")
    for name, texts in ((f"{len(documents)} documents", documents), ("one document", [text])):
        same &= compare(name, tokenizer, texts, arguments.threads, arguments.rounds)
    return int(not same)


def compare(name: str, tokenizer: Tokenizer, texts: list[bytes], threads: int, rounds: int) -> bool:
    """Time one and several threads in turn, print a line, and return whether the ids are the same."""
    size = sum(map(len, texts)) / MB
    one, many = (tokenizer.encode_batch(texts, num_threads=count) for count in (1, threads))
    same = np.array_equal(one.ids, many.ids) and np.array_equal(one.offsets, many.offsets)
    del one, many
    rates: dict[int, list[float]] = {1: [], threads: []}
    for number in range(rounds):
        for count in (1, threads) if number % 2 else (threads, 1):
            rates[count].append(
                size / timed(lambda count=count: tokenizer.encode_batch(texts, num_threads=count))
            )
    ratios = sorted(b / a for a, b in zip(rates[1], rates[threads], strict=True))
    print(
        f"{name:>16}: {statistics.median(rates[1]):.0f} and {statistics.median(rates[threads]):.0f} MB/s, "
        f"{statistics.median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
        f"ids {'equal' if same else 'DIFFER'}"
    )
    return same


def timed(call: Callable[[], TokenBatch]) -> float:
    """Seconds that the call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def prose(size: int) -> bytes:
    """Words from a stock of 400,000, one as often as the inverse of its place in the stock."""
    chance = np.random.default_rng(0)
    syllables = [a + b + c for a in "bcdfghjklmnprstvz" for b in "aeiou" for c in ("", "", "", "n", "r", "s")]
    parts = chance.integers(0, len(syllables), (400_000, 4)).tolist()
    counts = chance.integers(1, 5, 400_000).tolist()
    ends = ["", "", "", "", "", ",", ".", ".\n"]
    stock = [
        "".join(syllables[part] for part in word[:count]) + ends[place % len(ends)]
        for place, (word, count) in enumerate(zip(parts, counts, strict=True))
    ]
    places = np.exp(chance.random(size // 5) * np.log(len(stock))).astype(int) - 1
    return " ".join(map(stock.__getitem__, places.tolist())).encode()[:size]


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
