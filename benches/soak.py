"""An hour of everything at once in one process: every answer compared, memory watched.

    PYTHONPATH=python:tests python benches/soak.py --seconds 3600

Threads ask one tokenizer (and copies of it that get tokens of their own) for ids, offsets, texts, streams,
padded arrays, chats, corpora and generated ids. The answers are known before: another process has found them
with the general engine, one text at a time and without a cache (`LLAMATOK_ENGINE=general`), and where
sentencepiece is installed its ids are compared with those, too. Texts that are new at each request are
compared with a general tokenizer of this process.

Each minute it lets all requests end, and prints what memory is resident: as it is, and after `malloc_trim`,
since what the allocator keeps depends on the largest requests of that minute. The exit code is 1 when an
answer was wrong, or when the latter grew by more than `--tolerance` KB a minute in the second half. Time in
which the process was stopped does not count. Needs torch, jinja2 and the extra "corpus".
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import ctypes
import gc
import hashlib
import json
import math
import os
import pickle
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import llamatok
from llamatok import LlamaTokenizer, Tokenizer
from support import texts as made

MODEL = Path(llamatok.__file__).parent / "data" / "default.model"
GENERAL = "LLAMATOK_ENGINE"
#: Seconds between two looks at the memory.
TICK = 5.0
#: What the cache of a tokenizer may take.
CACHE_BYTES = 16_000_000

#: Parameters of glibc's `mallopt` (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

Answers = dict[str, Any]


def texts_of_strings() -> list[str]:
    """Difficult and random texts, and documents made of them."""
    short = [*made.tricky(), *made.random_texts(1, 3000), *made.training_text(2, 1000)]
    rng = random.Random(3)
    documents = [" ".join(rng.choices(short[-4000:], k=rng.randrange(5, 60))) for _ in range(300)]
    return [*short, *documents]


def texts_of_bytes() -> list[bytes]:
    """Bytes that are not UTF-8."""
    return [*made.INVALID_UTF8, *made.random_bytes(4, 2000)]


def padded_calls() -> list[tuple[list[int], dict[str, Any]]]:
    """Calls of the drop-in class: texts by number, and arguments."""
    rng = random.Random(5)
    settings: list[dict[str, Any]] = [
        {"padding": True},
        {"padding": "max_length", "max_length": 40, "truncation": True},
        {"padding": True, "truncation": True, "max_length": 17, "add_special_tokens": False},
    ]
    return [(rng.sample(range(3000), rng.randrange(1, 40)), rng.choice(settings)) for _ in range(300)]


def token_sets() -> list[list[str]]:
    """Tokens to add: of words, of each other's beginnings, and of spaces."""
    rng = random.Random(6)
    letters = "ab<|>_ "
    return [
        list(dict.fromkeys("<" + "".join(rng.choices(letters, k=rng.randrange(1, 12))) for _ in range(30)))
        for _ in range(20)
    ]


def texts_with(tokens: list[str]) -> list[str]:
    """Texts in which those tokens stand."""
    rng = random.Random(7)
    words = ["the ", "old", " king", "\n", "\u2581", "<s>", " a<|b", "é"]
    return ["".join(rng.choices([*tokens, *words], k=rng.randrange(1, 25))) for _ in range(20)]


def chats() -> list[list[dict[str, str]]]:
    """Conversations."""
    rng = random.Random(8)
    contents = made.random_texts(9, 200)
    return [
        [{"role": ("user", "assistant")[turn % 2], "content": rng.choice(contents)} for turn in range(turns)]
        for turns in rng.choices(range(1, 8), k=100)
    ]


def corpus_digest(tokenizer: Any, folder: Path, workers: int) -> str:
    """What a run over a small file of JSON lines leaves in the shard."""
    from llamatok.corpus import tokenize

    lines = [json.dumps({"text": text}) for text in made.random_texts(10, 200)]
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    tokenize(
        folder / "in.jsonl",
        folder / "out",
        tokenizer=tokenizer,
        workers=workers,
        add_eos=True,
        dedup=True,
        progress=False,
    )
    parts = sorted([*(folder / "out").glob("*.bin"), *(folder / "out").glob("*.idx")])
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def tiny_llama() -> Any:
    """A random model: one layer of width 32."""
    import torch

    from llamatok.models import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"vocab_size": 32_000, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)).eval()


def generated(model: Any, prompt: list[int]) -> list[int]:
    """The model's first ids after a prompt."""
    import torch

    with torch.inference_mode():
        out = model.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False)
    return list(out[0].tolist())


def find_answers() -> Answers:
    """All answers, one text at a time."""
    tokenizer = Tokenizer.default(cache_bytes=0)
    assert tokenizer.settings["engine"] == "general", "answers are those of the general engine"
    drop_in = LlamaTokenizer.from_pretrained(
        llamatok.demo_checkpoint(), pad_token="<unk>", model_max_length=10**6, cache_bytes=0
    )
    strings, byte_strings = texts_of_strings(), texts_of_bytes()
    ids = [tokenizer.encode(text) for text in [*strings, *byte_strings]]
    calls = [drop_in(text, return_offsets_mapping=True) for text in strings]
    padded = []
    for chosen, settings in padded_calls():
        found = drop_in([strings[index] for index in chosen], return_tensors="np", **settings)
        padded.append((found["input_ids"], found["attention_mask"]))
    added = []
    for tokens in token_sets():
        with_tokens = copy.deepcopy(drop_in)
        with_tokens.add_tokens(tokens)
        added.append([with_tokens.encode(text) for text in texts_with(tokens)])
    model = tiny_llama()
    prompts = [(ids[index] or [1])[:20] for index in range(0, 4000, 100)]
    with tempfile.TemporaryDirectory() as folder:
        digest = corpus_digest(tokenizer, Path(folder), 1)
    return {
        "ids": ids,
        "texts": [tokenizer.decode(row) for row in ids],
        "bytes": [tokenizer.decode_bytes(row) for row in ids],
        "calls": [(call["input_ids"], call["offset_mapping"]) for call in calls],
        "padded": padded,
        "added": added,
        "chats": [drop_in.apply_chat_template(chat, return_dict=False) for chat in chats()],
        "corpus": digest,
        "generated": [(prompt, generated(model, prompt)) for prompt in prompts],
        "sentencepiece": compare_with_sentencepiece([*strings, *byte_strings], ids),
    }


def compare_with_sentencepiece(texts: list[Any], ids: list[list[int]]) -> int | None:
    """The number of texts whose ids SentencePiece has found, too; None without it."""
    try:
        import sentencepiece
    except ImportError:
        return None
    peer = sentencepiece.SentencePieceProcessor(model_file=str(MODEL))
    for text, row in zip(texts, ids, strict=True):
        assert peer.encode(text) == row, f"SentencePiece has other ids for {text!r}"
    return len(texts)


def fill_caches(*encoders: Callable[[str], Any]) -> None:
    """Encodes more words than caches hold: often, as tables grow only while most of a text is found.

    Of words of random letters, those of up to 8 have few enough ids to be kept, and those of 16 are in the
    table for long ones.
    """
    rng = random.Random(11)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for _ in range(150):
        words = ["".join(rng.choices(letters, k=rng.choice((5, 6, 7, 8, 16)))) for _ in range(5_000)]
        for encode in encoders:
            encode(" ".join(words * 4))


class Load:
    """What threads ask for: each method makes one request, and raises AssertionError for a wrong answer."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.strings = texts_of_strings()
        self.texts: list[Any] = [*self.strings, *texts_of_bytes()]
        self.padded_calls, self.token_sets, self.chats = padded_calls(), token_sets(), chats()
        self.added_texts = [texts_with(tokens) for tokens in self.token_sets]
        # Caches of a size of their own, and full from the start: those that fill by and by, or are shared
        # out anew whenever a copy comes or goes, look like a leak.
        self.tokenizer = Tokenizer.default(cache_bytes=CACHE_BYTES)
        self.drop_in = LlamaTokenizer.from_pretrained(
            llamatok.demo_checkpoint(),
            pad_token="<unk>",
            model_max_length=10**6,
            cache_bytes=CACHE_BYTES,
        )
        fill_caches(self.tokenizer.encode, lambda text: self.drop_in(text, return_tensors="np"))
        self.model = tiny_llama()
        os.environ[GENERAL] = "general"
        self.general = Tokenizer.default(cache_bytes=0)
        del os.environ[GENERAL]
        assert self.tokenizer.settings["engine"] == "fast"
        assert self.general.settings["engine"] == "general"

    def _numbers(self, rng: random.Random, most: int) -> list[int]:
        return rng.choices(range(len(self.texts)), k=rng.randrange(most))

    def encode(self, rng: random.Random) -> None:
        index = rng.randrange(len(self.texts))
        expected = self.answers["ids"][index]
        assert self.tokenizer.encode(self.texts[index]) == expected
        assert self.tokenizer.encode(self.texts[index], add_bos=True, add_eos=True) == [1, *expected, 2]
        assert self.tokenizer.count(self.texts[index]) == len(expected)

    def encode_batch(self, rng: random.Random) -> None:
        chosen = self._numbers(rng, 200)
        texts = [self.texts[index] for index in chosen]
        expected = [self.answers["ids"][index] for index in chosen]
        batch = self.tokenizer.encode_batch(texts, num_threads=rng.choice((1, 2, 3)))
        assert batch.to_lists() == expected
        assert self.tokenizer.count(texts).tolist() == list(map(len, expected))
        if expected:
            ids, mask = batch.to_padded(pad_id=0)
            assert mask.sum(axis=1).tolist() == list(map(len, expected))
            assert ids[0, : len(expected[0])].tolist() == expected[0]

    def new_document(self, rng: random.Random) -> None:
        parts = rng.choice((1, 5, 60))
        text = "".join(made.random_text(rng, rng.randrange(300)) for _ in range(parts))
        ids = self.tokenizer.encode(text)
        assert ids == self.general.encode(text)
        assert self.tokenizer.decode(ids) == text.replace(made.SPACE, " ")

    def huge_document(self, rng: random.Random) -> None:
        """Long enough to be cut for several threads."""
        unit = made.random_text(rng, 1000)
        text = (unit + "\n") * (2_000_000 // len(unit.encode()))
        assert self.tokenizer.encode_batch([text], num_threads=3)[0].tolist() == self.tokenizer.encode(text)

    def decode(self, rng: random.Random) -> None:
        chosen = self._numbers(rng, 50)
        rows = [self.answers["ids"][index] for index in chosen]
        expected = [self.answers["texts"][index] for index in chosen]
        assert self.tokenizer.decode_batch(rows, num_threads=rng.choice((1, 2))) == expected
        assert self.tokenizer.decode_text_batch(rows).to_list() == expected
        for row, index in zip(rows[:5], chosen, strict=False):
            assert self.tokenizer.decode(row) == self.answers["texts"][index]
            assert self.tokenizer.decode_bytes(row) == self.answers["bytes"][index]

    def stream(self, rng: random.Random) -> None:
        index = rng.randrange(3000)
        decoder = self.tokenizer.stream_decoder()
        parts = [decoder.push(id) for id in self.answers["ids"][index]]
        assert "".join([*parts, decoder.finish()]) == self.answers["texts"][index]

    def offsets(self, rng: random.Random) -> None:
        index = rng.randrange(len(self.strings))
        found = self.drop_in(self.strings[index], return_offsets_mapping=True)
        assert (found["input_ids"], found["offset_mapping"]) == self.answers["calls"][index]

    def drop_in_call(self, rng: random.Random) -> None:
        number = rng.randrange(len(self.padded_calls))
        chosen, settings = self.padded_calls[number]
        found = self.drop_in([self.strings[index] for index in chosen], return_tensors="np", **settings)
        ids, mask = self.answers["padded"][number]
        assert np.array_equal(found["input_ids"], ids)
        assert np.array_equal(found["attention_mask"], mask)

    def added_tokens(self, rng: random.Random) -> None:
        number = rng.randrange(len(self.token_sets))
        again = (
            copy.deepcopy(self.drop_in) if rng.random() < 0.5 else pickle.loads(pickle.dumps(self.drop_in))
        )
        again.add_tokens(self.token_sets[number])
        for text, expected in zip(self.added_texts[number], self.answers["added"][number], strict=True):
            assert again.encode(text) == expected
        assert len(self.drop_in) == 32_000

    def chat(self, rng: random.Random) -> None:
        number = rng.randrange(len(self.chats))
        found = self.drop_in.apply_chat_template(self.chats[number], return_dict=False)
        assert found == self.answers["chats"][number]

    def corpus(self, rng: random.Random) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = corpus_digest(self.tokenizer, Path(folder), rng.choice((1, 2)))
        assert found == self.answers["corpus"]

    def generation(self, rng: random.Random) -> None:
        prompt, expected = rng.choice(self.answers["generated"])
        assert generated(self.model, prompt) == expected

    def errors(self, rng: random.Random) -> None:
        wrong: list[tuple[Callable[[], Any], type[Exception]]] = [
            (lambda: self.tokenizer.encode(5), TypeError),
            (lambda: self.tokenizer.encode("a\ud800"), UnicodeEncodeError),
            (lambda: self.tokenizer.encode_batch(["a"] * 50 + ["\udfff"]), UnicodeEncodeError),
            (lambda: self.tokenizer.decode([5, 10**6]), IndexError),
            (lambda: self.tokenizer.decode_batch([[5], [10**6]]), IndexError),
            (lambda: Tokenizer.from_bytes(rng.randbytes(200)), ValueError),
            (lambda: self.drop_in(5), ValueError),
        ]
        call, expected = rng.choice(wrong)
        try:
            call()
        except expected:
            return
        raise AssertionError(f"no {expected.__name__} was raised")


#: Requests of a kind for each of the others'.
WEIGHTS = {
    "encode": 100,
    "encode_batch": 10,
    "new_document": 20,
    "huge_document": 0.1,
    "decode": 20,
    "stream": 20,
    "offsets": 50,
    "drop_in_call": 20,
    "added_tokens": 1,
    "chat": 10,
    "corpus": 0.1,
    "generation": 2,
    "errors": 10,
}


class Clock:
    """Seconds of which each tick knows: a process that was stopped for long does not count them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
        now = time.monotonic()
        self.seconds += min(now - self._last, 3 * seconds)
        self._last = now


class Pace:
    """Lets requests through, or holds all of them back while memory is looked at."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._running, self._held = 0, False

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        with self._change:
            self._change.wait_for(lambda: not self._held)
            self._running += 1
        try:
            yield
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._change:
            self._held = True
            self._change.wait_for(lambda: not self._running)
        try:
            yield
        finally:
            with self._change:
                self._held = False
                self._change.notify_all()


class Memory(NamedTuple):
    """What the process holds while no request runs."""

    seconds: float
    #: KB resident, as it is, and once the allocator has given back whole free pages.
    resident: float
    trimmed: float
    #: KB that `malloc` has given out, and objects of Python's own allocator.
    in_use: float
    blocks: int

    def described(self) -> str:
        """In words."""
        sizes = f"{self.resident / 1000:.1f} MB resident, {self.trimmed / 1000:.1f} MB trimmed"
        return f"{sizes}, {self.in_use / 1000:.2f} MB in use, {self.blocks:,} blocks"


def resident() -> float:
    """KB of memory that are resident now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1000


def look(seconds: float) -> Memory:
    """The memory now. What is trimmed, and what is in use, only with glibc."""
    gc.collect()
    before, in_use = resident(), math.nan
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
        in_use = given_out(libc)
    return Memory(seconds, before, resident(), in_use, sys.getallocatedblocks())


def keep_nothing_free() -> None:
    """Has glibc give back what is freed, from 128 KB on.

    By itself it raises that threshold to 64 MB by and by, and `malloc_trim` looks at the end of the first
    heap only: those of threads would keep what their largest requests have taken together.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for threshold in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            mallopt(threshold, 128 << 10)


def given_out(libc: ctypes.CDLL) -> float:
    """KB that glibc's `malloc` has given out, in all arenas and by mapping (`malloc_info(3)`)."""
    libc.fopen.restype = ctypes.c_void_p
    with tempfile.NamedTemporaryFile() as file:
        stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        totals = file.read().decode("ascii").rpartition("</heap>")[2]
    sizes = {kind: int(size) for kind, size in re.findall(r'type="(\w+)"[^/]*size="(\d+)"', totals)}
    return (sizes["current"] - sizes["fast"] - sizes["rest"] + sizes["mmap"]) / 1000


def slope(samples: list[tuple[float, float]]) -> float:
    """What is more a minute, of (seconds, how much), by least squares."""
    seconds, sizes = np.array(samples).T
    return float(np.polyfit(seconds / 60, sizes, 1)[0])


def soak(
    load: Load, seconds: float, threads: int, seed: int
) -> tuple[collections.Counter[str], list[str], list[Memory], float]:
    """Requests by kind, errors, the memory at each minute, and the most KB that were resident."""
    done: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    end, lock, pace = threading.Event(), threading.Lock(), Pace()

    def work(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        while not end.is_set():
            name = rng.choices(names, weights)[0]
            try:
                with pace.request():
                    getattr(load, name)(rng)
            except BaseException:
                with lock:
                    wrong.append(f"{name}: {traceback.format_exc()}")
            with lock:
                done[name] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    clock, most = Clock(), 0.0
    looks: list[Memory] = []
    while clock.seconds < seconds and len(wrong) < 20:
        clock.sleep(min(TICK, seconds))
        most = max(most, resident())
        if clock.seconds >= 60 * (len(looks) + 1):
            with pace.held():
                looks.append(look(clock.seconds))
            minutes = f"{clock.seconds / 60:>4.0f} min {done.total():>9} requests"
            print(f"{minutes}  {looks[-1].described()}  {len(wrong)} wrong", flush=True)
    end.set()
    for worker in workers:
        worker.join()
    return done, wrong, looks, most


def main() -> int:
    """Find the answers in another process, and ask for them again and again in this one."""
    parser = argparse.ArgumentParser(description="Everything at once, for long.")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=100.0, help="KB a minute (default: 100)")
    parser.add_argument("--answers", type=Path, help="only find the answers, and write them to this file")
    arguments = parser.parse_args()
    if arguments.answers is not None:
        arguments.answers.write_bytes(pickle.dumps(find_answers()))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answers.pickle"
        command = [sys.executable, __file__, "--answers", str(file)]
        subprocess.run(command, env={**os.environ, GENERAL: "general"}, check=True)
        answers = pickle.loads(file.read_bytes())
    print(f"{len(answers['ids'])} texts; sentencepiece has the ids of {answers['sentencepiece']}", flush=True)
    keep_nothing_free()
    load = Load(answers)
    done, wrong, looks, most = soak(load, arguments.seconds, arguments.threads, arguments.seed)

    print("\n| request | count |\n|---|---:|")
    for name in WEIGHTS:
        print(f"| {name} | {done[name]:,} |")
    print(f"| all | {done.total():,} |")
    print(f"\n{arguments.threads} threads, {len(wrong)} wrong answers, {most / 1000:.1f} MB resident at most")
    half = looks[len(looks) // 2 :]
    growth, in_use, blocks = (
        slope([(each.seconds, getattr(each, called)) for each in half]) if len(half) > 2 else 0.0
        for called in ("trimmed", "in_use", "blocks")
    )
    for called, each in (("first", looks[:1]), ("half", half[:1]), ("last", half[-1:])):
        for memory in each:
            print(f"{called:>5}: {memory.described()}")
    print(f"second half, a minute: {growth:+.1f} KB trimmed, {in_use:+.1f} KB in use, {blocks:+.1f} blocks")
    for error in wrong[:5]:
        print(error)
    return int(bool(wrong) or growth > arguments.tolerance)


if __name__ == "__main__":
    sys.exit(main())
