"""What a finished run leaves beside its shards: manifest, rejects, summary, and a report with pictures.

The manifest holds nothing that differs from one run to the next, so it is as reproducible as the shards. It
is written last: a folder that has one is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import llamatok
from llamatok.corpus.files import write_whole, writing
from llamatok.corpus.html import report_page
from llamatok.corpus.plan import Plan
from llamatok.corpus.report import Report
from llamatok.corpus.tokenizers import TokenizerSource
from llamatok.corpus.totals import COUNTERS, Totals, length_bounds
from llamatok.corpus.work import token_dtype

__all__ = ["write_results"]

MANIFEST_VERSION = 1
#: With more inputs than this, the report tells of arguments (folders, globs) instead of files.
MOST_SOURCES = 20


def write_results(
    output: str,
    plan: Plan,
    source: TokenizerSource,
    totals: Totals,
    left_over: int,
    inputs_path: str,
    shards_path: str,
    rejects_path: str,
) -> Report:
    """Writes the files about a finished run, and gives its report."""
    inputs, shards = _records(inputs_path), _records(shards_path)
    rejects = os.path.join(output, "rejects.jsonl")
    if os.path.getsize(rejects_path):
        with writing(rejects):
            shutil.copyfile(rejects_path, rejects + ".tmp")
            os.replace(rejects + ".tmp", rejects)
    counts = totals.counts
    report = Report(
        output=output,
        format=plan.settings.format,
        **{name: counts[name] for name in COUNTERS if name != "tokens_read"},
        tokens_left_out=left_over,
        splits=totals.splits,
        seconds=round(totals.elapsed, 3),
        stage_seconds={name: round(spent, 3) for name, spent in totals.seconds.items()},
        reject_reasons=dict(sorted(totals.reasons.items(), key=lambda item: (-item[1], item[0]))),
        length_histogram=_histogram(totals),
        sources=_sources(inputs),
        shards=[file["name"] for shard in shards for file in shard["files"]],
    )
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "llamatok": llamatok.__version__,
        "format": plan.settings.format,
        "dtype": token_dtype(plan.settings.format, source.tokenizer.vocab_size).str,
        "tokenizer": {
            "name": source.name,
            "sha256": source.sha256,
            "vocab_size": source.tokenizer.vocab_size,
            "bos_id": source.tokenizer.bos_id,
            "eos_id": source.tokenizer.eos_id,
        },
        "arguments": plan.arguments,
        "settings": plan.settings.to_json(),
        "counts": {**counts, "tokens_left_out": left_over},
        "splits": totals.splits,
        "inputs": inputs,
        "shards": shards,
    }
    write_whole(os.path.join(output, "summary.json"), _json(report.to_json()))
    write_whole(os.path.join(output, "report.html"), report_page(report, manifest).encode("utf-8", "replace"))
    write_whole(os.path.join(output, "manifest.json"), _json(manifest))
    return report


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _records(path: str) -> list[dict[str, Any]]:
    with open(path, "rb") as file:
        return [json.loads(line) for line in file]


def _histogram(totals: Totals) -> list[tuple[int, int]]:
    pairs = zip(length_bounds(), totals.lengths, strict=True)
    return [(bound, count) for bound, count in pairs if count]


def _sources(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sums by file, or by argument where there are many files."""
    key = "path" if len(inputs) <= MOST_SOURCES else "argument"
    sums: dict[str, dict[str, int]] = {}
    for record in inputs:
        found = sums.setdefault(record[key], {"documents": 0, "bytes": 0, "tokens": 0, "rejected": 0})
        found["documents"] += record["documents"]
        found["bytes"] += record["bytes_read"]
        found["tokens"] += record["tokens_read"]
        found["rejected"] += record["rejected"]
    return [
        {"source": name, **found, "tokens_per_byte": round(found["tokens"] / max(1, found["bytes"]), 4)}
        for name, found in sums.items()
    ]
