"""A Ray cluster writes the same bytes as one machine, whatever becomes of its nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llamatok import LlamaTokenizer
from llamatok.corpus import tokenize
from support.texts import random_texts

from .conftest import nanogpt, tree, write_jsonl

pytest.importorskip("ray", reason="ray is not installed")

# In a process of its own: Ray leaves threads and sockets behind, which are warnings here.
ON_RAY = """
import os, sys, threading, time
import ray
from ray.cluster_utils import Cluster
from llamatok.corpus.progress import Progress
from llamatok.corpus.ray import tokenize

output, loses_node, *inputs = sys.argv[1:]
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 << 20})
nodes = [cluster.add_node(num_cpus=1, object_store_memory=100 << 20) for _ in range(2)]
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False)

class Saboteur(Progress):
    count = 0
    def update(self, *arguments):
        self.count += 1
        if self.count == 5 and loses_node == "yes":
            cluster.remove_node(nodes[1], allow_graceful=False)

tokenize(inputs, output, format="megatron", shard_size=30_000, add_eos=True, dedup=True, block_size=4096,
         workers=2, progress=Saboteur())
alive = sum(node["Alive"] for node in ray.nodes())
print("nodes alive:", alive)
ray.shutdown()
cluster.shutdown()
"""


WITH_A_LLAMA_TOKENIZER = """
import sys
import ray
from llamatok import LlamaTokenizer
from llamatok.corpus.ray import tokenize

ray.init(num_cpus=1, object_store_memory=100 << 20, log_to_driver=False, include_dashboard=False)
tokenizer = LlamaTokenizer.default(add_eos_token=True)
tokenizer.add_tokens(["<added>"])
tokenize(sys.argv[1], sys.argv[2], tokenizer=tokenizer, format="nanogpt", progress=False)
ray.shutdown()
"""


@pytest.mark.slow
def test_a_llama_tokenizer_travels(tmp_path: Path) -> None:
    texts = [*random_texts(80, 30), "an <added> token"]
    source = write_jsonl(tmp_path / "a.jsonl", texts)
    subprocess.run(
        [sys.executable, "-c", WITH_A_LLAMA_TOKENIZER, str(source), str(tmp_path / "out")],
        check=True,
        timeout=400,
    )
    tokenizer = LlamaTokenizer.default(add_eos_token=True)
    tokenizer.add_tokens(["<added>"])
    expected = [id for text in texts if text for id in tokenizer(text)["input_ids"]]
    assert nanogpt(tmp_path / "out") == expected


def on_ray(inputs: list[Path], output: Path, loses_node: bool) -> str:
    command = [sys.executable, "-c", ON_RAY, str(output), "yes" if loses_node else "no", *map(str, inputs)]
    environment = {**os.environ, "RAY_TRAIN_V2_ENABLED": "0"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate(timeout=400)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors
    return out


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    sources = [write_jsonl(tmp_path / f"{i}.jsonl", random_texts(70 + i, 400)) for i in range(6)]
    with open(sources[2], "ab") as file:
        file.write(b"not json\n")
    return sources


@pytest.mark.slow
@pytest.mark.parametrize("loses_node", [False, True], ids=["whole", "one node is killed"])
def test_two_nodes(loses_node: bool, inputs: list[Path], tmp_path: Path) -> None:
    out = on_ray(inputs, tmp_path / "ray", loses_node)
    # The head, and the worker nodes that are left.
    assert f"nodes alive: {2 if loses_node else 3}" in out
    tokenize(
        inputs,
        tmp_path / "local",
        format="megatron",
        shard_size=30_000,
        add_eos=True,
        dedup=True,
        block_size=4096,
        progress=False,
    )
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
