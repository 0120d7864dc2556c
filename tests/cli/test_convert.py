"""`llamatok convert`, as a user calls it."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from llamatok.cli import main  # noqa: E402
from llamatok.models import LlamaConfig, LlamaForCausalLM  # noqa: E402


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        rms_norm_eps=1e-5,
        max_position_embeddings=4096,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def meta(model, tmp_path):
    """The model as Meta's code would have saved it, unsplit."""
    from llamatok.weights.layout import LAYER_NAMES, MODEL_NAMES, pairs_from_halves

    names = {value: key for key, value in (LAYER_NAMES | MODEL_NAMES).items()}
    state = {}
    for name, tensor in model.state_dict().items():
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers.0."):
            own = f"layers.0.{names[stem.removeprefix('model.layers.0.')]}"
        else:
            own = names[stem]
        state[f"{own}.weight"] = (
            pairs_from_halves(tensor, 2) if "q_proj" in name or "k_proj" in name else tensor
        )
    folder = tmp_path / "meta"
    folder.mkdir()
    params = {"dim": 16, "n_layers": 1, "n_heads": 2, "multiple_of": 16, "norm_eps": 1e-5, "vocab_size": -1}
    (folder / "params.json").write_text(json.dumps(params))
    torch.save(state, folder / "consolidated.00.pth")
    return folder


def test_meta(run, model, meta, tmp_path):
    done = run("convert", "meta", meta, tmp_path / "out")
    assert done.stdout == b""
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.config.max_position_embeddings == 4096


def call(*arguments) -> int:
    """The command in this process: importing torch takes seconds."""
    return main([str(argument) for argument in arguments])


def test_options(meta, tmp_path):
    status = call(
        "convert",
        "meta",
        meta,
        tmp_path / "out",
        "--dtype=bfloat16",
        "--max-shard-size=1KB",
        "--max-position-embeddings=123",
    )
    assert status == 0
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16
    assert loaded.config.max_position_embeddings == 123
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 1


def test_bin_files_become_safetensors(model, tmp_path):
    folder = tmp_path / "in"
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert call("convert", "hf", folder, tmp_path / "out") == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["convert", "gguf", "META", "OUT"], 2, "looks like the format `meta`"),
        (["convert", "meta", "nowhere", "OUT"], 1, "nowhere"),
        (["convert", "meta", "META", "META"], 1, "the source itself"),
        (["convert", "meta", "META", "OUT", "--max-shard-size=huge"], 2, "--max-shard-size"),
        (["convert", "meta", "META", "OUT", "--dtype=int8"], 2, "invalid choice"),
        (["convert", "other", "META", "OUT"], 2, "invalid choice"),
    ],
)
def test_calls_that_are_wrong(capsys, meta, tmp_path, arguments, status, message):
    places = {"META": meta, "OUT": tmp_path / "out"}
    try:
        found = call(*[places.get(argument, argument) for argument in arguments])
    except SystemExit as exit:
        found = exit.code
    assert found == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard(capsys, meta, tmp_path):
    (meta / "consolidated.00.pth").write_bytes(b"PK\x03\x04 and no more")
    assert call("convert", "meta", meta, tmp_path / "out") == 1
    assert "consolidated.00.pth" in capsys.readouterr().err


def test_help_has_an_example(run):
    assert b"llamatok convert meta" in run("convert", "--help").stdout
