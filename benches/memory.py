"""Memory: of a loaded tokenizer, and while text that never repeats goes through one.

    python benches/memory.py                  # 1000 MB, a line each 50 MB
    python benches/memory.py --mb 200 --model tokenizer.model --cache-bytes 16000000

Each part of the stream is made of new words, so that the caches are filled, and refilled, as long as it
lasts. A tokenizer whose memory is bounded shows the same resident set in the second half as in the first.
Needs Linux, whose /proc tells the resident set of the moment.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from llamatok import Tokenizer

MB = 1_000_000
#: Text made and encoded at a time, in megabytes, as this many documents.
CHUNK = 5
DOCUMENTS = 50
#: Above this growth of the resident set in the second half, in megabytes, the exit code is 1.
TOLERANCE = 8


def main() -> int:
    """Run the measurement; 1 when memory grew in the second half of the stream."""
    parser = argparse.ArgumentParser(description="Measure memory over a stream that never repeats.")
    parser.add_argument("--mb", type=int, default=1000, help="megabytes to stream (default: 1000)")
    parser.add_argument("--model", type=Path, help="vocabulary (default: the embedded one)")
    parser.add_argument("--cache-bytes", type=int, help="bound on the caches (default: llamatok's own)")
    parser.add_argument("--threads", type=int, help="threads (default: all cores)")
    arguments = parser.parse_args()

    # Made before anything is measured: the first array, and what numpy sets up on first use.
    chance = np.random.default_rng(0)
    documents(chance)
    before = resident()
    started = time.perf_counter()
    if arguments.model is None:
        tokenizer = Tokenizer.default(cache_bytes=arguments.cache_bytes)
    else:
        tokenizer = Tokenizer.from_file(arguments.model, cache_bytes=arguments.cache_bytes)
    seconds = time.perf_counter() - started
    print(f"loaded in {seconds * 1e3:.0f} ms: {resident() - before:.1f} MB resident")
    tokenizer.encode("Hello")
    print(f"after one short text: {resident() - before:.1f} MB")

    print(f"{'MB in':>8} {'resident MB':>12} {'cache MB':>9} {'bound MB':>9} {'MB/s':>6}")
    sizes: list[float] = []
    done = encoded = tokens = 0
    spent = 0.0
    while done < arguments.mb:
        texts = documents(chance)
        started = time.perf_counter()
        batch = tokenizer.encode_batch(texts, num_threads=arguments.threads)
        spent += time.perf_counter() - started
        encoded += sum(map(len, texts))
        tokens += len(batch.ids)
        del texts, batch
        done += CHUNK
        sizes.append(resident())
        if done % max(CHUNK, arguments.mb // 20 // CHUNK * CHUNK) == 0:
            info = tokenizer.cache_info()
            print(
                f"{done:>8} {sizes[-1]:>12.1f} {info['used_bytes'] / MB:>9.1f} "
                f"{info['limit_bytes'] / MB:>9.1f} {encoded / MB / spent:>6.0f}",
                flush=True,
            )
    half = len(sizes) // 2
    growth = max(sizes[half:]) - max(sizes[: half or 1])
    print(f"{tokens} tokens; peak {peak():.1f} MB; second half against first: {growth:+.1f} MB")
    return int(growth > TOLERANCE)


def documents(chance: np.random.Generator) -> list[bytes]:
    """Documents of random letters in words of one to twelve: hardly any of the longer ones comes twice."""
    size = CHUNK * MB
    text = chance.integers(ord("a"), ord("z") + 1, size, dtype=np.uint8)
    gaps = chance.integers(2, 14, size // 2)
    ends = np.cumsum(gaps)
    text[ends[ends < size]] = ord(" ")
    data = text.tobytes()
    step = size // DOCUMENTS
    return [data[at : at + step] for at in range(0, size, step)]


def resident() -> float:
    """Resident set of this process, in megabytes."""
    return status("VmRSS")


def peak() -> float:
    """Largest resident set so far, in megabytes."""
    return status("VmHWM")


def status(field: str) -> float:
    """Value in /proc/self/status, given there in KiB, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024 / MB
    raise SystemExit("/proc/self/status tells no " + field)


if __name__ == "__main__":
    sys.exit(main())
