"""Checkpoints of strangers: lengths and counts that lie end in one error, in little time and memory."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
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


def _write_gguf(path: Path, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    for name in ("context_length", "embedding_length", "feed_forward_length", "block_count"):
        writer.add_uint32(f"llama.{name}", 32)
    writer.add_head_count(2)
    for key, value in keys.items():
        add = {str: writer.add_string, float: writer.add_float32, list: writer.add_array}[type(value)]
        add(f"llama.{key}", value)
    for name, tensor in tensors.items():
        kind = gguf.GGMLQuantizationType.Q8_0 if tensor.dtype == torch.uint8 else None
        writer.add_tensor(f"{name}.weight", tensor.numpy(), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("keys", "tensors"),
    [
        ({"rope.freq_base": "x"}, {}),
        ({"rope.freq_base": float("nan")}, {}),
        ({"rope.freq_base": [1, 2]}, {}),
        ({"attention.layer_norm_rms_epsilon": "x"}, {}),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": "x"}, {}),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": float("inf")}, {}),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0, "rope.scaling.yarn_beta_fast": "x"}, {}),
        ({}, {"token_embd": (32,)}),
        ({}, {"rope_freqs": (2, 8)}),
        ({}, {"blk.0.attn_q": (3, 32)}),
    ],
)
def test_gguf_files_whose_parts_do_not_fit(
    keys: dict[str, Any], tensors: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("gguf")
    shapes = {"token_embd": (64, 32), **tensors}
    _write_gguf(tmp_path / "a.gguf", keys, {name: torch.zeros(shape) for name, shape in shapes.items()})
    with pytest.raises(WeightsError, match=r"a\.gguf"):
        open_checkpoint(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("tok_embeddings.weight", torch.ones(16)),
        ("norm.weight", torch.tensor(1.0)),
        ("layers.0.attention.wq.weight", torch.ones(16)),
        ("layers.\u00b2.attention.wq.weight", torch.ones(16, 16)),
        (f"layers.{'9' * 5000}.x.weight", torch.ones(16)),
        ("layers.0.attention.wq.\ud800", torch.ones(16)),
    ],
)
def test_shards_of_meta_whose_tensors_do_not_fit(name: str, tensor: Any, tmp_path: Path) -> None:
    params = {"dim": 16, "n_layers": 1, "n_heads": 2}
    (tmp_path / "params.json").write_text(json.dumps(params))
    torch.save({"tok_embeddings.weight": torch.ones(64, 16), name: tensor}, tmp_path / "consolidated.00.pth")
    with pytest.raises(WeightsError, match=tmp_path.name):
        open_checkpoint(tmp_path)
    (tmp_path / "params.json").write_text(json.dumps({**params, "rope_theta": 10**400}))
    with pytest.raises(WeightsError, match="rope_theta"):
        open_checkpoint(tmp_path)


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    from llamatok import demo_checkpoint

    tensors = {name: lazy.read() for name, lazy in open_checkpoint(demo_checkpoint()).tensors.items()}
    tensors["model.norm.weight"] = tensors["model.norm.weight"].long()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((Path(demo_checkpoint()) / "config.json").read_bytes())
    with pytest.raises(WeightsError, match=r"misshapen \(1\): model.norm.weight: torch.int64"):
        LlamaForCausalLM.from_pretrained(tmp_path)


def test_half_a_surrogate_in_a_configuration_is_converted(tmp_path: Path) -> None:
    from llamatok.weights import convert

    source = tmp_path / "source"
    source.mkdir()
    torch.save({"a": torch.ones(1)}, source / "pytorch_model.bin")
    (source / "config.json").write_text('{"note": "\\ud800"}')
    convert(source, tmp_path / "made")
    assert json.loads((tmp_path / "made" / "config.json").read_text())["note"] == "\ud800"


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
        b"\x60\0\0\0\0\0\0\0"
        + b'{"a":{"dtype":"F32","shape":[0,1099511627776,1099511627776],"data_offsets":[0,0]}}'.ljust(96),
        b"\x60\0\0\0\0\0\0\0"
        + b'{"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}'.ljust(96),
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


UNSTORED: dict[str, Callable[[], Any]] = {
    "repeated": lambda: torch.ones(1).expand(1 << 20, 1 << 20),
    "sparse": lambda: torch.zeros(1000, 1000).to_sparse(),
    "sparse by rows": lambda: torch.zeros(1000, 1000).to_sparse_csr(),
    "without data": lambda: torch.empty(1 << 20, 1 << 20, device="meta"),
    "of negative sign": lambda: torch.zeros(4, dtype=torch.complex64).conj().imag,
}


@pytest.mark.parametrize("name", list(UNSTORED))
@pytest.mark.filterwarnings("ignore:.*[Ss]parse:UserWarning")
def test_pickled_tensors_whose_elements_are_not_stored(name: str, tmp_path: Path) -> None:
    """A file of a kilobyte may hold a tensor of terabytes, all of it one element."""
    (tmp_path / "config.json").write_text("{}")
    torch.save({name: UNSTORED[name]()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=rf"pytorch_model\.bin`: tensor '{name}' is not stored"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"\x80\x02.",
        b"\x80\x02e.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02ctorch\nSize\nK\x03\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x07\0\0\0\0\0\0\x01\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x01\0\0\0z\x86R.",
        b"\x80\x02(X\x07\0\0\0storageK\x01tQ.",
    ],
)
def test_pickles_that_are_none(program: bytes, tmp_path: Path) -> None:
    """torch's reader ends with errors of any type; ours is one."""
    sound = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, sound)
    (tmp_path / "config.json").write_text("{}")
    with zipfile.ZipFile(sound) as source, zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as target:
        for name in source.namelist():
            target.writestr(name, program if name.endswith("data.pkl") else source.read(name))
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
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


def test_sizes_and_folders_without_end(tmp_path: Path) -> None:
    from llamatok import demo_checkpoint
    from llamatok.weights import convert, parse_size

    assert parse_size("9" * 400 + "GB") == 1 << 63
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        convert(demo_checkpoint(), tmp_path / "loop")
