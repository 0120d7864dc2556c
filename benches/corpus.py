"""From corpus files to token shards, beside what people use today, on the same input in the same run.

    python benches/corpus.py --corpus ../shared/corpora/en.jsonl.zst --model
    ../shared/models/llama2/tokenizer.model python benches/corpus.py --repeat 10 --rounds 5 --output
    target/corpus.json python benches/corpus.py --memory            # peak memory at 100 MB and 1 GB

The corpus is repeated to `--repeat` times its size (the words of a text repeat anyway; what never repeats is
`benches/memory.py`'s subject), and written as JSON lines, as JSON lines with Zstandard, and as Parquet. Each
way is a process of its own, timed from its first line to its last, imports and loading of the vocabulary
included; rounds go through all ways in turn. Peers that are not installed are named and left out;
`--peer-python` names another interpreter for gigatoken.

- **llamatok**: `llamatok.corpus.tokenize`, two workers.
- **HF script**: `datasets.load_dataset("json")`, `map` with `LlamaTokenizerFast` (two processes, batches of a
  thousand), written as nanoGPT's `prepare.py` does. Slow: it gets a part of the corpus (`--slow-mb`).
- **datatrove**: `JsonlReader` and `DocumentTokenizer`, two tasks on two workers. Also a part.
- **gigatoken**: `encode_files` on the same JSON lines; it returns arrays and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MB = 1_000_000

LLAMATOK = """
import json, sys
from llamatok.corpus import tokenize
source, folder, model, form = sys.argv[1:5]
report = tokenize(source, folder, tokenizer=model, format=form, add_eos=True, workers=2, progress=False)
print(json.dumps({"tokens": report.tokens, "stages": report.stage_seconds}))
"""

HF_SCRIPT = """
import json, sys
import numpy as np
from datasets import load_dataset
from transformers import LlamaTokenizerFast
source, folder, model, _ = sys.argv[1:5]
import os
tokenizer = LlamaTokenizerFast.from_pretrained(os.path.dirname(model))
def encode(batch):
    ids = tokenizer(batch["text"], add_special_tokens=False)["input_ids"]
    return {"ids": [row + [tokenizer.eos_token_id] for row in ids], "n": [len(row) + 1 for row in ids]}
data = load_dataset("json", data_files=source, split="train", cache_dir=folder + "/cache")
data = data.map(encode, batched=True, num_proc=2, remove_columns=["text"])
total = int(np.sum(data["n"]))
out = np.memmap(folder + "/train.bin", dtype=np.uint16, mode="w+", shape=(total,))
at = 0
for batch in data.with_format("numpy").iter(1000):
    part = np.concatenate(batch["ids"])
    out[at : at + len(part)] = part
    at += len(part)
out.flush()
print(json.dumps({"tokens": total}))
"""

DATATROVE = """
import json, os, sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
source, folder, model, _ = sys.argv[1:5]
if __name__ == "__main__":
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(os.path.dirname(source), glob_pattern=os.path.basename(source)[:-6] + ".part*"),
            DocumentTokenizer(folder, tokenizer_name_or_path=model.replace(".model", ".json"),
                              eos_token="</s>", shuffle_documents=False),
        ],
        tasks=2, workers=2, logging_dir=folder + "/logs",
    ).run()
    names = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".ds")]
    size = sum(map(os.path.getsize, names))
    print(json.dumps({"tokens": size // 2}))
"""

GIGATOKEN = """
import json, sys
import gigatoken
source, _, model, _ = sys.argv[1:5]
tokenizer = gigatoken.Tokenizer.from_sentencepiece(model)
found = tokenizer.encode_files(gigatoken.JsonlFileSource([source], "text"), parallel=True)
import awkward
print(json.dumps({"tokens": int(awkward.count(found))}))
"""


def main() -> int:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="Measure corpora to shards, beside peers.")
    shared = Path(os.environ.get("LLAMATOK_SHARED", "../shared"))
    parser.add_argument("--corpus", type=Path, default=shared / "corpora" / "en.jsonl.zst")
    parser.add_argument("--model", type=Path, default=shared / "models" / "llama2" / "tokenizer.model")
    parser.add_argument(
        "--repeat", type=int, default=10, help="times that the corpus is repeated (default: 10)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds through all ways (default: 3)")
    parser.add_argument("--slow-mb", type=int, default=20, help="megabytes for the slow peers (default: 20)")
    parser.add_argument("--ways", help="names of ways to time, by commas (default: all)")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter that has gigatoken")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llamatok-bench-") as scratch:
        inputs = make_inputs(arguments, Path(scratch))
        found = memory(inputs, arguments) if arguments.memory else speed(inputs, arguments, Path(scratch))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def make_inputs(arguments: argparse.Namespace, scratch: Path) -> dict[str, Path]:
    """The corpus in all forms, a part of it for slow peers, and the vocabulary in Hugging Face's form."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    if arguments.corpus.suffix == ".zst":
        with open(arguments.corpus, "rb") as file:
            plain = zstandard.ZstdDecompressor().stream_reader(file).read()
    else:
        plain = arguments.corpus.read_bytes()
    paths = {name: scratch / f"corpus{ending}" for name, ending in FORMS.items()}
    compressor = zstandard.ZstdCompressor(3)
    once = compressor.compress(plain)
    texts = [json.loads(line)["text"] for line in plain.splitlines()]
    table = pa.table({"text": texts})
    repeat = 33 if arguments.memory else arguments.repeat
    with open(paths["jsonl"], "wb") as jsonl, open(paths["zst"], "wb") as zst:
        for _ in range(repeat):
            jsonl.write(plain)
            zst.write(once)
    with pq.ParquetWriter(paths["parquet"], table.schema, compression="zstd") as writer:
        for _ in range(repeat):
            writer.write_table(table)
    text_bytes = sum(len(text.encode()) for text in texts)
    lines = plain.splitlines(keepends=True)
    part = b"".join(lines)[: arguments.slow_mb * MB]
    part = part[: part.rfind(b"\n") + 1]
    if arguments.memory:
        hundred = plain * -(-100 * MB // len(plain))
        (scratch / "hundred.jsonl").write_bytes(hundred[: hundred.rfind(b"\n", 0, 100 * MB) + 1])
        paths["hundred"] = scratch / "hundred.jsonl"
    paths["part"] = scratch / "part.jsonl"
    paths["part"].write_bytes(part)
    # datatrove shares out files among its tasks.
    middle = part.rfind(b"\n", 0, len(part) // 2) + 1
    (scratch / "part.part0.jsonl").write_bytes(part[:middle])
    (scratch / "part.part1.jsonl").write_bytes(part[middle:])
    SIZES["corpus"] = text_bytes * repeat
    SIZES["part"] = sum(len(json.loads(line)["text"].encode()) for line in part.splitlines())
    vocabulary = scratch / "vocabulary"
    vocabulary.mkdir()
    shutil.copy(arguments.model, vocabulary / "tokenizer.model")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benches.compare.convert import tokenizer_json

    (vocabulary / "tokenizer.json").write_text(tokenizer_json(arguments.model.read_bytes()), encoding="utf-8")
    settings = {
        "tokenizer_class": "LlamaTokenizerFast",
        "eos_token": "</s>",
        "bos_token": "<s>",
        "unk_token": "<unk>",
    }
    (vocabulary / "tokenizer_config.json").write_text(json.dumps(settings))
    paths["model"] = vocabulary / "tokenizer.model"
    return paths


FORMS = {"jsonl": ".jsonl", "zst": ".jsonl.zst", "parquet": ".parquet"}
#: Bytes of text of the whole input and of the part.
SIZES: dict[str, int] = {}

#: Each way: its program, its input, its format, whether it has the part only, whether it needs
#: `--peer-python`.
WAYS: dict[str, tuple[str, str, str, bool]] = {
    "llamatok, JSON lines to Megatron": (LLAMATOK, "jsonl", "megatron", False),
    "llamatok, JSON lines to nanoGPT": (LLAMATOK, "jsonl", "nanogpt", False),
    "llamatok, JSON lines .zst to Megatron": (LLAMATOK, "zst", "megatron", False),
    "llamatok, JSON lines .zst to nanoGPT": (LLAMATOK, "zst", "nanogpt", False),
    "llamatok, Parquet to Megatron": (LLAMATOK, "parquet", "megatron", False),
    "llamatok, Parquet to nanoGPT": (LLAMATOK, "parquet", "nanogpt", False),
    "gigatoken encode_files, JSON lines": (GIGATOKEN, "jsonl", "", False),
    "datatrove, JSON lines to .ds": (DATATROVE, "part", "", True),
    "HF datasets.map, JSON lines to nanoGPT": (HF_SCRIPT, "part", "", True),
}


def speed(inputs: dict[str, Path], arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Time all ways in turn."""
    wanted = arguments.ways.split(",") if arguments.ways else list(WAYS)
    ways = {name: way for name, way in WAYS.items() if any(part in name for part in wanted)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    told: dict[str, dict[str, Any]] = {}
    for _ in range(arguments.rounds):
        for name, way in list(ways.items()):
            spent, result = timed(name, way, inputs, arguments, scratch)
            if result is None:
                del ways[name], seconds[name]
                continue
            seconds[name].append(spent)
            told[name] = result
    found = {}
    print(f"{'way':<42} {'MB of text':>10} {'MB/s':>8} {'spread':>15}  tokens")
    for name, way in ways.items():
        size = SIZES["part" if way[3] else "corpus"] / MB
        speeds = sorted(size / spent for spent in seconds[name])
        middle = statistics.median(speeds)
        print(
            f"{name:<42} {size:>10.0f} {middle:>8.1f} {speeds[0]:>7.1f}-{speeds[-1]:<7.1f}  "
            f"{told[name]['tokens']:,}"
        )
        stages = told[name].get("stages")
        if stages:
            whole = sum(stages.values())
            print("    " + ", ".join(f"{stage} {spent / whole:.0%}" for stage, spent in stages.items()))
        found[name] = {"mb": size, "mb_per_second": speeds, **told[name]}
    return found


def timed(
    name: str,
    way: tuple[str, str, str, bool],
    inputs: dict[str, Path],
    arguments: argparse.Namespace,
    scratch: Path,
) -> tuple[float, dict[str, Any] | None]:
    """Run one way in a process of its own: seconds, and what it tells; None where it cannot run."""
    program, source, form, _ = way
    folder = scratch / "out"
    shutil.rmtree(folder, ignore_errors=True)
    if program is not LLAMATOK:
        folder.mkdir()
    path = scratch / "way.py"
    path.write_text(program)
    python = arguments.peer_python if program is GIGATOKEN else sys.executable
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [python, str(path), str(inputs[source]), str(folder), str(inputs["model"]), form]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    spent = time.perf_counter() - started
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        print(f"{name}: left out: {last[0]}", file=sys.stderr)
        return spent, None
    return spent, json.loads(done.stdout.strip().splitlines()[-1])


def memory(inputs: dict[str, Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak memory at 100 MB and at 1 GB of JSON lines, each in a process of its own."""
    found = {}
    for name in ("hundred", "jsonl"):
        peaks = []
        for _ in range(arguments.rounds):
            folder = inputs["model"].parent.parent / "out"
            shutil.rmtree(folder, ignore_errors=True)
            program = (
                "import sys; from llamatok.cli import main; main(sys.argv[1:]); "
                "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
            )
            command = [sys.executable, "-c", program, "corpus", "--model", str(inputs["model"]), "--add-eos"]
            command += ["--quiet", "--workers", "2", "-o", str(folder), str(inputs[name])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks.append(int(done.stdout.split()[-1]) * 1024 / MB)
        size = inputs[name].stat().st_size / MB
        found[name] = {"mb": size, "peak_mb": sorted(peaks)}
        print(
            f"{size:>8.0f} MB of JSON lines: peak {statistics.median(peaks):.0f} MB "
            f"({min(peaks):.0f}-{max(peaks):.0f})"
        )
    ratio = statistics.median(found["jsonl"]["peak_mb"]) / statistics.median(found["hundred"]["peak_mb"])
    print(f"ratio of the two: {ratio:.3f}")
    return {**found, "ratio": ratio}


if __name__ == "__main__":
    sys.exit(main())
