"""Texts that hurt tokenizers, each made from a fixed seed, cold and on one thread, at two sizes.

A tokenizer that is linear takes as long for one document of 10 MB as for a hundred of 100 KB. Each
measurement is made in a fresh process, so nothing is remembered from before.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable
from typing import Any

import numpy as np
from benches.compare.documents import Corpus
from benches.compare.peers import PEERS, REFERENCE, Files, Flat
from benches.compare.run import Client, Failed, Report, say, turned
from benches.compare.worker import first_difference

# How many documents of how many bytes.
SIZES = {"100 KB": (1, 100_000), "100 × 100 KB": (100, 100_000), "10 MB": (1, 10_000_000)}
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


def make(name: str, size: str) -> Corpus:
    """Make the text of that name at one of `SIZES`."""
    count, byte_len = SIZES[size]
    # A seed of its own for each text keeps it the same when others are added.
    text = texts()[name](count * byte_len, random.Random(f"hard text: {name}")).encode()
    parts = [text[at : at + byte_len] for at in range(0, count * byte_len, byte_len)]
    return Corpus(name, [part.decode("utf-8", "ignore") for part in parts])


def measure(report: Report, peers: list[str], files: Files, rounds: int, cap: float) -> None:
    """Time each text and size in fresh processes, in turn, and add the rates to the report.

    A peer that passes the time cap on a text is not asked for that text again.
    """
    place = files.scratch / "documents"
    for text in texts():
        out: set[str] = set()
        for size in SIZES:
            make(text, size).write(place)
            rates: dict[str, list[float]] = {peer: [] for peer in peers}
            cpu_rates: dict[str, list[float]] = {peer: [] for peer in peers}
            agrees: dict[str, bool] = {}
            reference = _reference(files, cap)
            for number in range(rounds):
                for peer in turned(peers, number):
                    if peer in report.absent or peer in out:
                        continue
                    worker = Client(peer, 1, files, cap)
                    try:
                        loaded = _load(worker)
                        report.peers.setdefault(
                            peer, {"version": loaded["version"], "llama": PEERS[peer].llama}
                        )
                    except Failed as failure:
                        report.absent[peer] = str(failure)
                        say(f"  {peer} is left out: {failure}")
                        worker.close()
                        continue
                    try:
                        worker.ask("take", name="documents", path=str(place))
                        answer = worker.ask("run", job="encode", name="documents")
                        assert answer is not None
                        rates[peer].append(answer["bytes"] / 1e6 / answer["seconds"])
                        cpu_rates[peer].append(answer["bytes"] / 1e6 / answer["cpu_seconds"])
                        if number == rounds - 1 and reference is not None and PEERS[peer].llama:
                            agrees[peer] = _agrees(worker, reference, files, report, f"{text}, {size}")
                    except Failed as failure:
                        out.add(peer)
                        report.failures[f"{peer}: {text}, {size}"] = str(failure)
                        say(f"  {peer}, {text}, {size}: {failure}")
                    finally:
                        worker.close()
            for peer, found in rates.items():
                if found:
                    row = {"text": text, "size": size, "peer": peer, "rate": float(np.median(found))}
                    row |= {"rates": found, "cpu_rates": cpu_rates[peer], "agrees": agrees.get(peer)}
                    say(f"  {text}, {size}, {peer}: {row['rate']:.1f} MB/s")
                    report.hard.append(row)


def _load(worker: Client) -> dict[str, Any]:
    loaded = worker.ask("load")
    assert loaded is not None
    return loaded


def _reference(files: Files, cap: float) -> Flat | None:
    """Take the reference's ids, or None where it takes too long or is missing."""
    worker = Client(REFERENCE, 1, files, cap)
    try:
        _load(worker)
        return worker.read_ids("documents", files.scratch)
    except Failed as failure:
        say(f"  ids are not compared: {REFERENCE} {failure}")
        return None
    finally:
        worker.close()


def _agrees(worker: Client, reference: Flat, files: Files, report: Report, title: str) -> bool:
    difference = first_difference(reference, worker.read_ids("documents", files.scratch))
    if difference is not None:
        report.differences.append({"peer": worker.peer, "corpus": title, "threads": 1, **difference})
    return difference is None


def linearity(report: Report, text: str, peer: str) -> float | None:
    """How many times as dear a byte is in one large document as in a hundred small; None without both.

    Both come to the same number of bytes, so that what a fresh process pays once weighs the same in both.
    """
    rates: dict[str, Any] = {
        row["size"]: row["rate"] for row in report.hard if row["text"] == text and row["peer"] == peer
    }
    small, large = (rates.get(size) for size in list(SIZES)[1:])
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
