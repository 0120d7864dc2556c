"""Hugging Face's interface: llamatok's LlamaTokenizer against the fast class of the installed transformers.

    python benches/drop_in.py --model tokenizer.model
    python benches/drop_in.py --model tokenizer.model --rounds 9 documents.jsonl.zst book.txt

Both load the same `tokenizer.json`, made of the model, and are timed in turn; given is the median of the
ratios within a round, with the lowest and the highest. All ids must be the same. Needs transformers.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import llamatok
from llamatok.integrations.transformers import accelerate

#: Characters of each document, and megabytes of all of them.
DOCUMENT = 2_000
MB = 2
TOKENS = 10_000


def main() -> int:
    """Run the measurement; 1 when ids differ."""
    parser = argparse.ArgumentParser(description="Compare with LlamaTokenizerFast.")
    parser.add_argument("files", nargs="*", type=Path, help="text, .jsonl or .jsonl.zst (default: made up)")
    parser.add_argument("--model", type=Path, required=True, help="a tokenizer.model")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    import transformers

    texts = documents(arguments.files)
    print(
        f"transformers {transformers.__version__}, llamatok {llamatok.__version__}; "
        f"{len(texts)} documents, {sum(map(len, texts)) / 1e6:.1f} million characters"
    )
    with tempfile.TemporaryDirectory() as folder:
        save(arguments.model, Path(folder))
        size = Path(folder, "tokenizer.json").stat().st_size / 1e6

        def theirs() -> Any:
            return transformers.PreTrainedTokenizerFast.from_pretrained(folder, pad_token="</s>")

        def ours() -> Any:
            return llamatok.LlamaTokenizer.from_pretrained(folder, pad_token="</s>")

        timed_pair(f"load {size:.1f} MB", theirs, ours, arguments.rounds)
        one, other = theirs(), ours()
        inside = accelerate(one)
        same = True
        for name, options in (
            ("lists", {}),
            ("numpy, padded", {"padding": True, "return_tensors": "np"}),
            ("torch, padded", {"padding": True, "return_tensors": "pt"}),
            ("lists, cut to 128", {"truncation": True, "max_length": 128}),
            ("offsets", {"return_offsets_mapping": True}),
        ):
            if options.get("return_tensors") == "pt" and not has_torch():
                continue
            for label, tokenizer in (("", other), (", accelerated", inside)):
                same &= compare(name + label, one, tokenizer, texts, options, arguments.rounds)
        short = "Hello, how are you today?"
        timed_pair("one short text, 100 times", *repeated(one, other, short), arguments.rounds)
        same &= added(one, ours(), texts, arguments.rounds)
    return int(not same)


def save(model: Path, folder: Path) -> None:
    """Write a folder that both load: a tokenizer.json, and a configuration that asks for it as it is."""
    llamatok.LlamaTokenizer(str(model), legacy=False).save_pretrained(folder)
    for name in ("tokenizer.model", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    config = {**special, "tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "right"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def compare(
    name: str, theirs: Any, ours: Any, texts: list[str], options: dict[str, Any], rounds: int
) -> bool:
    """Time a call of both, and tell whether the ids are the same."""
    a, b = (tokenizer(texts, **options)["input_ids"] for tokenizer in (theirs, ours))
    same = bool(np.array_equal(a, b)) if hasattr(a, "shape") else a == b
    del a, b
    timed_pair(
        name, lambda: theirs(texts, **options), lambda: ours(texts, **options), rounds,
        "" if same else ", ids DIFFER",
    )  # fmt: skip
    return same


def repeated(theirs: Any, ours: Any, text: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A hundred calls with one text."""
    return lambda: [theirs(text) for _ in range(100)], lambda: [ours(text) for _ in range(100)]


def added(theirs: Any, ours: Any, texts: list[str], rounds: int) -> bool:
    """Time adding many tokens, and encoding before and after."""
    tokens = [f"<token{number}>" for number in range(TOKENS)]
    before = statistics.median(seconds(lambda: ours(texts)) for _ in range(rounds))
    slow, quick = seconds(lambda: theirs.add_tokens(tokens)), seconds(lambda: ours.add_tokens(tokens))
    # The first text after that is the one that waits for what was put off.
    first = seconds(lambda: ours("Hello"))
    after = statistics.median(seconds(lambda: ours(texts)) for _ in range(rounds))
    print(
        f"{f'add {TOKENS} tokens':>28}: {slow * 1e3:.0f} and {(quick + first) * 1e3:.0f} ms; "
        f"encoding takes {after / before:.2f} times as long afterwards"
    )
    some = [f"a {token}{token} b" for token in tokens[::99]] + texts[:50]
    same: bool = theirs(some)["input_ids"] == ours(some)["input_ids"]
    if not same:
        print("ids DIFFER with added tokens")
    return same


def timed_pair(
    name: str, theirs: Callable[[], Any], ours: Callable[[], Any], rounds: int, remark: str = ""
) -> None:
    """Time two calls in turn, the first of each round by chance of its number, and print a line."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            times[which].append(seconds((theirs, ours)[which]))
    ratios = sorted(a / b for a, b in zip(*times, strict=True))
    slow, quick = (statistics.median(spent) * 1e3 for spent in times)
    print(
        f"{name:>28}: {slow:.1f} and {quick:.1f} ms, "
        f"{statistics.median(ratios):.1f} times ({ratios[0]:.1f} to {ratios[-1]:.1f}){remark}",
        flush=True,
    )


def seconds(call: Callable[[], Any]) -> float:
    """Seconds that the call takes; letting go of its result is no part of it."""
    started = time.perf_counter()
    result = call()
    spent = time.perf_counter() - started
    del result
    return spent


def has_torch() -> bool:
    """Whether there is PyTorch."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def documents(files: list[Path]) -> list[str]:
    """Texts of the files, cut into documents."""
    text = "\n\n".join(map(read, files)) if files else prose()
    text = text[: MB * 1_000_000]
    return [text[at : at + DOCUMENT] for at in range(0, len(text), DOCUMENT)]


def read(path: Path) -> str:
    """The text of a file; of JSON lines, their fields `text`."""
    if path.suffix == ".zst":
        import zstandard

        with zstandard.open(path, "rt", encoding="utf-8") as stream:
            content = stream.read(8_000_000)
            content = content[: content.rfind("\n") + 1]
    else:
        content = path.read_text(encoding="utf-8")
    if ".jsonl" not in path.name:
        return content
    return "\n\n".join(json.loads(line)["text"] for line in io.StringIO(content) if line.strip())


def prose() -> str:
    """Words from a stock of 100,000, one as often as the inverse of its place in the stock."""
    chance = np.random.default_rng(0)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    words = ["".join(chance.choice(syllables, size)) for size in chance.integers(1, 5, 100_000)]
    places = np.minimum(chance.zipf(1.2, MB * 200_000), len(words)) - 1
    return " ".join(words[place] for place in places)


if __name__ == "__main__":
    sys.exit(main())
