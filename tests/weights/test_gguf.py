"""GGUF files, written by the package `gguf` with keys and tensor order as llama.cpp's converter has them."""

from __future__ import annotations

import numpy as np
import pytest

from support.checkpoints import SHAPES, pairs_of

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
gguf = pytest.importorskip("gguf", reason="the extra `gguf` is not installed")

from llamatok.weights import WeightsError, convert, open_checkpoint  # noqa: E402
from llamatok.weights.gguf import LAYER_NAMES, MODEL_NAMES  # noqa: E402

NAMES = {value: key for key, value in (LAYER_NAMES | MODEL_NAMES).items()}
Type = gguf.GGMLQuantizationType


def pack_k(values, kind):
    """Blocks of Q4_K or Q6_K that hold `values` (multiples of 1/64 in reach) with simple scales, and what
    they decode to. The package decodes these types but does not encode them."""
    blocks = values.reshape(-1, 256)
    data, decoded = [], []
    for block in blocks:
        step = np.float16(max(float(np.abs(block).max()), 1e-3) / (7 if kind is Type.Q4_K else 31))
        if kind is Type.Q4_K:
            # 8 groups of 32, each with scale 1 and minimum 8: value = step * 1 * q - step * 8.
            q = np.clip(np.round(block / np.float32(step)) + 8, 0, 15).astype(np.uint8)
            scales = bytes([1] * 4 + [8] * 4 + [1 | (8 << 4)] * 4)
            low = q.reshape(4, 2, 32)
            nibbles = (low[:, 0] | (low[:, 1] << 4)).tobytes()
            data.append(step.tobytes() + step.tobytes() + scales + nibbles)
            decoded.append((q.astype(np.float32) - 8) * np.float32(step))
        else:
            # 16 groups of 16, each with scale 1: value = step * 1 * (q - 32).
            q = np.clip(np.round(block / np.float32(step)) + 32, 0, 63).astype(np.uint8)
            halves = q.reshape(2, 4, 32)
            low, high = halves & 15, halves >> 4
            ql = np.concatenate([low[:, 0] | (low[:, 2] << 4), low[:, 1] | (low[:, 3] << 4)], axis=1)
            qh = high[:, 0] | (high[:, 1] << 2) | (high[:, 2] << 4) | (high[:, 3] << 6)
            data.append(ql.tobytes() + qh.tobytes() + bytes([1] * 16) + step.tobytes())
            decoded.append((q.astype(np.float32) - 32) * np.float32(step))
    rows = values.shape[0]
    packed = np.frombuffer(b"".join(data), dtype=np.uint8).reshape(rows, -1)
    return packed, np.stack(decoded).reshape(values.shape)


def write_gguf(path, reference, kind=Type.F32, *, metadata=None, rope_factors=None, architecture="llama"):
    """Writes a file and returns the state that it should be read as."""
    config = reference.model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for key, value in (metadata or {}).items():
        writer.add_float32(key, value) if isinstance(value, float) else (
            writer.add_uint32(key, value) if isinstance(value, int) else writer.add_string(key, value)
        )
    expected = {}
    for name, tensor in reference.state.items():
        if config.tie_word_embeddings and name == "lm_head.weight":
            continue
        stem, _, leaf = name.rpartition(".")
        parts = stem.split(".", 3)
        own = f"blk.{parts[2]}.{NAMES[parts[3]]}" if parts[1:2] == ["layers"] else NAMES[stem]
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        heads = next((count for part, count in heads.items() if part in name), None)
        order = torch.arange(tensor.shape[0])
        if heads is not None:
            order = pairs_of(order, heads)
        stored = tensor[order].float().numpy()
        used = kind if tensor.dim() == 2 else Type.F32
        if used in (Type.Q4_K, Type.Q6_K):
            packed, decoded = pack_k(stored, used)
        else:
            packed = gguf.quantize(stored, used)
            decoded = gguf.dequantize(packed, used) if used is not Type.F32 else stored
        raw = None if used in (Type.F32, Type.F16) else used
        writer.add_tensor(f"{own}.{leaf}", packed, raw_dtype=raw)
        whole = torch.empty_like(tensor, dtype=torch.float32)
        whole[order] = torch.from_numpy(np.array(decoded, dtype=np.float32))
        expected[name] = whole
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", np.asarray(rope_factors, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("tied", [True, False])
def test_float_files_give_the_same_logits(reference, from_folder, tmp_path, ids, shape, tied):
    model = reference(tie_word_embeddings=tied, **SHAPES[shape])
    write_gguf(tmp_path / "m.gguf", model)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    loaded = from_folder(tmp_path / "out")
    assert torch.equal(loaded.logits(ids), model.logits(ids))
    for name in (
        "rms_norm_eps",
        "max_position_embeddings",
        "num_key_value_heads",
        "head_dim",
        "bos_token_id",
    ):
        assert getattr(loaded.model.config, name) == pytest.approx(getattr(model.model.config, name)), name


@pytest.mark.parametrize(
    "kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q6_K"]
)
def test_every_type_is_decoded(reference, tmp_path, kind):
    model = reference(hidden_size=256, intermediate_size=256, num_hidden_layers=1)
    expected = write_gguf(tmp_path / "m.gguf", model, Type[kind])
    tensors = open_checkpoint(tmp_path / "m.gguf").tensors
    assert set(tensors) == set(expected)
    for name, tensor in expected.items():
        found = tensors[name].read()
        assert found.dtype == tensors[name].dtype
        assert torch.equal(found.float(), tensor), name
        original = model.state[name]
        share = float((found.float() - original).norm() / original.norm())
        assert share < {"Q4_0": 0.2, "Q4_1": 0.2, "Q4_K": 0.3}.get(kind, 0.1), name


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_stays_half_precision(reference, tmp_path, kind):
    write_gguf(tmp_path / "m.gguf", reference(), Type[kind])
    assert (
        open_checkpoint(tmp_path / "m.gguf").dtype() == {"F16": torch.float16, "BF16": torch.bfloat16}[kind]
    )


@pytest.mark.parametrize(
    ("metadata", "scaling"),
    [
        ({}, None),
        ({"llama.rope.scaling.type": "none"}, None),
        (
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
            {"rope_type": "linear", "factor": 4.0},
        ),
        (
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 2.0,
                "llama.rope.scaling.original_context_length": 32,
            },
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32},
        ),
    ],
)
def test_rope_scaling_comes_from_the_metadata(reference, tmp_path, metadata, scaling):
    write_gguf(tmp_path / "m.gguf", reference(), metadata=metadata)
    assert open_checkpoint(tmp_path / "m.gguf").config["rope_scaling"] == scaling


def test_llama_3_rope_factors_become_its_parameters(reference, from_folder, tmp_path, ids):
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = reference(rope_parameters=scaling, hidden_size=256)
    plain = 500000.0 ** (-torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    factors = plain / model.model.model.rotary_emb.inv_freq.double()
    write_gguf(tmp_path / "m.gguf", model, rope_factors=factors.numpy())
    found = open_checkpoint(tmp_path / "m.gguf").config["rope_scaling"]
    assert found == pytest.approx({key: scaling[key] for key in found})
    convert(tmp_path / "m.gguf", tmp_path / "out")
    assert torch.allclose(from_folder(tmp_path / "out").logits(ids), model.logits(ids), atol=1e-5)


def test_other_rope_factors_are_kept_exactly(reference, from_folder, tmp_path):
    factors = [1.0, 1.5, 2.0, 7.0]
    write_gguf(tmp_path / "m.gguf", reference(), rope_factors=factors)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    rotary = from_folder(tmp_path / "out").model.model.rotary_emb
    expected = 10000.0 ** (-np.arange(0, 8, 2) / 8) / np.array(factors)
    assert rotary.inv_freq.numpy() == pytest.approx(expected)
    assert rotary.attention_scaling == 1.0


def test_biases_are_reordered_too(reference, from_folder, tmp_path, ids):
    model = reference(attention_bias=True, mlp_bias=True)
    write_gguf(tmp_path / "m.gguf", model)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    assert torch.equal(from_folder(tmp_path / "out").logits(ids), model.logits(ids))


def test_other_architectures_are_told(reference, tmp_path):
    write_gguf(tmp_path / "m.gguf", reference(), architecture="gemma")
    with pytest.raises(WeightsError, match="architecture `gemma`"):
        open_checkpoint(tmp_path / "m.gguf")


def test_damaged_files_are_told(reference, tmp_path):
    write_gguf(tmp_path / "m.gguf", reference())
    whole = (tmp_path / "m.gguf").read_bytes()
    rng = np.random.default_rng(0)
    for size in (4, 20, 100, 500, len(whole) // 2, len(whole) - 8):
        (tmp_path / "m.gguf").write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"m\.gguf"):
            open_checkpoint(tmp_path / "m.gguf")
    for _ in range(20):
        changed = bytearray(whole)
        for place in rng.integers(4, 600, 8):
            changed[place] = rng.integers(256)
        (tmp_path / "m.gguf").write_bytes(changed)
        # What was hit may be a name or a number that is as good as another; or the error is told as ours.
        try:
            for lazy in open_checkpoint(tmp_path / "m.gguf").tensors.values():
                lazy.read()
        except WeightsError:
            pass


def test_a_file_with_a_vocabulary_only_is_told():
    from support.locations import shared_file

    with pytest.raises(WeightsError, match="a vocabulary only"):
        open_checkpoint(shared_file("vectors", "ggml-vocab-llama-spm.gguf"))
