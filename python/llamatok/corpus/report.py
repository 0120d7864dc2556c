"""The report of a run: what it read, what it left out, what it wrote."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import llamatok
from llamatok.corpus.errors import OutputError
from llamatok.corpus.inputs import arguments_of
from llamatok.corpus.settings import Settings
from llamatok.corpus.tokenizers import TokenizerSource

__all__ = ["Report", "read_report"]


@dataclass
class Report:
    """What a run did. Bytes are those of texts; seconds are those of all attempts together.

    `documents` and `tokens` were written (tokens with bos and eos, before packing); `stage_seconds` is
    processor time; `length_histogram` has pairs of the least number of tokens of a bin and its documents.
    """

    output: str
    format: str
    documents: int
    tokens: int
    documents_read: int
    bytes_read: int
    rejected: int
    duplicates: int
    too_short: int
    too_long: int
    truncated: int
    empty: int
    dropped_fields: int
    tokens_left_out: int
    splits: dict[str, dict[str, int]]
    seconds: float
    stage_seconds: dict[str, float]
    reject_reasons: dict[str, int]
    length_histogram: list[tuple[int, int]]
    sources: list[dict[str, Any]]
    shards: list[str] = field(default_factory=list)

    @property
    def megabytes_per_second(self) -> float:
        """Speed from the first byte of input to the last of output, in 10**6 bytes of text a second."""
        return self.bytes_read / 1e6 / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values: `summary.json`."""
        return {**asdict(self), "megabytes_per_second": round(self.megabytes_per_second, 3)}

    def lines(self) -> list[str]:
        """The report for people, a fact a line."""
        facts = [
            ("documents", f"{self.documents:,}"),
            ("tokens", f"{self.tokens:,}"),
            ("text", f"{self.bytes_read / 1e6:,.1f} MB, {self.megabytes_per_second:,.1f} MB/s"),
            ("shards", f"{len(self.shards)} files in {self.output}"),
        ]
        left_out = {
            "rejected": self.rejected,
            "duplicates": self.duplicates,
            "too short": self.too_short,
            "too long": self.too_long,
            "truncated": self.truncated,
            "tokens left out at the end": self.tokens_left_out,
            "lines with fields left out": self.dropped_fields,
        }
        facts += [(name, f"{count:,}") for name, count in left_out.items() if count]
        width = max(len(name) for name, _ in facts)
        return [f"{name:<{width}}  {value}" for name, value in facts]


def read_report(output: str, inputs: Any, settings: Settings, source: TokenizerSource, shown: str) -> Report:
    """The report of a finished run. Raises `OutputError` where it is not the one that is asked for."""
    try:
        with open(os.path.join(output, "manifest.json"), "rb") as file:
            manifest = json.load(file)
        asked = {
            "settings": settings.to_json(),
            "arguments": arguments_of(inputs),
            "tokenizer": source.sha256,
            "version": llamatok.__version__,
        }
        found = {
            "settings": manifest["settings"],
            "arguments": manifest["arguments"],
            "tokenizer": manifest["tokenizer"]["sha256"],
            "version": manifest["llamatok"],
        }
        differing = [name for name in asked if asked[name] != found[name]]
        with open(os.path.join(output, "summary.json"), "rb") as file:
            values = json.load(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"the output folder is not empty: `{shown}` ({error})", "name a new one") from None
    if differing:
        raise OutputError(
            f"`{shown}` holds a finished run that differs in: {', '.join(differing)}",
            "name another output, or start anew with --overwrite",
        )
    try:
        values.pop("megabytes_per_second", None)
        values["length_histogram"] = [tuple(pair) for pair in values["length_histogram"]]
        return Report(**{**values, "output": output})
    except (KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"the summary of the run in `{shown}` is damaged: {error!r}", "start anew with --overwrite"
        ) from None
