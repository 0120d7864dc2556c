"""Checkpoints of strangers: lengths and counts that lie end in one error, in little time and memory."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llamatok import _limited
from llamatok.generation import GenerationConfig
from llamatok.models import LlamaConfig, LlamaForCausalLM
from llamatok.weights import WeightsError
from llamatok.weights.open import open_checkpoint


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _entry(key: str, kind: int, payload: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + payload


def _header(tensors: int, keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


HEADERS = {
    "keys without end": _header(0, 2**60),
    "tensors without end": _header(2**60, 0),
    "bytes that are not there": _header(0, 1) + _entry("a", 9, struct.pack("<IQ", 0, 3_000_000)),
    "bytes without end": _header(0, 1) + _entry("a", 9, struct.pack("<IQ", 0, 2**60)),
    "strings without end": _header(0, 1) + _entry("a", 9, struct.pack("<IQ", 8, 2**60)),
    "strings that are not there": _header(0, 1) + _entry("a", 9, struct.pack("<IQ", 8, 2**20)),
    "arrays in arrays": _header(0, 1) + _entry("a", 9, struct.pack("<IQ", 9, 1) * 10_000),
    "a string of 4 GB": _header(0, 1) + _entry("a", 8, struct.pack("<Q", 2**32)),
    "a string of 2^62 bytes": _header(0, 1) + _entry("a", 8, struct.pack("<Q", 2**62)),
    "a key of 4 GB": _header(0, 1) + struct.pack("<Q", 2**32),
    "an unknown type": _header(0, 1) + _entry("a", 77, b""),
    "dimensions without end": _header(1, 0) + _text("x") + struct.pack("<I", 2**31),
    "dimensions that overflow": _header(1, 0) + _text("x") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0),
    "a key twice": _header(0, 2) + _entry("a", 4, bytes(4)) * 2,
    "no alignment": _header(0, 1) + _entry("general.alignment", 4, bytes(4)),
    "the other byte order": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "version 1": _header(0, 0, version=1),
    "nothing": b"GGUF",
}


@pytest.mark.parametrize("name", list(HEADERS))
def test_gguf_headers_that_lie(name: str, tmp_path: Path) -> None:
    """Refused before the package gguf makes an object for each element that is promised."""
    pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    path.write_bytes(HEADERS[name] + (b"" if name == "nothing" else bytes(64)))
    with pytest.raises(WeightsError, match=r"model\.gguf"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<7i", 64, 64, 2**31 - 1, 8, 8, 96, 64),
        struct.pack("<7i", 1 << 27, 1 << 27, 1 << 12, 8, 8, 1 << 27, 1 << 27),
        struct.pack("<7i", -1, 64, 2, 8, 8, 96, 64),
        struct.pack("<Ii", 0x616B3432, 2) + struct.pack("<7ibi", 64, 64, 2, 8, 8, 96, 64, 1, 0) + bytes(300),
    ],
)
def test_llama2c_headers_that_lie(content: bytes, tmp_path: Path) -> None:
    """A header that promises more than the file has."""
    path = tmp_path / "model.bin"
    path.write_bytes(content + bytes(64))
    with pytest.raises(WeightsError, match=r"model\.bin"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**60),
        struct.pack("<Q", 2**32) + b"{}",
        struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000,
        b'\x66\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}'
        + b" " * 40,
        b'\x50\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999]}}' + b" " * 40,
    ],
)
def test_safetensors_headers_that_lie(content: bytes, tmp_path: Path) -> None:
    """The package safetensors checks lengths; its errors come as ours."""
    pytest.importorskip("safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        open_checkpoint(tmp_path)


def _gguf(entries: dict[str, tuple[int, bytes]], tensors: dict[str, tuple[int, ...]]) -> bytes:
    """A file of float32 tensors, with what else a Llama must say."""
    number = lambda value: (4, struct.pack("<I", value))  # noqa: E731
    own = {"attention.head_count": 2, "block_count": 1, "feed_forward_length": 8, "embedding_length": 8}
    every = {"general.architecture": (8, _text("llama"))}
    every |= {f"llama.{key}": number(value) for key, value in own.items()} | entries
    data = _header(len(tensors), len(every)) + b"".join(_entry(key, *value) for key, value in every.items())
    size = 0
    for name, shape in tensors.items():
        data += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, size)
        size += -(-4 * math.prod(shape) // 32) * 32
    return data + bytes(-len(data) % 32 + size)


EMBEDDINGS = {"token_embd.weight": (8, 4)}
UNFIT: dict[str, tuple[dict[str, tuple[int, bytes]], dict[str, tuple[int, ...]]]] = {
    "rope.freq_base": ({"llama.rope.freq_base": (8, _text("x"))}, EMBEDDINGS),
    "layer_norm_rms_epsilon": (
        {"llama.attention.layer_norm_rms_epsilon": (9, struct.pack("<IQ", 6, 2) + bytes(8))},
        EMBEDDINGS,
    ),
    "scaling.factor": (
        {"llama.rope.scaling.type": (8, _text("linear")), "llama.rope.scaling.factor": (8, _text("x"))},
        EMBEDDINGS,
    ),
    "token_embd": ({}, {"token_embd.weight": (8,)}),
    "attn_q": ({}, EMBEDDINGS | {"blk.0.attn_q.weight": (8, 3)}),
    "rope_freqs": ({}, EMBEDDINGS | {"rope_freqs.weight": (2, 2)}),
    "heads of 2147483648": (
        {"llama.attention.key_length": (4, struct.pack("<I", 1 << 31))},
        EMBEDDINGS | {"rope_freqs.weight": (2,)},
    ),
}


@pytest.mark.parametrize("name", list(UNFIT))
def test_gguf_values_that_do_not_fit(name: str, tmp_path: Path) -> None:
    """Metadata and tensors of other types and shapes than a model's: the file and the name are told."""
    pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    path.write_bytes(_gguf({}, EMBEDDINGS))
    open_checkpoint(path)
    path.write_bytes(_gguf(*UNFIT[name]))
    with pytest.raises(WeightsError, match=rf"model\.gguf.*{name}"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("tok_embeddings.weight", (4,)),
        ("tok_embeddings.weight", ()),
        ("layers.0.attention.wq.weight", ()),
        ("layers.0.attention.wo.weight", (8,)),
        ("layers.0.feed_forward.w1.weight", (8, 8, 8)),
        ("norm.weight", (8, 8)),
        ("layers", (8,)),
        ("layers.5", (8,)),
    ],
)
def test_meta_tensors_that_do_not_fit(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Names and numbers of dimensions that no model has."""
    sound = {"tok_embeddings.weight": (4, 8), "layers.0.feed_forward.w1.weight": (8, 8)}
    (tmp_path / "params.json").write_text(json.dumps({"dim": 8, "n_layers": 1, "n_heads": 2}))
    for shapes in (sound, {**sound, name: shape}):
        path = tmp_path / "consolidated.00.pth"
        torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
        if shapes is sound:
            open_checkpoint(tmp_path)
    with pytest.raises(WeightsError, match=f"`{name}`"):
        open_checkpoint(tmp_path)


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "generation_config.json"])
def test_json_that_is_nested_without_end(name: str, tmp_path: Path) -> None:
    """Depth is an error of the file, not of the interpreter's stack."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text(f'{{"weight_map": {DEEP}}}')
    with pytest.raises(WeightsError, match=f"{name}: the JSON is nested"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 10**30},
        {"vocab_size": 10**12},
        {"max_position_embeddings": 2**40},
        {"num_labels": 10**9},
    ],
)
def test_configurations_without_measure(values: dict[str, Any], tmp_path: Path) -> None:
    """A number of layers or labels makes as many objects, and is limited."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **values}))
    with pytest.raises(ValueError, match=f"{next(iter(values))}.*limit"):
        LlamaConfig.from_pretrained(tmp_path)


def test_labels_are_counted(tmp_path: Path) -> None:
    """Labels by their names are as many objects as labels by their number."""
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict.fromkeys(range((1 << 20) + 1), "a")}))
    with pytest.raises(ValueError, match=r"num_labels.*limit"):
        LlamaConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1' + "0" * 9999 + "}", '{"id2label": 5}', '{"id2label": [1]}']
    + [f'{{"{name}": 5}}' for name in ("__class__", "__dict__", "to_dict", "validate")],
)
def test_configurations_of_nonsense(text: str, tmp_path: Path) -> None:
    """Numbers without end, values of other types, and names that are the class's own."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        LlamaConfig.from_pretrained(tmp_path)


def test_json_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same one for a configuration by itself and with its checkpoint."""
    monkeypatch.setattr(_limited, "MAX_JSON_BYTES", 100)
    for name, read in (
        ("config.json", LlamaConfig.from_pretrained),
        ("generation_config.json", GenerationConfig.from_pretrained),
    ):
        (tmp_path / name).write_text("{" + " " * 98 + "}")
        read(tmp_path)
        with pytest.raises(WeightsError, match="no weights"):
            open_checkpoint(tmp_path)
        (tmp_path / name).write_text("{" + " " * 99 + "}")
        for refuse in (read, open_checkpoint):
            with pytest.raises(ValueError, match=rf"{name}: more than the limit of 100"):
                refuse(tmp_path)
        (tmp_path / name).write_text("{}")


def test_long_contexts_cost_nothing(tmp_path: Path) -> None:
    """The largest context that a file may state makes no table of its length."""
    small = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 8}
    config = LlamaConfig(**small, intermediate_size=16, max_position_embeddings=2**31 - 1)
    model = LlamaForCausalLM(config)
    assert sum(buffer.numel() for buffer in model.buffers()) < 1_000


def test_nothing_is_written_beside_a_model(tmp_path: Path) -> None:
    """A folder is as it was when it has been opened, and when it could not be."""
    from llamatok import demo_checkpoint

    before = {path.name: path.stat().st_mtime_ns for path in Path(demo_checkpoint()).iterdir()}
    open_checkpoint(demo_checkpoint())
    assert {path.name: path.stat().st_mtime_ns for path in Path(demo_checkpoint()).iterdir()} == before
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError):
        open_checkpoint(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
