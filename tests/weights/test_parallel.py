"""Two processes on the CPU against one: tensor parallel logits and steps, FSDP2 losses and weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
if not torch.distributed.is_available():
    pytest.skip("this torch is built without torch.distributed", allow_module_level=True)
pytest.importorskip("torch.distributed.fsdp", reason="torch 2.6 or newer is needed")

from llamatok.models import LlamaConfig, LlamaForCausalLM  # noqa: E402

PROCESSES = 2
SMALL = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "initializer_range": 0.1,
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    for name, tied in (("untied", False), ("tied", True)):
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=tied)).save_pretrained(folder / name)
    worker = Path(__file__).with_name("parallel_worker.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(rank), str(PROCESSES), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(PROCESSES)
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors.decode(errors="replace")
    return json.loads(outputs[0][0])


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_tensor_parallel_logits_are_those_of_one_process(report, name):
    found = report[f"{name}: tensor parallel"]
    assert found["logits"] < 1e-5
    assert found["steps"] < 1e-5
    assert found["state"] == 0


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_tensor_parallel_splits_the_layers_and_the_cache(report, name):
    found = report[f"{name}: tensor parallel"]
    assert found["local"] * PROCESSES == found["whole"]
    assert found["kv_heads"] * PROCESSES == SMALL["num_key_value_heads"]


@pytest.mark.parametrize("name", ["tied", "untied"])
@pytest.mark.parametrize("way", ["fsdp", "tensor parallel training"])
def test_training_takes_the_steps_of_one_process(report, name, way):
    found = report[f"{name}: {way}"]
    assert found["fell"]
    assert found["losses"] < 1e-5
    assert found["state"] < 1e-5
    assert found["saved"] < 1e-5


def test_what_does_not_divide_is_told():
    from llamatok.models.parallel import tensor_parallel

    class Mesh:
        def size(self):
            return 4

    with pytest.raises(ValueError, match=r"`num_key_value_heads` \(2\) does not divide by 4"):
        tensor_parallel(LlamaForCausalLM(LlamaConfig(**SMALL)), Mesh())
