"""Meta's layout: checkpoints split as its training code splits them, made by the inverse transformation."""

from __future__ import annotations

import json
import re

import pytest

from support.checkpoints import SHAPES, pairs_of
from support.locations import DEFAULT_MODEL

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from llamatok.weights import WeightsError, convert_meta, open_checkpoint  # noqa: E402
from llamatok.weights.layout import LAYER_NAMES, MODEL_NAMES  # noqa: E402
from llamatok.weights.meta import read_folder  # noqa: E402

META_NAMES = {value: key for key, value in (LAYER_NAMES | MODEL_NAMES).items()}


def split(weight, rank, shards, by):
    size, remainder = divmod(weight.shape[by], shards)
    assert not remainder
    return weight.narrow(by, rank * size, size).clone()


def write_meta(folder, reference, shards, *, embedding_by=1, params=None, zipped=True, dtype=torch.float32):
    """Writes what a model-parallel training of `shards` ranks saves."""
    config = reference.model.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": heads,
        "multiple_of": 32,
        "norm_eps": config.rms_norm_eps,
        "vocab_size": -1,
        **({"n_kv_heads": kv_heads} if kv_heads != heads else {}),
        **(params or {}),
    }
    (folder / "params.json").write_text(json.dumps(values))
    for rank in range(shards):
        state = {"rope.freqs": torch.ones(config.head_dim // 2)}
        for name, tensor in reference.state.items():
            stem, _, leaf = name.rpartition(".")
            layer = re.match(r"model\.layers\.(\d+)\.(.*)", stem)
            meta = f"layers.{layer[1]}.{META_NAMES[layer[2]]}" if layer else META_NAMES[stem]
            if "q_proj" in name:
                tensor = pairs_of(tensor, heads)
            if "k_proj" in name:
                tensor = pairs_of(tensor, kv_heads)
            if "norm" in name:
                part = tensor
            elif "embed" in name:
                part = split(tensor, rank, shards, embedding_by)
            elif "o_proj" in name or "down_proj" in name:
                part = split(tensor, rank, shards, 1)
            elif ("k_proj" in name or "v_proj" in name) and kv_heads < shards:
                part = split(tensor, rank * kv_heads // shards, kv_heads, 0)
            else:
                part = split(tensor, rank, shards, 0)
            state[f"{meta}.{leaf}"] = part.to(dtype)
        path = folder / f"consolidated.{rank:02d}.pth"
        torch.save(state, path, _use_new_zipfile_serialization=zipped)


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", ["mha", "gqa", "mqa"])
@pytest.mark.parametrize("embedding_by", [0, 1])
def test_any_split_becomes_the_model_it_was_made_from(
    reference, from_folder, tmp_path, ids, shards, shape, embedding_by
):
    model = reference(**SHAPES[shape])
    write_meta(tmp_path / "meta", model, shards, embedding_by=embedding_by)
    convert_meta(tmp_path / "meta", tmp_path / "out")
    loaded = from_folder(tmp_path / "out")
    assert set(loaded.state) == set(model.state)
    for name, tensor in model.state.items():
        assert torch.equal(loaded.state[name], tensor), name
    assert torch.equal(loaded.logits(ids), model.logits(ids))


def test_the_configuration_is_that_of_the_model(reference, from_folder, tmp_path):
    model = reference()
    write_meta(tmp_path / "meta", model, 2)
    convert_meta(tmp_path / "meta", tmp_path / "out", max_position_embeddings=64)
    found, expected = (from_folder(tmp_path / "out").model.config, model.model.config)
    for name in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "max_position_embeddings",
        "rope_parameters",
        "tie_word_embeddings",
        "bos_token_id",
        "eos_token_id",
    ):
        assert getattr(found, name) == getattr(expected, name), name


@pytest.mark.parametrize(
    ("params", "positions"),
    [
        ({"norm_eps": 1e-6}, 2048),
        ({"norm_eps": 1e-5}, 4096),
        ({"rope_theta": 1000000}, 16384),
        ({"rope_theta": 500000.0, "use_scaled_rope": True}, 131072),
    ],
)
def test_positions_are_told_from_what_each_generation_wrote(reference, tmp_path, params, positions):
    write_meta(tmp_path, reference(), 1, params=params)
    config = open_checkpoint(tmp_path).config
    assert config["max_position_embeddings"] == positions
    assert read_folder(tmp_path, max_position_embeddings=77).config["max_position_embeddings"] == 77
    assert (config["rope_scaling"] is not None) == ("use_scaled_rope" in params)


def test_scaled_rope_of_a_small_tied_model(reference, from_folder, tmp_path):
    model = reference(tie_word_embeddings=True)
    write_meta(tmp_path / "meta", model, 1, params={"use_scaled_rope": True, "rope_theta": 500000.0})
    convert_meta(tmp_path / "meta", tmp_path / "out")
    loaded = from_folder(tmp_path / "out").model.config
    assert loaded.tie_word_embeddings
    assert loaded.rope_parameters["rope_type"] == "llama3"
    assert loaded.rope_parameters["factor"] == 32.0


def test_shards_in_the_format_of_old_torch(reference, from_folder, tmp_path, ids):
    model = reference()
    write_meta(tmp_path / "meta", model, 2, zipped=False)
    convert_meta(tmp_path / "meta", tmp_path / "out")
    assert torch.equal(from_folder(tmp_path / "out").logits(ids), model.logits(ids))


def test_dtypes(reference, tmp_path):
    write_meta(tmp_path / "meta", reference(), 2, dtype=torch.bfloat16)
    for dtype, expected in (("auto", torch.bfloat16), ("float16", torch.float16)):
        convert_meta(tmp_path / "meta", tmp_path / dtype, dtype=dtype)
        found = open_checkpoint(tmp_path / dtype)
        assert {tensor.dtype for tensor in found.tensors.values()} == {expected}
        assert found.config["torch_dtype"] == str(expected).removeprefix("torch.")
    with pytest.raises(ValueError, match="dtype is"):
        convert_meta(tmp_path / "meta", tmp_path / "x", dtype="int8")


@pytest.mark.parametrize("place", ["meta", "."])
def test_the_tokenizer_comes_along(reference, tmp_path, place):
    write_meta(tmp_path / "meta", reference(), 1)
    (tmp_path / place / "tokenizer.model").write_bytes(DEFAULT_MODEL.read_bytes())
    convert_meta(tmp_path / "meta", tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == DEFAULT_MODEL.read_bytes()
    convert_meta(tmp_path / "meta", tmp_path / "other", tokenizer=DEFAULT_MODEL)
    assert (tmp_path / "other" / "tokenizer.model").read_bytes() == DEFAULT_MODEL.read_bytes()


def test_a_tokenizer_that_is_no_sentencepiece_model_is_copied(reference, tmp_path):
    write_meta(tmp_path / "meta", reference(), 1)
    (tmp_path / "meta" / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    convert_meta(tmp_path / "meta", tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.model").read_text() == "IQ== 0\nIg== 1\n"


def test_missing_shards_are_told(reference, tmp_path):
    write_meta(tmp_path, reference(), 4)
    (tmp_path / "consolidated.01.pth").rename(tmp_path / "kept")
    with pytest.raises(WeightsError, match=r"lacks consolidated\.01\.pth"):
        open_checkpoint(tmp_path)
    (tmp_path / "kept").rename(tmp_path / "consolidated.01.pth")
    # The last one leaves no gap in the numbers: the shapes tell.
    (tmp_path / "consolidated.03.pth").unlink()
    with pytest.raises(WeightsError, match="is a shard missing"):
        open_checkpoint(tmp_path)
    for path in tmp_path.glob("*.pth"):
        path.unlink()
    with pytest.raises(WeightsError, match=r"no consolidated\.NN\.pth"):
        open_checkpoint(tmp_path)


def test_copies_of_heads_that_differ_are_told(reference, tmp_path):
    write_meta(tmp_path, reference(**SHAPES["mqa"]), 2)
    shard = torch.load(tmp_path / "consolidated.01.pth", weights_only=True)
    shard["layers.0.attention.wk.weight"][0, 0] += 1
    torch.save(shard, tmp_path / "consolidated.01.pth")
    lazy = open_checkpoint(tmp_path).tensors["model.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(WeightsError, match="should hold the same heads"):
        lazy.read()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dim": "64"}, "`dim` must be a whole number"),
        ({"n_heads": 0}, "`n_heads`"),
        ({"n_kv_heads": 3}, "multiple of n_kv_heads"),
        ({"norm_eps": -1}, "`norm_eps`"),
        ({"dim": 63}, "even head width"),
        ({"dim": 128}, "asks for"),
    ],
)
def test_params_that_cannot_be(reference, tmp_path, params, message):
    write_meta(tmp_path, reference(), 2, params=params)
    with pytest.raises(WeightsError, match=message):
        open_checkpoint(tmp_path)


def test_other_tensors_are_told(reference, tmp_path):
    write_meta(tmp_path, reference(), 1)
    shard = torch.load(tmp_path / "consolidated.00.pth", weights_only=True)
    torch.save(shard | {"layers.0.feed_forward.gate.weight": torch.ones(1)}, tmp_path / "consolidated.00.pth")
    with pytest.raises(WeightsError, match=r"no Llama has: `layers\.0\.feed_forward\.gate"):
        open_checkpoint(tmp_path)


def test_converting_what_is_not_metas(tmp_path):
    with pytest.raises(WeightsError, match=r"no params\.json"):
        convert_meta(tmp_path, tmp_path / "out")
