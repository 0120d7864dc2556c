"""What is fuzzed: functions of bytes, each of which raises only where something is wrong with the library.

A target that meets a typed error of the library is content. What it lets through is a finding: a panic, an
error of another type, and results that differ where they must not.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llamatok
from llamatok import ModelFormatError, Tokenizer, UnsupportedModelError, _core

REFUSED = (ModelFormatError, UnsupportedModelError)
PROBE = ["hello there", " <s>a \u2581\U0001f999\n", "aaaa" * 20, ""]


@functools.cache
def default() -> Tokenizer:
    """The tokenizer that is inside the package."""
    return Tokenizer.default()


@functools.cache
def uncached() -> Tokenizer:
    """The same without a cache of words."""
    return Tokenizer.from_bytes(_model(), cache_bytes=0)


@functools.cache
def _model() -> bytes:
    return (Path(llamatok.__file__).parent / "data" / "default.model").read_bytes()


def _use(tokenizer: Any) -> None:
    """Encodes and decodes with what was loaded: one by one and in a batch, it is the same."""
    single = [list(tokenizer.encode(text)) for text in PROBE]
    batch = tokenizer.encode_batch(PROBE)
    assert [list(batch[row]) for row in range(len(PROBE))] == single
    for ids in single:
        tokenizer.decode(ids)


def model(data: bytes) -> None:
    """A `tokenizer.model` or GGUF file, in memory."""
    try:
        tokenizer = Tokenizer.from_bytes(data)
    except REFUSED:
        return
    _use(tokenizer)


def tokenizer_json(data: bytes) -> None:
    """A `tokenizer.json`: the pipeline, and what is written of it, which must load again."""
    try:
        pipeline = _core.Pipeline.from_tokenizer_json(data)
    except REFUSED:
        return
    lists = pipeline.encode_batch(PROBE).lists("input_ids")
    assert pipeline.encode_batch(PROBE, offsets=True).lists("input_ids") == lists
    again = _core.Pipeline.from_tokenizer_json(pipeline.to_json())
    assert again.encode_batch(PROBE).lists("input_ids") == lists
    for ids in lists:
        pipeline.decode(ids)


def configuration(data: bytes) -> None:
    """A `tokenizer_config.json` beside a small model."""
    with _folder() as folder:
        (folder / "tokenizer.model").write_bytes(_small_model())
        (folder / "tokenizer_config.json").write_bytes(data)
        try:
            tokenizer = llamatok.LlamaTokenizer.from_pretrained(folder, legacy=True)
        except UnicodeError:
            raise
        except ValueError:
            return
        for text in PROBE:
            tokenizer.decode(tokenizer(text)["input_ids"])


def chat_template(data: bytes) -> None:
    """A chat template: Python's errors of types and look-ups are the template's own, as in transformers."""
    import jinja2

    from llamatok.tokenization.chat.template import render

    messages = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}]
    with contextlib.suppress(
        jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError
    ):
        render(data.decode("utf-8", "replace"), {"messages": messages, "bos_token": "<s>"})


def encode(data: bytes) -> None:
    """Any text: with and without the cache, alone and in a batch, and back to the same text."""
    text = data.decode("utf-8", "replace")
    ids = list(default().encode(text))
    assert ids == list(uncached().encode(text))
    batch = default().encode_batch([text, text])
    assert list(batch[0]) == list(batch[1]) == ids
    assert default().decode(ids) == text.replace("\u2581", " ")


def decode(data: bytes) -> None:
    """Any ids: decoded at once, in a batch, and piece by piece."""
    ids = [number % 32_000 for (number,) in struct.iter_unpack("<H", data[: len(data) // 2 * 2])]
    whole = default().decode(ids)
    assert default().decode_batch([ids]) == [whole]


def stream(data: bytes) -> None:
    """A decoder that is given one id after the other hands over the text of all of them."""
    ids = [number % 32_000 for (number,) in struct.iter_unpack("<H", data[: len(data) // 2 * 2])]
    decoder = default().stream_decoder(skip_special_tokens=False)
    parts = [decoder.push(id) for id in ids]
    assert "".join([*parts, decoder.finish()]) == default().decode(ids)


def ids_out_of_range(data: bytes) -> None:
    """Any 64-bit numbers as ids: text, or an error of Python's for numbers and places."""
    ids = [number for (number,) in struct.iter_unpack("<q", data[: len(data) // 8 * 8])]
    with contextlib.suppress(IndexError, OverflowError, ValueError):
        default().decode(ids)


#: Endings of a corpus's input files, and what is asked of a run: the first byte of an input tells both.
ENDINGS = (
    ".jsonl", ".txt", ".csv", ".jsonl.gz", ".jsonl.zst", ".parquet", ".arrow", ".jsonl.bz2", ".jsonl.xz",
)  # fmt: skip
ASKED: tuple[dict[str, Any], ...] = (
    {},
    {"format": "parquet"},
    {"text_key": "a.text", "id_key": "id", "val_fraction": 0.5, "dedup": True},
    {"invalid_utf8": "replace", "block_size": 1024, "add_bos": True},
    {"skip_damaged": True, "format": "arrow", "id_key": "id"},
    {"kind": "lines", "max_tokens": 4, "long_documents": "truncate"},
    {"kind": "text", "separator": "\n\n", "pack": 8},
    {"delimiter": ";", "columns": ["id"], "format": "parquet"},
)
#: One input of so many goes through a whole run too.
WHOLE_RUNS = 64


def corpus(data: bytes) -> None:
    """An input file of a corpus: read, parsed and tokenized as a run does it, without threads and journal."""
    from llamatok.corpus.errors import CorpusError

    with contextlib.suppress(CorpusError):
        tokenize_in_place(data)
    if zlib.crc32(data) % WHOLE_RUNS == 0:
        tokenize_in_a_run(data)


def tokenize_in_place(data: bytes) -> Counter[str]:
    """How many documents, bytes, rejects and tokens are in an input. Raises `CorpusError`."""
    from llamatok.corpus import api
    from llamatok.corpus.local import raw_blocks
    from llamatok.corpus.plan import Plan
    from llamatok.corpus.work import Worker

    source = _small_source()
    found: Counter[str] = Counter()
    with _folder() as folder:
        path, asked = _input(folder, data)
        settings = api.make_settings(api.tokenize_arguments({"inputs": [path], "output": "", **asked}))
        worker = Worker(source, settings)
        plan = Plan.make([path], settings, source)
        for unit in plan.units:
            for block in raw_blocks(plan, unit):
                done = worker(unit.index, *block)
                found.update({**done.counts, "tokens": len(done.documents.tokens)})
    return found


def tokenize_in_a_run(data: bytes) -> None:
    """The same input by `llamatok.corpus.tokenize`: it is refused by both, or both find as many tokens."""
    from llamatok import corpus as corpora
    from llamatok.corpus.errors import CorpusError

    expected = found = None
    with contextlib.suppress(CorpusError):
        expected = tokenize_in_place(data)
    with _folder() as folder, contextlib.suppress(CorpusError):
        path, asked = _input(folder, data)
        tokenizer = _small_source().tokenizer
        found = corpora.tokenize(
            [path], folder / "out", tokenizer=tokenizer, workers=1, progress=False, **asked
        )
    assert (found is None) == (expected is None)
    if found is None or expected is None:
        return
    for name in ("documents_read", "bytes_read", "rejected", "too_long", "truncated"):
        assert getattr(found, name) == expected[name], name
    if not asked.keys() & {"dedup", "pack"}:
        assert found.tokens == expected["tokens"]


@functools.cache
def _small_source() -> Any:
    from llamatok.corpus.tokenizers import TokenizerSource

    return TokenizerSource.of(Tokenizer.from_bytes(_small_model()))


def _input(folder: Path, data: bytes) -> tuple[str, dict[str, Any]]:
    """The path of an input with this content, and what is asked of the run."""
    choice, ending = divmod((data or b" ")[0], len(ENDINGS))
    path = folder / f"in{ENDINGS[ending]}"
    path.write_bytes(data[1:])
    return str(path), ASKED[choice % len(ASKED)]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder, in memory where there is one: a run waits for the disk at each step."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        model, tokenizer_json, configuration, chat_template, encode, decode, stream, ids_out_of_range, corpus,
    )
}  # fmt: skip


def _small_json() -> dict[str, Any]:
    pieces = [
        "<unk>",
        "<s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581",
        "a",
        "b",
        "ab",
        "\u2581ab",
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": 1, "content": "<s>", "single_word": False, "lstrip": True, "rstrip": False,
             "normalized": False, "special": True},
        ],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {piece: id for id, piece in enumerate(pieces)}, "merges": ["a b", "\u2581 ab"]},
    }  # fmt: skip


def _field(number: int, data: bytes) -> bytes:
    length = b""
    rest = len(data)
    while rest > 127:
        length, rest = length + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + data


@functools.cache
def _small_model() -> bytes:
    pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3), *((f"<0x{byte:02X}>", 6) for byte in range(256)),
              ("\u2581", 1), ("a", 1), ("b", 1), ("ab", 1), ("\u2581ab", 1), ("<sym>", 4)]  # fmt: skip
    data = b""
    for index, (text, kind) in enumerate(pieces):
        score = b"\x15" + struct.pack("<f", -float(index))
        data += _field(1, _field(1, text.encode()) + score + bytes([3 << 3, kind]))
    return data + _field(2, bytes([3 << 3, 2]) + b"\x98\x02\x01") + _field(3, b"\x18\x01\x20\x01\x28\x01")


def _small_gguf() -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "b", "ab"]
    kinds = [2, 3, 3, *[6] * 256, 1, 1, 1, 1]
    scores = b"".join(struct.pack("<f", -float(index)) for index in range(len(pieces)))
    entries = [
        ("tokenizer.ggml.model", 8, text("llama")),
        ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, len(pieces)) + b"".join(map(text, pieces))),
        ("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, len(pieces)) + scores),
        (
            "tokenizer.ggml.token_type",
            9,
            struct.pack("<IQ", 5, len(kinds)) + struct.pack(f"<{len(kinds)}i", *kinds),
        ),
        ("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 1)),
        ("tokenizer.ggml.add_bos_token", 7, b"\x01"),
    ]
    body = b"".join(text(key) + struct.pack("<I", kind) + payload for key, kind, payload in entries)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + body


def _corpora() -> list[bytes]:
    """An input of each kind, and something for each of what can be asked for."""
    import bz2
    import gzip
    import io
    import lzma

    import pyarrow as pa
    import pyarrow.parquet as pq

    line = b'{"text": "hello there", "id": 3, "a": {"text": "b"}}\n'
    table = pa.table({"text": ["ab", None, "b"], "id": [1, 2, 3]})
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    contents = (
        line * 3, b"a b\n\nc\n", b"text,id\na,1\n\"b\nb\",2\n", gzip.compress(line * 9),
        pa.compress(line * 9, "zstd", asbytes=True), parquet.getvalue(), arrow.getvalue(),
        bz2.compress(line * 9), lzma.compress(line * 9),
    )  # fmt: skip
    plain = [bytes([ending]) + content for ending, content in enumerate(contents)]
    # The first three kinds of files, whatever is asked for.
    asked = [
        bytes([choice * len(ENDINGS) + ending]) + contents[ending]
        for choice in range(1, len(ASKED))
        for ending in range(3)
    ]
    return plain + asked


def seeds(target: str) -> list[bytes]:
    """What mutations begin with."""
    texts = [text.encode() for text in (*PROBE, "\u4f60\u597d \ufeff\u0000\t", "1234 don't \u0301\u200b")]
    if target == "model":
        return [_small_model(), _small_gguf()]
    if target == "tokenizer_json":
        return [json.dumps(_small_json(), ensure_ascii=False).encode()]
    if target == "configuration":
        token = {"content": "<x>", "lstrip": False, "rstrip": True, "single_word": False, "special": True}
        content = {
            "add_bos_token": True, "bos_token": "<s>", "eos_token": {"__type": "AddedToken", **token},
            "added_tokens_decoder": {"5": token, "32000": {**token, "content": "<y>"}}, "legacy": False,
            "additional_special_tokens": ["<x>"], "model_max_length": 10, "padding_side": "left",
            "chat_template": "{{ messages }}", "extra_special_tokens": {"a_token": "<z>"},
            "sp_model_kwargs": {},
        }  # fmt: skip
        return [json.dumps(content).encode()]
    if target == "chat_template":
        return [
            b"{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{{ m.content|trim ~ '\n' }}{% endfor %}",
            b"{% set ns = namespace(a=[], b='x') %}"
            b"{% for i in range(9) if i > 2 %}{% set ns.a = ns.a + [i] %}"
            b"{% set ns.b = ns.b * 2 %}{% endfor %}{{ ns.a|tojson(indent=2) }}{{ ns.b|replace('x', 'yy') }}",
            b"{% macro f(n) %}{{ f(n - 1) if n else '%s' % n }}{% endmacro %}{{ f(3) }}"
            b"{{ '{}'.format(messages) }}",
        ]
    if target in ("decode", "stream", "ids_out_of_range"):
        return [struct.pack("<8H", *range(0, 4000, 500)) * 4, struct.pack("<8H", *range(230, 238)), b""]
    if target == "corpus":
        return _corpora()
    return texts


#: What stands for itself in files: put in by mutations.
WORDS: dict[str, list[bytes]] = {
    "tokenizer_json": [
        b'"Sequence"', b'"NFKC"', b'"NFD"', b'"Lowercase"', b'"Strip"', b'"Metaspace"', b'"Regex"',
        b"null", b"true",
        b"4294967295", b"18446744073709551615", b"-1", b"1e999", b'""', b"[]", b"{}", b'"\\ud800"', b'"a b"',
    ],
    "configuration": [
        b"null", b"true", b"-1", b"1e999", b'""', b"[]", b"{}", b'"\\ud800"', b'"__type": "AddedToken"',
    ],
    "chat_template": [
        b"{{", b"}}", b"{%", b"%}", b" for a in messages ", b" endfor ", b"|join", b"|tojson",
        b" * 99999", b" ~ ",
        b"range(99999)", b"|list", b"|map('string')", b"loop.", b"namespace(", b"**", b"|sum",
        b".format(", b"[::2]",
    ],
}  # fmt: skip
