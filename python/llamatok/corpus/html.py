"""The report of a run as one HTML page, with its pictures in it as SVG and nothing loaded from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from typing import Any

from llamatok.corpus.report import Report

__all__ = ["report_page"]

WIDTH = 720
BAR_HEIGHT = 22
NAME_WIDTH = 260
MOST_BARS = 20
CHART_HEIGHT = 200

STYLE = """
:root { color-scheme: light dark; --bar: #3b6fb6; --ink: #1c1e21; --quiet: #6a7078; --line: #d5d9de; }
@media (prefers-color-scheme: dark) { :root { --bar: #7aa7e0; --ink: #e8eaed; --quiet: #9aa1a9; --line:
#3c4248; } } body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 760px; margin: 2rem
auto; padding: 0 1rem; } h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .quiet { fill: var(--quiet); } svg rect { fill: var(--bar); } svg line { stroke: var(--line); }
code { font-size: .9em; } .quiet { color: var(--quiet); }
"""


def report_page(report: Report, manifest: dict[str, Any]) -> str:
    """The page: numbers, the histogram of lengths, tokens per byte by source, rejects, time by stage."""
    tokenizer = manifest["tokenizer"]
    facts = [
        ("Documents written", f"{report.documents:,} of {report.documents_read:,} read"),
        ("Tokens", f"{report.tokens:,}"),
        ("Text", f"{report.bytes_read / 1e6:,.1f} MB"),
        ("Rejected", f"{report.rejected:,}"),
        ("Duplicates", f"{report.duplicates:,}"),
        (
            "Too short, too long, truncated",
            f"{report.too_short:,}, {report.too_long:,}, {report.truncated:,}",
        ),
        ("Time", f"{report.seconds:,.1f} s, {report.megabytes_per_second:,.1f} MB/s"),
        ("Format", f"{report.format}, {len(report.shards)} files"),
        ("Tokenizer", f"{tokenizer['name']}, {tokenizer['vocab_size']:,} pieces, {tokenizer['sha256'][:12]}"),
        ("llamatok", manifest["llamatok"]),
    ]
    for name, split in report.splits.items():
        facts.append((f"Split {name}", f"{split['documents']:,} documents, {split['tokens']:,} tokens"))
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts)
    sections = [
        f"<h1>Tokens of {escape(os.path.basename(report.output.rstrip('/')) or report.output)}</h1>",
        f"<table>{rows}</table>",
        "<h2>Length of documents</h2>",
        _histogram(report.length_histogram),
        "<h2>Tokens per byte of text, by source</h2>",
        _sources(report.sources),
        "<h2>Rejected, by reason</h2>",
        _bars([(reason, count, f"{count:,}") for reason, count in report.reject_reasons.items()])
        if report.reject_reasons
        else "<p class='quiet'>Nothing was rejected.</p>",
        "<h2>Processor time by stage</h2>",
        _stages(report.stage_seconds),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>llamatok corpus</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _histogram(pairs: Sequence[tuple[int, int]]) -> str:
    """Columns over a logarithmic axis; each is as wide as every other one."""
    if not pairs:
        return "<p class='quiet'>No documents.</p>"
    from llamatok.corpus.totals import length_bounds

    found = dict(pairs)
    bounds = length_bounds()
    # Bins of one bound (below 4 tokens, several) are one column.
    columns = sorted({bound for bound in bounds if pairs[0][0] <= bound <= pairs[-1][0]})
    most = max(found.values())
    step = (WIDTH - 20) / len(columns)
    labels = max(1, len(columns) // 12)
    parts = []
    for place, bound in enumerate(columns):
        count = found.get(bound, 0)
        height = CHART_HEIGHT * count / most
        x = 10 + place * step
        if count:
            parts.append(
                f"<rect x='{x:.1f}' y='{CHART_HEIGHT + 10 - height:.1f}' width='{max(step - 1, 1):.1f}' "
                f"height='{height:.1f}'><title>from {bound:,} tokens: {count:,} documents</title></rect>"
            )
        if place % labels == 0:
            parts.append(
                f"<text class='quiet' x='{x + step / 2:.1f}' y='{CHART_HEIGHT + 28}' "
                f"text-anchor='middle'>{_short(bound)}</text>"
            )
    base = f"<line x1='10' x2='{WIDTH - 10}' y1='{CHART_HEIGHT + 10}' y2='{CHART_HEIGHT + 10}'/>"
    note = f"tokens; the highest column has {most:,} documents"
    title = f"<text class='quiet' x='10' y='{CHART_HEIGHT + 48}'>{note}</text>"
    return _svg(CHART_HEIGHT + 56, "Histogram of document lengths", "".join(parts) + base + title)


def _sources(sources: Sequence[dict[str, Any]]) -> str:
    ranked = sorted(sources, key=lambda source: -int(source["bytes"]))
    bars = [
        (
            str(source["source"]),
            float(source["tokens_per_byte"]),
            f"{source['tokens_per_byte']:.3f} ({source['bytes'] / 1e6:,.1f} MB)",
        )
        for source in ranked
    ]
    return _bars(bars) if bars else "<p class='quiet'>No sources.</p>"


def _stages(seconds: dict[str, float]) -> str:
    whole = sum(seconds.values()) or 1.0
    return _bars([(stage, spent, f"{spent:,.2f} s, {spent / whole:.0%}") for stage, spent in seconds.items()])


def _bars(bars: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars with a name before and a figure behind."""
    shown = bars[:MOST_BARS]
    most = max((value for _, value, _ in shown), default=0) or 1
    room = WIDTH - NAME_WIDTH - 150
    parts = []
    for place, (name, value, figure) in enumerate(shown):
        y = place * BAR_HEIGHT
        width = room * value / most
        # The end of a path tells more than its beginning.
        short = name if len(name) <= 38 else "…" + name[-37:]
        parts.append(
            f"<text x='{NAME_WIDTH - 8}' y='{y + 15}' text-anchor='end'>"
            f"<title>{escape(name)}</title>{escape(short)}</text>"
            f"<rect x='{NAME_WIDTH}' y='{y + 3}' width='{width:.1f}' height='{BAR_HEIGHT - 6}'/>"
            f"<text class='quiet' x='{NAME_WIDTH + width + 6:.1f}' y='{y + 15}'>{escape(figure)}</text>"
        )
    more = f"<p class='quiet'>and {len(bars) - len(shown)} more</p>" if len(bars) > len(shown) else ""
    return _svg(len(shown) * BAR_HEIGHT + 6, "Bar chart", "".join(parts)) + more


def _svg(height: int, label: str, content: str) -> str:
    return (
        f"<svg viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' role='img' "
        f"aria-label='{escape(label)}' xmlns='http://www.w3.org/2000/svg'>{content}</svg>"
    )


def _short(number: int) -> str:
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return str(number)
