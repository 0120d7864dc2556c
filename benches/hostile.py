"""Time for each byte of worst-case inputs, against typical ones: a table of the ratios.

    python benches/hostile.py [--bytes N] [--only NAME]

Each row is the best of three runs on one thread. The bar is a ratio of 20.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

import llamatok
from llamatok import Tokenizer, _core
from llamatok.tokenization.chat.template import render

Case = tuple[str, Callable[[], Any], int]

WORDS = ["the", "of", "and", "to", "in", "is", "that", "for", "it", "was", "on", "with", "they", "this"]


def typical_text(size: int) -> str:
    """English-like text of about `size` bytes."""
    rng = random.Random(1)
    words: list[str] = []
    length = 0
    while length < size:
        word = (
            rng.choice(WORDS)
            if rng.random() < 0.7
            else "".join(rng.choices("abcdefghilmnorstu", k=rng.randint(2, 9)))
        )
        words.append(word + rng.choice(["", "", "", ",", "."]))
        length += len(words[-1]) + 1
    return " ".join(words)[:size]


def best(call: Callable[[], Any]) -> float:
    """Seconds of the best of three runs."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def added(contents: list[str]) -> list[tuple[int, str, bool, bool, bool, bool, bool]]:
    """Added tokens of these contents."""
    return [
        (32_000 + index, content, False, False, False, False, False) for index, content in enumerate(contents)
    ]


def small_json(normalizer: Any) -> bytes:
    """A `tokenizer.json` of bytes alone, with a normalizer."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"abcdefghijklmnopqrstuvwxyz", "\u2581"]
    return json.dumps(
        {
            "version": "1.0", "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": None,
            "post_processor": None, "decoder": {"type": "ByteFallback"}, "truncation": None, "padding": None,
            "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True,
                      "vocab": {piece: id for id, piece in enumerate(pieces)}, "merges": []},
        }
    ).encode()  # fmt: skip


def merger(size: int) -> dict[str, list[Case]]:
    """Texts without a place to cut, and texts whose merges go on for long."""
    tokenizer = Tokenizer.default(cache_bytes=0)
    texts = {
        "typical": typical_text(size),
        "one letter": "a" * size,
        "one word": typical_text(size).replace(" ", "").replace(",", "").replace(".", ""),
        "spaces": " " * size,
        "two letters": "ab" * (size // 2),
        "bytes": "\U0010fffd" * (size // 4),
        "hanzi": "".join(chr(0x4E00 + index * 7919 % 20000) for index in range(size // 3)),
        "space symbols": "\u2581 " * (size // 4),
    }
    return {"merger": [case(name, tokenizer, text) for name, text in texts.items()]}


def case(name: str, tokenizer: Any, text: str) -> Case:
    """Encoding a text."""
    return name, lambda: tokenizer.encode(text), len(text.encode())


def cache(size: int) -> dict[str, list[Case]]:
    """Words that never come again, so that the cache is of no use."""
    tokenizer = Tokenizer.default()
    rng = random.Random(2)
    never = " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(size // 10))
    lengths = " ".join("x" * (1 + index % 64) + str(index) for index in range(size // 40))
    return {
        "cache": [
            case("typical", tokenizer, typical_text(size)),
            case("words that never come again", tokenizer, never),
            case("words alike but for their ends", tokenizer, lengths),
        ]
    }


def matcher(size: int) -> dict[str, list[Case]]:
    """10,000 added tokens with common prefixes, and long ones."""
    pipeline = _core.Pipeline.from_tokenizer(Tokenizer.default(), legacy=True)
    many = pipeline.with_added_tokens(
        added([f"<|reserved_special_token_{index}|>" for index in range(10_000)])
    )
    prefixes = pipeline.with_added_tokens(
        added(["a" * (1 + index % 100) + f"b{index}c" for index in range(10_000)])
    )
    long = pipeline.with_added_tokens(added(["a" * 4000 + letter for letter in "bcdefghij"]))
    near = "<|reserved_special_token_" * (size // 25)
    cases = [
        ("typical", many, typical_text(size)),
        ("10,000 tokens, all but found", many, near),
        ("10,000 tokens, prefixes of each other", prefixes, "a" * size),
        ("9 tokens of 4,000 bytes, all but found", long, "a" * size),
    ]
    return {"added tokens": [case(name, tokenizer, text) for name, tokenizer, text in cases]}


def nested(size: int) -> dict[str, list[Case]]:
    """Added tokens within others, sought as transformers does it, and texts that they nearly fit."""
    pipeline = _core.Pipeline.from_tokenizer(Tokenizer.default(), legacy=True)
    chat = pipeline.with_added_tokens(added(["<|im_start|>", "<|im_end|>", "im", "<|im"]))
    half = "a" * 2000
    long = pipeline.with_added_tokens(added([f"{half}x{half}b", "x"]))
    repeated = pipeline.with_added_tokens(added(["aaaaax" + "aaaaaxc" * 600 + "b", "x"]))
    text = typical_text(size - 12 * (size // 100))
    chatted = "".join(f"<|im_start|>{text[at : at + 88]}" for at in range(0, len(text), 88))
    cases = [
        ("typical", chat, chatted),
        ("4,000 letters around one, all but found", long, f"{half}x" * (size // 2001)),
        ("4,000 letters, all letters", long, "a" * size),
        ("one that goes on behind a wrong letter", repeated, "aaaaaxc" * (size // 7)),
    ]
    return {"nested added tokens": [case(name, tokenizer, text) for name, tokenizer, text in cases]}


def symbols(size: int) -> dict[str, list[Case]]:
    """User-defined symbols of a `tokenizer.model`, put behind the pieces of the embedded one."""

    def with_symbols(contents: list[str]) -> Tokenizer:
        model = Tokenizer.default().__reduce__()[1][0]
        return Tokenizer.from_bytes(model + b"".join(piece(content.encode()) for content in contents))

    def piece(content: bytes) -> bytes:
        body = field(1, content) + b"\x15\0\0\0\0\x18\x04"
        return field(1, body)

    def field(number: int, content: bytes) -> bytes:
        # A length of two bytes holds 14 bits.
        return bytes([number << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content

    long = with_symbols(["a" * 7000 + letter for letter in "bcdef"])
    few = with_symbols([f"<sym{index}>" for index in range(5)])
    return {
        "user-defined symbols": [
            case("typical", few, typical_text(size)),
            case("5 of 7,000 letters, typical text", long, typical_text(size)),
            case("5 of 7,000 letters, all but found", long, "a" * size),
        ]
    }


def normalizers(size: int) -> dict[str, list[Case]]:
    """The steps of a `tokenizer.json`, on the texts that they like least."""

    def pipeline(*steps: Any) -> Any:
        return _core.Pipeline.from_tokenizer_json(
            small_json({"type": "Sequence", "normalizers": list(steps)})
        )

    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    marks = "a" + "\u0316\u0301" * (size // 4)
    fold = {"type": "Replace", "pattern": {"String": "a" * 1000 + "b"}, "content": "x"}
    nfkc, nfd = pipeline({"type": "NFKC"}), pipeline({"type": "NFD"})
    return {
        "normalizers": [
            case("typical", nfkc, typical_text(size)),
            case("NFKC of marks without end", nfkc, marks),
            case("NFD of marks without end", nfd, marks),
            case("NFKC of Hangul", nfkc, "\uac01" * (size // 3)),
            case("replacing what is all but there", pipeline(fold), "a" * size),
            case("replacing runs of spaces", pipeline(spaces), " " * size),
            case("64 steps", pipeline(*[{"type": "StripAccents"}] * 64), typical_text(size)),
        ]
    }


def decode(size: int) -> dict[str, list[Case]]:
    """Ids; sizes are those of the text."""
    tokenizer = Tokenizer.default()
    ids = tokenizer.encode(typical_text(size))
    letters = list(range(3, 259)) * (size // 256)
    lone = [3 + 0xE2] * size
    return {
        "decode": [
            ("typical", lambda: tokenizer.decode(ids), size),
            ("all bytes", lambda: tokenizer.decode(letters), size),
            ("bytes that make no character", lambda: tokenizer.decode(lone), size),
        ]
    }


def templates(size: int) -> dict[str, list[Case]]:
    """Chat templates; the worst one is as large as the chat. What has no end is refused, and is a test."""
    template = "{% for m in messages %}<|{{ m['role'] }}|>{{ m.content|trim + '\n' }}{% endfor %}"
    text = typical_text(size)
    chat = [{"role": "user", "content": text[at : at + 500]} for at in range(0, size, 500)]
    short = [{"role": "user", "content": text[at : at + 5]} for at in range(0, size // 10, 5)]
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    # A message costs the same however long it is, so that short ones are beyond any bar for each byte: what
    # the limits cost shows next to Jinja alone. Sizes are those of the rendered text.
    rendered = len(short) * 14
    return {
        "chat templates": [
            ("typical", lambda: render(template, {"messages": chat}), len(chat) * 509),
            ("messages of 5 bytes", lambda: render(template, {"messages": short}), rendered),
        ],
        "messages of 5 bytes": [
            ("Jinja's sandbox alone", lambda: plain.render(messages=short), rendered),
            ("with the limits", lambda: render(template, {"messages": short}), rendered),
        ],
    }


def stopping(size: int) -> dict[str, list[Case]]:
    """Stop strings, token by token; sizes are tokens, and include the decoding of the window."""
    import torch

    from llamatok.generation.stopping import stop_strings

    tokenizer = llamatok.LlamaTokenizer.default()
    steps = max(1, size // 20_000)

    def run(strings: list[str], text: str = typical_text(4000)) -> Callable[[], Any]:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        criterion = stop_strings(tokenizer, strings)
        return lambda: [criterion(ids, None) for _ in range(steps)]

    return {
        "stop strings": [
            ("typical", run(["</s>", "\n\nUser:"]), steps),
            ("100 strings", run([f"stop {index}" for index in range(100)]), steps),
            ("a string of 1,000 letters", run(["x" * 1000]), steps),
            ("1,000 letters, all but found", run(["y" + "x" * 999], "x" * 40_000), steps),
        ]
    }


GROUPS = (merger, cache, matcher, nested, symbols, normalizers, decode, templates, stopping)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=1_000_000)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    print("| input | ns per byte | worst / typical |\n|---|---:|---:|")
    for group in GROUPS:
        if arguments.only not in group.__name__:
            continue
        for title, cases in group(arguments.bytes).items():
            typical = 0.0
            for name, call, size in cases:
                each = best(call) / size * 1e9
                typical = typical or each
                print(f"| {title}: {name} | {each:,.1f} | {each / typical:.1f} |", flush=True)


if __name__ == "__main__":
    main()
