"""How long a call goes on after Ctrl-C.

    python benches/interrupt.py [--mb 64] [--times 8] [--only NAME]

Each call is first timed whole, and then interrupted at moments spread over its time: by a timer of the
system, whose handler is Python's own for SIGINT. Shown are the milliseconds from the signal to the
`KeyboardInterrupt`. Needs torch, and sentencepiece for training.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llamatok import LlamaTokenizer, Tokenizer, demo_checkpoint

WORDS = ["the", "of", "und", "naïve", "café", "你好", "word", "in", "Zeit", "it's", "1984", "🦙"]


def text_of(size: int, seed: int = 0) -> str:
    """Words in several scripts, of about `size` bytes: the same few thousand lines again and again."""
    rng = random.Random(seed)
    lines = "".join(" ".join(rng.choices(WORDS, k=12)) + f" {rng.random()}\n" for _ in range(2000))
    return lines * (size // len(lines.encode()) + 1)


def calls(size: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Calls that take long, of `size` bytes of text."""
    tokenizer = Tokenizer.default()
    os.environ["LLAMATOK_ENGINE"] = "general"
    general = Tokenizer.default(cache_bytes=0)
    del os.environ["LLAMATOK_ENGINE"]
    drop_in = LlamaTokenizer.from_pretrained(demo_checkpoint(), pad_token="<unk>", model_max_length=10**9)
    whole = text_of(size)
    lines = whole.split("\n")
    documents = [whole[at : at + 20_000] for at in range(0, len(whole), 20_000)]

    yield "encode", lambda: tokenizer.encode(whole)
    yield "encode, general engine", lambda: general.encode(whole[: len(whole) // 8])
    yield "encode_batch of lines", lambda: tokenizer.encode_batch(lines)
    yield "encode_batch of lines, 1 thread", lambda: tokenizer.encode_batch(lines, num_threads=1)
    yield "encode_batch of documents", lambda: tokenizer.encode_batch(documents)
    yield "encode_batch of one text", lambda: tokenizer.encode_batch([whole])
    yield "count", lambda: tokenizer.count(documents)
    batch = tokenizer.encode_batch(documents)
    yield "to_padded", lambda: batch.to_padded(pad_id=0)
    yield "to_lists", batch.to_lists
    yield "decode_batch", lambda: tokenizer.decode_batch(batch)
    rows = batch.to_lists()
    yield "decode_batch of lists", lambda: tokenizer.decode_batch(rows)
    ids = [id for row in rows for id in row]
    yield "decode", lambda: tokenizer.decode(ids)
    yield "LlamaTokenizer, one text", lambda: drop_in(whole)
    yield "LlamaTokenizer, lines", lambda: drop_in(lines)
    yield "LlamaTokenizer, offsets", lambda: drop_in(lines, return_offsets_mapping=True)
    yield "LlamaTokenizer, padded", lambda: drop_in(documents, padding=True, return_tensors="np")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.txt"
        source.write_text(whole, "utf-8")

        def tokenize() -> None:
            from llamatok.corpus import tokenize

            tokenize(source, Path(folder) / "out", kind="lines", overwrite=True, progress=False)

        def train() -> None:
            from llamatok.train import train

            train([small], Path(folder) / "trained.model", vocab_size=300 + 200)

        yield "corpus.tokenize", tokenize
        small = Path(folder) / "small.txt"
        small.write_text("".join(text_of(100_000, seed) for seed in range(20)), "utf-8")
        yield "train", train


def latencies(call: Callable[[], Any], times: int) -> tuple[float, list[float]]:
    """Seconds of the whole call, and from each signal to the exception."""
    started = time.monotonic()
    call()
    seconds = time.monotonic() - started
    found = []
    for index in range(times):
        delay = seconds * (index + 0.5) / times
        at = time.monotonic() + delay
        signal.setitimer(signal.ITIMER_REAL, delay)
        try:
            call()
            # The call was quicker this time: the signal comes here.
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            found.append(time.monotonic() - at)
    return seconds, found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time from Ctrl-C to the exception.")
    parser.add_argument("--mb", type=int, default=64, help="megabytes of text (default: 64)")
    parser.add_argument("--times", type=int, default=8, help="interrupts of each call (default: 8)")
    parser.add_argument("--only", default="", help="calls with this in their name")
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    print("| call | whole, ms | interrupts | median, ms | longest, ms |\n|---|---:|---:|---:|---:|")
    for name, call in calls(arguments.mb * 1_000_000):
        if arguments.only not in name:
            continue
        seconds, found = latencies(call, arguments.times)
        found.sort()
        middle, longest = (found[len(found) // 2], found[-1]) if found else (float("nan"), float("nan"))
        print(
            f"| {name} | {seconds * 1e3:,.0f} | {len(found)} | {middle * 1e3:.0f} | {longest * 1e3:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
