"""The Llama model beside transformers', on the same weights: prefill, and decoding with a cache, on the CPU.

    python benches/model.py                           # three shapes, Markdown on standard output
    python benches/model.py --output target/model     # model.md and model.json
    python benches/model.py --shapes 15M --rounds 20 --threads 2

Both models read the same memory. Logits are compared before anything is timed; a shape where they differ by
more than 1e-5 of the greatest is reported and not timed. The two are timed in turn, and ratios are taken
within a round: the median is given, with the lowest and the highest, which tell how much else the machine had
to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llamatok import models

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
SHAPES: dict[str, dict[str, int]] = {
    "15M": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6},
    "110M": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    "1.1B": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
}
VOCABULARY = 32_000
PROMPT = 32
LIMIT = 1e-5


def main() -> int:
    """Run the comparison; 1 where logits differ."""
    parser = argparse.ArgumentParser(description="Compare the Llama model with transformers'.")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: 2)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the prefill (default: 512)")
    parser.add_argument("--steps", type=int, default=24, help="decoding steps in a round (default: 24)")
    parser.add_argument("--unfused", action="store_true", help="leave our projections apart")
    parser.add_argument("--output", type=Path, help="folder for model.md and model.json")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        for shape in arguments.shapes:
            rows += measure(shape, arguments)
    record = {"machine": machine(arguments.threads), "fused": not arguments.unfused, "rows": rows}
    page = markdown(record)
    print(page)
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "model.md").write_text(page)
        (arguments.output / "model.json").write_text(json.dumps(record, indent=2) + "\n")
    return int(any("ratio" not in row for row in rows))


def measure(shape: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All figures of one shape; none but the difference where the logits are not the same."""
    theirs, ours = pair(SHAPES[shape], fuse=not arguments.unfused)
    ids = torch.randint(0, VOCABULARY, (8, max(arguments.prefill, PROMPT)))
    difference = compare(theirs, ours, ids[:2, :24])
    if difference > LIMIT:
        return [{"shape": shape, "what": "logits", "difference": difference}]
    rows = []
    prefill = ids[:1, : arguments.prefill]
    calls: list[tuple[str, int, Callable[[Any], float]]] = [
        (
            f"prefill {arguments.prefill}",
            arguments.prefill,
            lambda model: timed(lambda: forward(model, prefill)),
        )
    ]
    for batch in (1, 8):
        prompt = ids[:batch, :PROMPT]
        tokens = batch * arguments.steps
        calls.append(
            (
                f"decode, batch {batch}",
                tokens,
                lambda model, prompt=prompt: decode(model, prompt, arguments.steps),
            )
        )
    for what, tokens, call in calls:
        rates: dict[str, list[float]] = {"theirs": [], "ours": []}
        both = {"theirs": theirs, "ours": ours}
        for model in both.values():
            call(model)
        for number in range(arguments.rounds):
            for name in sorted(both, reverse=bool(number % 2)):
                rates[name].append(tokens / call(both[name]))
        ratios = sorted(ours / theirs for ours, theirs in zip(rates["ours"], rates["theirs"], strict=True))
        rows.append(
            {
                "shape": shape,
                "what": what,
                "difference": difference,
                "transformers": statistics.median(rates["theirs"]),
                "llamatok": statistics.median(rates["ours"]),
                "transformers_best": max(rates["theirs"]),
                "llamatok_best": max(rates["ours"]),
                "ratio": statistics.median(ratios),
                "ratios": ratios,
            }
        )
        print(f"{shape} {what}: {rows[-1]['ratio']:.2f}", file=sys.stderr)
    return rows


def pair(shape: dict[str, int], *, fuse: bool) -> tuple[Any, Any]:
    """transformers' model and ours over the same weights."""
    import transformers

    settings = {**shape, "vocab_size": VOCABULARY, "max_position_embeddings": 2048}
    with models.no_init_weights(), torch.device("meta"):
        ours = models.LlamaForCausalLM(models.LlamaConfig(**settings))
    ours.to_empty(device="cpu").eval()
    for parameter in ours.parameters():
        if parameter.dim() == 1:
            parameter.uniform_(0.5, 1.5)
        else:
            parameter.normal_(0.0, 0.02)
    if fuse:
        ours.fuse()
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    # Joined weights are shown to transformers as slices of their rows: no second copy.
    theirs.load_state_dict(ours.state_dict(), assign=True)
    rotary = theirs.model.rotary_emb
    theirs.model.rotary_emb = type(rotary)(config=theirs.config)
    return theirs.eval(), ours


def compare(theirs: Any, ours: Any, ids: torch.Tensor) -> float:
    """The greatest difference of logits, relative to the greatest: a whole pass, and a pass and a step."""
    whole = theirs(ids).logits
    cache = ours(ids[:, :-1], use_cache=True).past_key_values
    step = ours(ids[:, -1:], past_key_values=cache).logits
    differences = (ours(ids).logits - whole).abs().max(), (step - whole[:, -1:]).abs().max()
    return float(max(differences) / whole.abs().max())


def forward(model: Any, ids: torch.Tensor) -> Any:
    """A pass that starts a text: its cache, and the logits of the last position."""
    return model(ids, use_cache=True, logits_to_keep=1)


def decode(model: Any, prompt: torch.Tensor, steps: int) -> float:
    """Seconds that `steps` greedy tokens take, after the prompt."""
    out = forward(model, prompt)
    cache, ids = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
    started = time.perf_counter()
    for _ in range(steps):
        out = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        ids = out.logits[:, -1].argmax(-1, keepdim=True)
    return time.perf_counter() - started


def timed(call: Callable[[], Any]) -> float:
    """Seconds that the call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    import transformers

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def markdown(record: dict[str, Any]) -> str:
    """The record as a page."""
    about = record["machine"]
    where = (
        f"{about['processor']}, {about['cores']} cores, {about['threads']} threads, load {about['load']:.0f}"
    )
    joined = "joined" if record["fused"] else "separate"
    page = [
        "# The Llama model beside transformers",
        "",
        f"{where}; torch {about['torch']}, transformers {about['transformers']}; float32, random weights, "
        f"vocabulary {VOCABULARY}, {joined} projections. Tokens a second: the median, and the best round in "
        "brackets. "
        "Ratio: the median within rounds, and the lowest and the highest.",
        "",
        "| shape | what | transformers | llamatok | ratio | logits differ by |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in record["rows"]:
        if "ratio" not in row:
            page.append(f"| {row['shape']} | not timed | | | | {row['difference']:.1e} |")
            continue
        low, high = row["ratios"][0], row["ratios"][-1]
        cells = [
            row["shape"],
            row["what"],
            f"{row['transformers']:.1f} ({row['transformers_best']:.1f})",
            f"{row['llamatok']:.1f} ({row['llamatok_best']:.1f})",
            f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})",
            f"{row['difference']:.1e}",
        ]
        page.append(f"| {' | '.join(cells)} |")
    return "\n".join(page) + "\n"


if __name__ == "__main__":
    sys.exit(main())
