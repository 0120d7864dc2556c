"""Loading into models: exact, tied, lean, and with every fault told at once."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from safetensors.torch import load_file, save_file  # noqa: E402

from llamatok.models import (  # noqa: E402
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaModel,
)
from llamatok.weights import WeightsError, from_pretrained, save_pretrained  # noqa: E402


@pytest.fixture
def folder(reference, tmp_path):
    reference().model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(folder, edit):
    """Edits the state of a folder of one file."""
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_checkpoint_of_transformers_gives_its_logits(reference, tmp_path, ids, tied, bias):
    model = reference(tie_word_embeddings=tied, attention_bias=bias, mlp_bias=bias)
    model.model.save_pretrained(tmp_path, max_shard_size="50KB")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    assert not loaded.training
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    expected = model.logits(ids)
    with torch.inference_mode():
        found = loaded(ids).logits
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["5GB", "50KB"])
@pytest.mark.parametrize("fused", [True, False])
def test_transformers_reads_what_is_saved(reference, from_folder, tmp_path, ids, tied, shard, fused):
    model = reference(tie_word_embeddings=tied)
    model.model.save_pretrained(tmp_path / "in")
    ours = LlamaForCausalLM.from_pretrained(tmp_path / "in")
    if fused:
        ours.fuse()
    ours.save_pretrained(tmp_path / "out", max_shard_size=shard)
    back = from_folder(tmp_path / "out")
    assert torch.equal(back.logits(ids), model.logits(ids))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == config["torch_dtype"] == "float32"


def test_dtypes(reference, tmp_path):
    # A copy: there is no way back from bfloat16.
    copy.deepcopy(reference().model).to(torch.bfloat16).save_pretrained(tmp_path)
    for given, expected in (
        ({}, torch.bfloat16),
        ({"dtype": "auto"}, torch.bfloat16),
        ({"dtype": None}, torch.float32),
        ({"dtype": torch.float16}, torch.float16),
        ({"dtype": "float32"}, torch.float32),
        ({"torch_dtype": torch.float32}, torch.float32),
    ):
        loaded = from_pretrained(LlamaForCausalLM, tmp_path, **given)
        assert {parameter.dtype for parameter in loaded.parameters()} == {expected}
        assert loaded.config.dtype == expected
    for wrong in ("int8", "nothing", torch.int32):
        with pytest.raises(ValueError, match="dtype is"):
            from_pretrained(LlamaForCausalLM, tmp_path, dtype=wrong)


def test_all_faults_are_in_one_error(folder):
    def edit(state):
        del state["model.layers.0.mlp.up_proj.weight"]
        del state["lm_head.weight"]
        state["model.layers.1.mlp.down_proj.weight"] = torch.ones(3, 2)
        state["model.layers.7.mlp.down_proj.weight"] = torch.ones(3, 2)

    change(folder, edit)
    with pytest.raises(WeightsError) as caught:
        from_pretrained(LlamaForCausalLM, folder)
    message = str(caught.value)
    for part in (
        str(folder),
        "missing (2): model.layers.0.mlp.up_proj.weight; lm_head.weight",
        "unexpected (1): model.layers.7.mlp.down_proj.weight",
        "misshapen (1): model.layers.1.mlp.down_proj.weight: (3, 2) in the checkpoint, (64, 96) in the model",
        "strict=False",
    ):
        assert part in message
    with pytest.warns(UserWarning, match=r"missing \(2\)"):
        loaded = from_pretrained(LlamaForCausalLM, folder, strict=False)
    assert not any(parameter.is_meta for parameter in loaded.parameters())
    assert float(loaded.lm_head.weight.detach().std()) == pytest.approx(0.1, rel=0.1)


def test_long_lists_are_cut(folder):
    change(folder, lambda state: state.update({f"extra.{number}": torch.ones(1) for number in range(50)}))
    change(folder, lambda state: state.update({f"model.x.{number}": torch.ones(1) for number in range(50)}))
    with pytest.raises(WeightsError, match=r"unexpected \(50\): .*and 30 more"):
        from_pretrained(LlamaForCausalLM, folder)


def test_tables_of_old_checkpoints_are_ignored(folder):
    change(
        folder, lambda state: state.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    )
    from_pretrained(LlamaForCausalLM, folder)


def test_the_head_of_a_language_model_is_never_made_up(folder, tmp_path):
    change(folder, lambda state: state.pop("lm_head.weight"))
    with pytest.raises(WeightsError, match=r"missing \(1\): lm_head\.weight"):
        from_pretrained(LlamaForCausalLM, folder)


@pytest.mark.parametrize(
    ("model_class", "fresh"),
    [
        (LlamaForSequenceClassification, "score.weight"),
        (LlamaForTokenClassification, "score.weight, score.bias"),
        (LlamaForQuestionAnswering, "qa_outputs.weight, qa_outputs.bias"),
    ],
)
def test_other_heads_start_on_a_language_model(folder, tmp_path, ids, model_class, fresh):
    with pytest.warns(UserWarning, match=fresh):
        made = from_pretrained(model_class, folder)
    base = from_pretrained(LlamaModel, folder)
    with torch.inference_mode():
        assert torch.equal(made.base_model(ids).last_hidden_state, base(ids).last_hidden_state)
    made.save_pretrained(tmp_path / "saved")
    again = from_pretrained(model_class, tmp_path / "saved")
    for name, tensor in made.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_base_model_is_saved_and_found_again(folder, tmp_path, ids):
    base = from_pretrained(LlamaModel, folder)
    base.save_pretrained(tmp_path / "base")
    assert "embed_tokens.weight" in load_file(tmp_path / "base" / "model.safetensors")
    again = from_pretrained(LlamaModel, tmp_path / "base")
    with torch.inference_mode():
        assert torch.equal(again(ids).last_hidden_state, base(ids).last_hidden_state)
    with pytest.warns(UserWarning, match=r"score\.weight"):
        from_pretrained(LlamaForSequenceClassification, tmp_path / "base")


def test_parameters_can_be_replaced(folder):
    loaded = from_pretrained(
        LlamaForCausalLM, folder, max_position_embeddings=99, attn_implementation="eager"
    )
    assert loaded.config.max_position_embeddings == 99
    assert loaded.config.attn_implementation == "eager"
    config = LlamaConfig.from_pretrained(folder)
    assert from_pretrained(LlamaForCausalLM, folder, config=config).config is config
    with pytest.raises(TypeError, match="max_position_embeddings"):
        from_pretrained(LlamaForCausalLM, folder, config=config, max_position_embeddings=99)


def test_a_configuration_of_something_else_is_told(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"model_type": "gpt2"}))
    with pytest.raises(WeightsError, match="gpt2"):
        from_pretrained(LlamaForCausalLM, folder)


def test_training_changes_the_model_and_not_the_file(folder, ids):
    before = (folder / "model.safetensors").read_bytes()
    loaded = from_pretrained(LlamaForCausalLM, folder).train()
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        loss = loaded(ids, labels=ids, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    save_pretrained(loaded, folder)
    assert (folder / "model.safetensors").read_bytes() != before
    again = from_pretrained(LlamaForCausalLM, folder)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_progress_is_counted(folder):
    calls = []
    loaded = from_pretrained(
        LlamaForCausalLM, folder, progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1][0] == calls[-1][1] == sum(tensor.nbytes for tensor in loaded.parameters())
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}, torch.device("cpu")])
def test_devices(folder, device_map):
    assert from_pretrained(LlamaForCausalLM, folder, device_map=device_map).device.type == "cpu"
    with pytest.raises(ValueError, match="one device"):
        from_pretrained(LlamaForCausalLM, folder, device_map={"model": 0, "lm_head": 1})


PEAK = """
import resource, sys
import torch
from llamatok.models import LlamaForCausalLM
from llamatok.weights import from_pretrained

def memory(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

folder, dtype = sys.argv[1:]
torch.ones(8, 8) @ torch.ones(8, 8)
from_pretrained(LlamaForCausalLM, sys.argv[1] + "-tiny", dtype=dtype)
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
model = from_pretrained(LlamaForCausalLM, folder, dtype=dtype)
for parameter in model.parameters():
    parameter.sum()
size = sum(parameter.nbytes for parameter in model.parameters())
print((memory("VmHWM") - before) / size)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model of 270 MB, and beside it a tiny one, for what a process needs before any weights."""
    folder = tmp_path_factory.mktemp("large")
    sizes = {"vocab_size": 8000, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    made = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=32)).to(torch.bfloat16)
    made.save_pretrained(folder / "model")
    tiny = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**tiny, num_hidden_layers=1)).save_pretrained(folder / "model-tiny")
    return folder / "model"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_peak_of_memory_is_the_weights(large, dtype):
    """Within a tenth, whether the stored dtype is kept (mapped) or changed (copied)."""
    try:
        open("/proc/self/clear_refs", "w").close()
    except OSError:
        pytest.skip("/proc/self/clear_refs cannot be written")
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(large), dtype], capture_output=True, check=True, timeout=120
    )
    assert float(run.stdout) < 1.1


LIGHT = """
import sys
from llamatok import demo_checkpoint
from llamatok.models import LlamaForCausalLM

LlamaForCausalLM.from_pretrained(demo_checkpoint(), weight_format=sys.argv[1] or None)
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("weight_format", ["", "fp16-packed"])
def test_loading_does_not_import_the_compiler(weight_format):
    """torch's starting values on the meta device do, which takes longer than the rest of a small load."""
    run = subprocess.run(
        [sys.executable, "-c", LIGHT, weight_format], capture_output=True, check=True, timeout=120
    )
    assert run.stdout.strip() == b"False"
