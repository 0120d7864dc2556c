"""Texts that hurt tokenizers, each made from a fixed seed, cold and on one thread, at two sizes.

A tokenizer that is linear takes a hundred times as long for a hundred times the text. Each measurement is
made in a fresh process, so nothing is remembered from before.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable
from typing import Any

import numpy as np
from benches.compare.documents import Corpus
from benches.compare.peers import Files
from benches.compare.run import Client, Failed, Report, say, turned

SIZES = {"100 KB": 100_000, "10 MB": 10_000_000}
LONGEST_WORD = 1_000_000


def texts() -> dict[str, Callable[[int, random.Random], str]]:
    """Maker of each text: at least so many bytes, from a source of chance."""
    return {
        "base64": lambda n, chance: base64.b64encode(chance.randbytes(n)).decode(),
        "hex": lambda n, chance: chance.randbytes(n).hex(),
        "digits": lambda n, chance: "".join(chance.choices(string.digits, k=n)),
        "unique words": _unique_words,
        "runs of spaces": lambda n, chance: _repeated(
            n, lambda: " " * chance.randrange(1, 200) + chance.choice("a,\n")
        ),
        "CJK without spaces": lambda n, chance: "".join(
            map(chr, chance.choices(range(0x4E00, 0x9FA6), k=n // 3 + 1))
        ),
        "emoji sequences": lambda n, chance: _repeated(n, lambda: _emoji(chance)),
        "minified JavaScript": _javascript,
        "DNA": lambda n, chance: "".join(chance.choices("ACGT", k=n)),
        "equal letters": lambda n, chance: " ".join(["a" * min(n, LONGEST_WORD)] * max(1, n // LONGEST_WORD)),
        "random letters": lambda n, chance: " ".join(
            "".join(chance.choices(string.ascii_lowercase, k=min(n, LONGEST_WORD)))
            for _ in range(max(1, n // LONGEST_WORD))
        ),
        "one word": lambda n, chance: "".join(chance.choices(string.ascii_lowercase, k=n)),
    }


def make(name: str, size: int) -> Corpus:
    """Make the text of that name, as one document of at most `size` bytes."""
    # A seed of its own for each text keeps it the same when others are added.
    text = texts()[name](size, random.Random(f"hard text: {name}"))
    return Corpus(name, [text.encode()[:size].decode("utf-8", "ignore")])


def measure(
    report: Report, peers: list[str], files: Files, rounds: int, cap: float, sizes: list[str]
) -> None:
    """Time each text and size in fresh processes, in turn, and add the rates to the report.

    A peer that passes the time cap on a text is not asked for a larger size of it.
    """
    absent: set[str] = set()
    for text in texts():
        too_slow: set[str] = set()
        for size in sizes:
            corpus = make(text, SIZES[size])
            corpus.write(files.scratch / "documents")
            rates: dict[str, list[float]] = {peer: [] for peer in peers}
            for number in range(rounds):
                for peer in turned(peers, number):
                    if peer in absent or peer in too_slow:
                        continue
                    worker = Client(peer, 1, files, cap)
                    try:
                        loaded = worker.ask("load")
                        assert loaded is not None
                        report.peers.setdefault(peer, {"version": loaded["version"]})
                    except Failed as failure:
                        absent.add(peer)
                        report.absent[peer] = str(failure)
                        say(f"  {peer} is left out: {failure}")
                        worker.close()
                        continue
                    try:
                        worker.ask("take", name="documents", path=str(files.scratch / "documents"))
                        answer = worker.ask("run", job="encode", name="documents")
                        assert answer is not None
                        rates[peer].append(answer["bytes"] / 1e6 / answer["seconds"])
                    except Failed as failure:
                        too_slow.add(peer)
                        report.failures[f"{peer}: {text}, {size}"] = str(failure)
                        say(f"  {peer}, {text}, {size}: {failure}")
                    finally:
                        worker.close()
            for peer, found in rates.items():
                if found:
                    rate = float(np.median(found))
                    say(f"  {text}, {size}, {peer}: {rate:.1f} MB/s")
                    report.hard.append(
                        {"text": text, "size": size, "peer": peer, "rate": rate, "rates": found}
                    )


def linearity(report: Report, text: str, peer: str) -> float | None:
    """How many times slower a byte of the large text is than one of the small; None without both."""
    rates: dict[str, Any] = {
        row["size"]: row["rate"] for row in report.hard if row["text"] == text and row["peer"] == peer
    }
    small, large = (rates.get(size) for size in SIZES)
    return None if small is None or large is None else float(small / large)


def _repeated(size: int, part: Callable[[], str]) -> str:
    parts: list[str] = []
    have = 0
    while have < size:
        parts.append(part())
        have += len(parts[-1].encode())
    return "".join(parts)


def _unique_words(size: int, chance: random.Random) -> str:
    """Words that follow each other like syllables and hardly ever come twice."""
    syllables = [c + v for c in "bcdfghjklmnprstvz" for v in "aeiou"]
    return _repeated(size, lambda: "".join(chance.choices(syllables, k=chance.randrange(3, 8))) + " ")


def _emoji(chance: random.Random) -> str:
    people = ["👩", "👨", "🧑", "👧", "👦"]
    skin = ["", "🏻", "🏽", "🏿"]
    family = "\u200d".join(chance.choice(people) + chance.choice(skin) for _ in range(chance.randrange(1, 5)))
    flag = "".join(chr(0x1F1E6 + chance.randrange(26)) for _ in range(2))
    return chance.choice([family, flag, "❤️\u200d🔥", chr(0x1F300 + chance.randrange(0x280)), "1️⃣"])


def _javascript(size: int, chance: random.Random) -> str:
    names = string.ascii_letters + "$_"

    def statement() -> str:
        a, b, c, d = chance.choices(names, k=4)
        number = chance.randrange(1000)
        return chance.choice(
            [
                f"var {a}={b}({number}),{c}={d}.prototype;",
                f"function {a}({b},{c}){{return {b}?{c}[{number}]:void 0}}",
                f"if(!{a}&&{b}.length>{number}){{{c}.push({d});break}}",
                f'{a}.{b}{c}=function({d}){{return this.{b}["{a}{d}{number}"]||null}},',
                f"for(var {a}=0;{a}<{b}.length;{a}++){c}+={d}[{a}]<<{number % 32};",
                f"{a}=>{{const {b}=await {c}(`{d}/${{{a}}}`);return{{...{b},{c}:!0}}}},",
            ]
        )

    return _repeated(size, statement)
