"""What is written from a run: a Markdown page, JSON, and a plot where matplotlib is installed.

A timing whose peer gave other ids than SentencePiece carries a mark wherever it is printed.
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median

from benches.compare.hard import SIZES, linearity, texts
from benches.compare.peers import REFERENCE
from benches.compare.run import Report, Row, ratios

RIVAL = "gigatoken"
DIFFERS, UNCHECKED, OTHER_VOCABULARY = "†", "?", "‡"
LEGEND = {
    DIFFERS: f"{DIFFERS} ids differ from SentencePiece's on this text: not the same job",
    UNCHECKED: f"{UNCHECKED} ids not compared",
    OTHER_VOCABULARY: f"{OTHER_VOCABULARY} another vocabulary (GPT-2's), beside the contest: shown for scale",
}


def write(report: Report, folder: Path, stem: str) -> list[Path]:
    """Write the page, the JSON and, if possible, the plots; tell which files there are now."""
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / f"{stem}.md", folder / f"{stem}.json"
    page.write_text(markdown(report), encoding="utf-8")
    data.write_text(report.to_json(), encoding="utf-8")
    return [page, data, *plot(report, folder / stem)]


def markdown(report: Report) -> str:
    """Render the whole page."""
    parts = [_head(report)]
    for corpus in report.corpora:
        for threads in sorted({row.threads for row in report.rows}, reverse=True):
            rows = [row for row in report.rows if row.corpus == corpus and row.threads == threads]
            if rows:
                parts.append(_throughput(report, corpus, threads, rows))
                parts.append(_lesser(report, rows))
    parts += [_scaling(report), _hard(report), _differences(report), _absent(report), _calls(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def mark(report: Report, row: Row) -> str:
    """Choose the mark that this row's figures carry."""
    return _mark(report, row.peer, row.agrees)


def _mark(report: Report, peer: str, agrees: bool | None) -> str:
    if not report.peers.get(peer, {}).get("llama", True):
        return OTHER_VOCABULARY
    return {True: "", False: DIFFERS, None: UNCHECKED}[agrees]


def _head(report: Report) -> str:
    machine = report.machine
    lines = [
        "# Comparison",
        "",
        f"- Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}, numpy {machine['numpy']}",
        f"- Date: {report.date}; commit: {machine['commit']}",
        f"- Command: `{report.command}`",
        f"- Settings: {', '.join(f'{key} {value}' for key, value in report.settings.items())}",
    ]
    if report.rows:
        lines += [
            "",
            "MB/s of UTF-8 input, MB = 10⁶ bytes: the median, and the least and greatest in brackets. Times "
            "as fast: the median of the ratios within a round. Cold: the first pass over these documents in "
            "a fresh process, after one call on a few letters. Timed up to the library's own result; freeing "
            "it is not timed. Fewer cores busy than threads: other programs took the rest, or the library "
            "uses no more; a core-second is then the better measure.",
            "",
            *(f"- {line}" for line in LEGEND.values()),
        ]
    return "\n".join(lines)


def _throughput(report: Report, corpus: str, threads: int, rows: list[Row]) -> str:
    size = report.corpora[corpus]
    plural = "thread" if threads == 1 else "threads"
    of = {job: {row.peer: row for row in rows if row.job == f"encode {job}"} for job in ("warm", "cold")}
    over = {(job, base): ratios(list(of[job].values()), base) for job in of for base in (RIVAL, REFERENCE)}
    memory = {
        entry["peer"]: entry["peak_kb"] / 1024
        for entry in report.memory
        if entry["corpus"] == corpus and entry["threads"] == threads
    }
    table = []
    for peer, warm in sorted(of["warm"].items(), key=lambda item: -median(item[1].rates)):
        cold = of["cold"].get(peer)
        flag = mark(report, warm)
        table.append(
            [
                f"{peer} {report.peers[peer]['version']}",
                _rate(warm) + flag,
                _rate(cold) + flag if cold else "",
                *(
                    _times(over[job, base].get(peer), flag)
                    for base in (RIVAL, REFERENCE)
                    for job in ("warm", "cold")
                ),
                f"{median(warm.cpu_rates):.1f}{flag}",
                f"{median(cold.cpu_rates):.1f}{flag}" if cold else "",
                f"{sum(warm.cpu_seconds) / sum(warm.seconds):.2f}",
                f"{memory[peer]:.0f}" if peer in memory else "",
            ]
        )
    head = ["", "warm MB/s", "cold MB/s"]
    head += [f"× {base}, {job}" for base in (RIVAL, REFERENCE) for job in ("warm", "cold")]
    head += ["warm MB per core-second", "cold", "cores busy", "peak MiB"]
    title = f"## {corpus}, {threads} {plural}"
    about = f"{size['documents']} documents, {size['bytes'] / 1e6:.1f} MB"
    return f"{title}\n\n{about}\n\n{_table(head, table)}"


def _lesser(report: Report, rows: list[Row]) -> str:
    """One table of the lesser jobs: a row a peer, a column a job."""
    head = {
        "latency": "encode 100 characters, µs",
        "count": "count, MB/s",
        "decode": "decode, MB/s",
        "short": "short strings, MB/s",
        "padded": "short strings padded, MB/s",
        "one": "one long document, MB/s",
    }
    found = {job: {row.peer: row for row in rows if row.job == job and row.seconds} for job in head}
    peers = list(dict.fromkeys(row.peer for row in rows if any(row.peer in of for of in found.values())))
    if not peers:
        return ""
    table = []
    for peer in peers:
        cells = []
        for job, of in found.items():
            row = of.get(peer)
            if row is None:
                cells.append("")
            elif job == "latency":
                cells.append(f"{median(row.seconds) * 1e6:.2f}{mark(report, row)}")
            else:
                cells.append(_rate(row) + mark(report, row))
        table.append([peer, *cells])
    return _table(["", *head.values()], table)


def _scaling(report: Report) -> str:
    """How many times as fast all threads are as one; measured one after the other, not in turn."""
    rates = {
        (row.corpus, row.peer, row.threads): (median(row.rates), mark(report, row))
        for row in report.rows
        if row.job == "encode warm"
    }
    counts = sorted({threads for _, _, threads in rates})
    if len(counts) < 2:
        return ""
    corpora, least, most = list(report.corpora), counts[0], counts[-1]
    table = []
    for peer in dict.fromkeys(peer for _, peer, _ in rates):
        cells = []
        for corpus in corpora:
            few, many = rates.get((corpus, peer, least)), rates.get((corpus, peer, most))
            cells.append(_times(many[0] / few[0], many[1]) if few and many else "")
        table.append([peer, *cells])
    return f"## Warm rate with {most} threads over {least}\n\n" + _table(["", *corpora], table)


def _hard(report: Report) -> str:
    if not report.hard:
        return ""
    peers = list(dict.fromkeys(entry["peer"] for entry in report.hard))
    rates = {(entry["text"], entry["size"], entry["peer"]): entry for entry in report.hard}
    sizes = [size for size in SIZES if any(key[1] == size for key in rates)]
    table = []
    for text in texts():
        cells = []
        for peer in peers:
            for size in sizes:
                entry = rates.get((text, size, peer))
                flag = _mark(report, peer, entry["agrees"]) if entry else ""
                cells.append(f"{entry['rate']:.3g}{flag}" if entry else "")
            cells.append(_times(linearity(report, text, peer), ""))
        table.append([text, *cells])
    head = [""]
    for peer in peers:
        head += [f"{peer}, {size}" for size in sizes] + ["dearer in one"]
    about = (
        "MB/s on one thread, first pass of a fresh process. The last column of each library: how many times "
        "as dear a byte is in one document of 10 MB as in a hundred of 100 KB; 1 is linear.\n\n"
        + "\n".join(f"- {line}" for line in LEGEND.values())
    )
    return f"## Hard text\n\n{about}\n\n{_table(head, table)}"


def _differences(report: Report) -> str:
    if not report.differences:
        return ""
    lines = []
    for entry in report.differences:
        where = f"**{entry['peer']}**, {entry['corpus']}, {entry['threads']} thread(s): "
        if "reason" in entry:
            lines.append(f"- {where}{entry['reason']}")
            continue
        lines.append(
            f"- {where}{entry['documents']} of {entry['of']} documents differ; first document "
            f"{entry['first_document']} at token {entry['first_token']}: expected {entry['expected']}, "
            f"got {entry['got']}"
        )
    return "## Where ids differ from SentencePiece's\n\n" + "\n".join(lines)


def _absent(report: Report) -> str:
    lines = [f"- {peer}: {reason}" for peer, reason in report.absent.items()]
    lines += [f"- {what}: {reason}" for what, reason in report.failures.items()]
    return "## Not measured\n\n" + "\n".join(lines) if lines else ""


def _calls(report: Report) -> str:
    table = [
        [peer, str(known["version"]), f"`{known['call']}`", f"{median(known['load_seconds']) * 1e3:.0f}"]
        for peer, known in report.peers.items()
        if "call" in known
    ]
    return "## What was called\n\n" + _table(["", "version", "call", "load, ms"], table) if table else ""


def _rate(row: Row) -> str:
    """Show the median with its spread."""
    rates = row.rates
    return f"{median(rates):.1f} ({min(rates):.1f}–{max(rates):.1f})"


def _times(ratio: float | None, flag: str) -> str:
    if ratio is None or not math.isfinite(ratio):
        return ""
    return f"{ratio:.2f}{flag}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def plot(report: Report, stem: Path) -> list[Path]:
    """Warm throughput with all threads, a panel a corpus, as PNG and SVG; nothing without matplotlib."""
    rows = [row for row in report.rows if row.job == "encode warm"]
    if not rows:
        return []
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    from matplotlib import pyplot

    threads = max(row.threads for row in rows)
    rows = [row for row in rows if row.threads == threads]
    corpora = list(dict.fromkeys(row.corpus for row in rows))
    figure, panels = pyplot.subplots(1, len(corpora), figsize=(5 * len(corpora), 4), squeeze=False)
    for corpus, axes in zip(corpora, panels[0], strict=True):
        shown = sorted((row for row in rows if row.corpus == corpus), key=lambda row: median(row.rates))
        values = [median(row.rates) for row in shown]
        names = [row.peer + mark(report, row) for row in shown]
        colours = [_colour(report, row) for row in shown]
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(
            bars, [f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in values], padding=3
        )
        axes.set_title(corpus)
        axes.set_xlabel("MB/s")
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"warm, {threads} threads" if threads > 1 else "warm, one thread")
    marks = {mark(report, row) for row in rows} - {""}
    figure.text(0.01, 0.005, "   ".join(LEGEND[flag] for flag in sorted(marks)), fontsize=7)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    files = [stem.with_suffix(f".{kind}") for kind in ("png", "svg")]
    for file in files:
        figure.savefig(file, dpi=150)
    pyplot.close(figure)
    return files


def _colour(report: Report, row: Row) -> str:
    if row.peer.startswith("llamatok"):
        return "#c8553d"
    return "#b8c4cc" if mark(report, row) else "#5b7b94"
