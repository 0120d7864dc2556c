"""llama2.c's files: the three versions, written as its `export.py` writes them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from support.checkpoints import SHAPES, pairs_of

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from llamatok.weights import WeightsError, convert, open_checkpoint  # noqa: E402

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj")


def header(config, tied, *, signed):
    vocabulary = config.vocab_size if tied or not signed else -config.vocab_size
    return struct.pack(
        "<7i",
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        vocabulary,
        config.max_position_embeddings,
    )


def layers(reference, name):
    config = reference.model.config
    for layer in range(config.num_hidden_layers):
        block = "mlp" if name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
        path = f"model.layers.{layer}.{name}.weight" if "norm" in name else ""
        tensor = reference.state[path or f"model.layers.{layer}.{block}.{name}.weight"]
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name)
        yield tensor if heads is None else pairs_of(tensor, heads)


def floats(tensors):
    return b"".join(tensor.float().numpy().astype("<f4").tobytes() for tensor in tensors)


def quantized(tensors, group):
    data = b""
    for tensor in tensors:
        rows = tensor.float().reshape(-1, group)
        scale = rows.abs().amax(1) / 127
        data += (rows / scale[:, None]).round().to(torch.int8).numpy().tobytes() + floats([scale])
    return data


def version_0(reference, tied):
    config, state = reference.model.config, reference.state
    unused = torch.zeros(config.max_position_embeddings * config.head_dim)
    return (
        header(config, tied, signed=True)
        + floats([state["model.embed_tokens.weight"]])
        + floats(layers(reference, "input_layernorm"))
        + b"".join(floats(layers(reference, name)) for name in MATRICES[:4])
        + floats(layers(reference, "post_attention_layernorm"))
        + b"".join(floats(layers(reference, name)) for name in MATRICES[4:])
        + floats([state["model.norm.weight"], unused])
        + (b"" if tied else floats([state["lm_head.weight"]]))
    )


def version_1_or_2(reference, tied, group=None):
    config, state = reference.model.config, reference.state
    start = struct.pack("<Ii", 0x616B3432, 1 if group is None else 2) + header(config, tied, signed=False)
    start += struct.pack("<B", tied) + (b"" if group is None else struct.pack("<i", group))

    def matrices(tensors):
        return floats(tensors) if group is None else quantized(tensors, group)

    return (
        start.ljust(256, b"\0")
        + floats(layers(reference, "input_layernorm"))
        + floats(layers(reference, "post_attention_layernorm"))
        + floats([state["model.norm.weight"]])
        + matrices([state["model.embed_tokens.weight"]])
        + b"".join(matrices(layers(reference, name)) for name in MATRICES)
        + (b"" if tied else matrices([state["lm_head.weight"]]))
    )


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_float_files(reference, from_folder, tmp_path, ids, version, tied, shape):
    model = reference(tie_word_embeddings=tied, **SHAPES[shape])
    file = tmp_path / "model.bin"
    file.write_bytes((version_0 if version == 0 else version_1_or_2)(model, tied))
    convert(file, tmp_path / "out")
    loaded = from_folder(tmp_path / "out")
    assert torch.equal(loaded.logits(ids), model.logits(ids))
    assert loaded.model.config.max_position_embeddings == model.model.config.max_position_embeddings


@pytest.mark.parametrize("tied", [True, False])
def test_quantized_files(reference, tmp_path, tied):
    model = reference(tie_word_embeddings=tied)
    file = tmp_path / "model.bin"
    file.write_bytes(version_1_or_2(model, tied, group=32))
    tensors = open_checkpoint(file).tensors
    expected = {name: tensor for name, tensor in model.state.items() if not tied or "lm_head" not in name}
    assert set(tensors) == set(expected)
    for name, tensor in expected.items():
        found = tensors[name].read()
        # Half a step of the group's scale, whose largest number is 127.
        limit = 0 if "norm" in name else float(tensor.abs().max()) / 127 * 0.51
        assert float((found - tensor).abs().max()) <= limit, name


@pytest.mark.parametrize("make", [version_0, version_1_or_2])
def test_other_sizes_are_errors(reference, tmp_path, make):
    whole = make(reference(), False)
    file = tmp_path / "model.bin"
    for size in (0, 3, 27, 28, 255, 256, len(whole) // 2, len(whole) - 1, len(whole) + 1):
        file.write_bytes((whole + b"\0")[:size])
        with pytest.raises(WeightsError, match=r"llama2\.c"):
            open_checkpoint(file)


def test_headers_that_cannot_be(tmp_path):
    file = tmp_path / "model.bin"
    for data in (b"\0" * 300, b"\xff" * 300, b"PK\3\4" * 99, struct.pack("<Ii", 0x616B3432, 9) + b"\0" * 300):
        file.write_bytes(data)
        with pytest.raises(WeightsError, match=r"llama2\.c"):
            open_checkpoint(file)
    rng = np.random.default_rng(0)
    for _ in range(300):
        file.write_bytes(rng.bytes(300))
        with pytest.raises(WeightsError):
            open_checkpoint(file)
