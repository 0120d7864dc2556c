"""`generate` beside transformers', on the same random weights, in turn.

    python benches/generation.py                              # all shapes, batch 1 and 8, 2 threads
    python benches/generation.py --shapes 15M --batch 1 --rounds 5 --json out.json

Each round times every contender once. A contender's figure is tokens per second of new text (rows x new
tokens, the prompt's run included), the time to the first token, and the ratio to transformers in float32
within a round (median, least, greatest). For batch 1, the share of the memory-bandwidth bound: bytes of
weights read per token x tokens per second, by the rate at which this machine reads a large array, measured in
the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llamatok.models import LlamaConfig, LlamaForCausalLM

SHAPES: dict[str, dict[str, int]] = {
    "15M": dict(hidden_size=288, intermediate_size=768, num_hidden_layers=6, num_attention_heads=6),
    "110M": dict(hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12),
    "1.1B": dict(
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
    ),
}
VOCABULARY = 32_000


def main() -> int:
    """Run the comparison; 1 where greedy texts in float32 differ."""
    parser = argparse.ArgumentParser(description="Compare generation with transformers.")
    parser.add_argument("--shapes", default="15M,110M,1.1B", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--batch", default="1,8", help="numbers of rows (default: 1,8)")
    parser.add_argument("--formats", default="fp16-packed", help="lighter weights to try too; empty: none")
    parser.add_argument("--prompt", type=int, default=16, help="tokens of the prompt (default: 16)")
    parser.add_argument("--new", type=int, default=48, help="new tokens (default: 48)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    same = True
    print(
        "| shape | batch | contender | tokens/s | first token, ms | times transformers | share of the bound |"
    )
    print("|---|---|---|---|---|---|---|")
    for shape in arguments.shapes.split(","):
        contenders = _contenders(shape, [kind for kind in arguments.formats.split(",") if kind])
        for batch in map(int, arguments.batch.split(",")):
            found, equal = _measure(contenders, batch, arguments)
            same &= equal
            for row in found:
                rows.append({"shape": shape, "batch": batch, **row})
                share = "" if row["share"] is None else f"{row['share']:.0%}"
                print(
                    f"| {shape} | {batch} | {row['name']} | {row['tokens_per_second']:.1f} |"
                    f" {row['first_token_ms']:.1f} | {row['ratio']:.2f} ({row['least']:.2f} to"
                    f" {row['most']:.2f}) |"
                    f" {share} |",
                    flush=True,
                )
    print("greedy texts in float32:", "equal" if same else "DIFFER")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return int(not same)


def _contenders(shape: str, formats: list[str]) -> dict[str, Any]:
    """Models by name, transformers first, all with the same weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    settings = {"vocab_size": VOCABULARY, "max_position_embeddings": 2048, **SHAPES[shape]}
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).eval()
    found: dict[str, Any] = {"transformers, f32": theirs}
    ours = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    ours.load_state_dict(theirs.state_dict())
    found["llamatok, f32"] = ours.fuse()
    with tempfile.TemporaryDirectory() as folder:
        if formats:
            theirs.save_pretrained(folder)
        for kind in formats:
            found[f"llamatok, {kind}"] = LlamaForCausalLM.from_pretrained(folder, weight_format=kind)
    return found


def _measure(
    contenders: dict[str, Any], batch: int, arguments: argparse.Namespace
) -> tuple[list[dict[str, Any]], bool]:
    ids = torch.randint(3, VOCABULARY, (batch, arguments.prompt), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)

    def run(model: Any, new: int) -> Any:
        return model.generate(
            ids, attention_mask=mask, max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0
        )

    texts = {name: run(model, arguments.new) for name, model in contenders.items()}
    names = list(contenders)
    same = torch.equal(texts[names[0]], texts[names[1]])
    seconds: dict[str, list[float]] = {name: [] for name in names}
    first: dict[str, list[float]] = {name: [] for name in names}
    for number in range(arguments.rounds):
        for name in names if number % 2 else names[::-1]:
            first[name].append(_timed(lambda name=name: run(contenders[name], 1)))
            seconds[name].append(_timed(lambda name=name: run(contenders[name], arguments.new)))
    bandwidth = _bandwidth() if batch == 1 else None
    rows = []
    for name in names:
        ratios = sorted(a / b for a, b in zip(seconds[names[0]], seconds[name], strict=True))
        rate = batch * arguments.new / statistics.median(seconds[name])
        read = _bytes_per_token(contenders[name])
        rows.append(
            {
                "name": name,
                "tokens_per_second": rate,
                "first_token_ms": 1000 * statistics.median(first[name]),
                "ratio": statistics.median(ratios),
                "least": ratios[0],
                "most": ratios[-1],
                "share": None if bandwidth is None or read is None else rate * read / bandwidth,
            }
        )
    return rows, same


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _bytes_per_token(model: Any) -> int | None:
    """Bytes of weights that one token reads: all but the embedding's other rows; None for packed ones."""
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    if not linear or any(not hasattr(m.weight, "numel") for m in linear):
        return None
    return sum(m.weight.numel() * m.weight.element_size() for m in linear)


def _bandwidth() -> float:
    """Bytes per second at which all threads read an array that no cache holds."""
    array = torch.ones(64 << 20)
    array.sum()
    return max(array.nbytes / _timed(lambda: array.sum()) for _ in range(5))


if __name__ == "__main__":
    sys.exit(main())
