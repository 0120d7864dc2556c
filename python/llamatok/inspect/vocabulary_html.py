"""The report on a vocabulary as a page, with another one beside."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamatok.inspect.tokens_html import chip, escaped, fill

if TYPE_CHECKING:
    from llamatok.inspect.vocabulary import VocabularyReport

__all__ = ["page"]

#: How many pieces a list shows at most.
_MOST = 300
_BAR = 200

_PROOF = (
    "No text at all gives these pieces. Their own text, kept apart from everything else, is merged into "
    "other pieces; and with this model’s settings that proves it, since the best pair inside a piece does "
    "not depend on what stands around it."
)
_HINT = (
    "Their own text, kept apart from everything else, is merged into other pieces. This model may change "
    "text before merging, or has user-defined pieces, so that some other text may yet give them."
)


def page(report: VocabularyReport, beside: VocabularyReport | None = None) -> str:
    """A page that needs nothing else."""
    reports = [report] if beside is None else [report, beside]
    title = "Vocabulary of " + " and ".join(r.name for r in reports)
    sections = [_summary(reports), _measures(reports)]
    if beside is not None:
        sections.append(_compared(report, beside))
    sections += [_lengths(reports), _scripts(reports)]
    sections += [_unproduced(reports), _longest(reports), _settings(reports)]
    css = Path(__file__).with_name("tokens.css").read_text(encoding="utf-8")
    return fill("vocabulary.html", title=escaped(title), css=css, sections="\n".join(sections))


def _section(name: str, content: str, note: str = "") -> str:
    said = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{name}</h2>{said}{content}</section>"


def _each(reports: Sequence[VocabularyReport], content: Callable[[VocabularyReport], str]) -> str:
    """The same of each report, in columns under their names."""
    if len(reports) == 1:
        return content(reports[0])
    columns = (
        f'<div><h3 class="m{i}">{escaped(report.name)}</h3>{content(report)}</div>'
        for i, report in enumerate(reports)
    )
    return f'<div class="columns">{"".join(columns)}</div>'


def _summary(reports: Sequence[VocabularyReport]) -> str:
    def cards(report: VocabularyReport) -> str:
        facts = [
            (f"{len(report.pieces):,}", "pieces"),
            (f"{report.total().bytes_per_token:.2f}", "bytes per token"),
            (f"{sum(script.name != 'other letters' for script in report.scripts)}", "scripts"),
            (
                "?" if report.unproduced is None else f"{len(report.unproduced):,}",
                "never produced" if report.unproduced_is_proof else "not produced",
            ),
        ]
        kinds = ", ".join(f"{count:,} {kind.replace('_', '-')}" for kind, count in report.kinds.items())
        engine = escaped(str(report.settings["engine"]))
        shown = "".join(f"<div><b>{escaped(value)}</b> {what}</div>" for value, what in facts)
        return f'<div class="cards">{shown}</div><p class="note">{kinds}; {engine} engine</p>'

    return _section("At a glance", _each(reports, cards))


def _bars(values: Sequence[float], most: float) -> str:
    """A bar for each report, one below the other."""
    height = 12 if len(values) == 1 else 8
    rows = "".join(
        f'<rect class="m{i}" y="{i * (height + 1)}" width="{_BAR * value / most if most else 0:.1f}"'
        f' height="{height}"/>'
        for i, value in enumerate(values)
    )
    size = len(values) * (height + 1)
    return (
        f'<svg class="bar" aria-hidden="true" viewBox="0 0 {_BAR} {size}" height="{size}"'
        f' preserveAspectRatio="none">{rows}</svg>'
    )


def _table(header: Sequence[str], rows: Iterator[Sequence[str]], caption: str) -> str:
    """A table whose first column names the rows; what is a bar comes last."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _named(reports: Sequence[VocabularyReport], what: str) -> list[str]:
    """The heading of a column for each report."""
    if len(reports) == 1:
        return [what]
    return [f'<span class="m{i}">{escaped(r.name)}</span><br>{what}' for i, r in enumerate(reports)]


def _measures(reports: Sequence[VocabularyReport]) -> str:
    rows = [list(parts) for parts in zip(*([*r.measures, r.total()] for r in reports), strict=True)]
    most = max((m.bytes_per_token for row in rows for m in row), default=0)

    def cells() -> Iterator[Sequence[str]]:
        for row in rows:
            values = [m.bytes_per_token for m in row]
            yield [
                escaped(row[0].name),
                f"{row[0].bytes:,}",
                *(f"{m.tokens:,}" for m in row),
                *(f"<b>{value:.2f}</b>" for value in values),
                _bars(values, most),
            ]

    header = ["text", "bytes", *_named(reports, "tokens"), *_named(reports, "bytes per token"), ""]
    return _section(
        "Bytes per token",
        _table(header, cells(), "Bytes of UTF-8 per token, by text"),
        "The more, the fewer tokens a text takes. Scripts differ in bytes per letter (1 for English, 2 for "
        "Greek, 3 for Hindi and Chinese): compare vocabularies on a text, not texts with each other.",
    )


def _compared(left: VocabularyReport, right: VocabularyReport) -> str:
    from llamatok.inspect.vocabulary import compare

    found = compare(left, right)
    sizes = [len(found.only_left), found.common, len(found.only_right)]
    whole = sum(sizes) or 1
    names = [f"only in {left.name}", "common", f"only in {right.name}"]
    place, parts = 0.0, []
    for kind, size in zip(("m0", "both", "m1"), sizes, strict=True):
        width = 1000 * size / whole
        parts.append(f'<rect class="{kind}" x="{place:.1f}" width="{width:.1f}" height="26"/>')
        place += width
    label = ", ".join(f"{size:,} {name}" for name, size in zip(names, sizes, strict=True))
    key = "".join(
        f'<span><i class="{kind}"></i>{size:,} {escaped(name)}</span>'
        for kind, size, name in zip(("m0", "both", "m1"), sizes, names, strict=True)
    )
    picture = (
        f'<svg class="share" role="img" aria-label="{escaped(label)}" viewBox="0 0 1000 26"'
        f' preserveAspectRatio="none">{"".join(parts)}</svg><p class="key">{key}</p>'
    )
    lists = [
        f"<div><h3>{escaped(name)}</h3>{_pieces(report, ids)}</div>"
        for name, report, ids in ((names[0], left, found.only_left), (names[2], right, found.only_right))
    ]
    return _section("Pieces in common", f'{picture}<div class="columns">{"".join(lists)}</div>')


def _lengths(reports: Sequence[VocabularyReport]) -> str:
    longest = max((max(r.lengths, default=0) for r in reports), default=0)
    shown = min(longest, 32)
    columns = [
        [
            sum(n for length, n in r.lengths.items() if length == at or at == shown < length)
            for at in range(1, shown + 1)
        ]
        for r in reports
    ]
    most = max((max(column, default=0) for column in columns), default=0) or 1
    slot, height = 34, 200
    width = slot * shown + 10
    parts = []
    bar = (slot - 6) / len(reports)
    for at in range(shown):
        for i, column in enumerate(columns):
            size = height * column[at] / most
            x = 5 + at * slot + 3 + i * bar
            tip = (
                f"{column[at]:,} pieces of length {at + 1}{' and more' if at + 1 == shown < longest else ''}"
            )
            parts.append(
                f'<rect class="m{i}" x="{x:.1f}" y="{24 + height - size:.1f}" width="{bar - 1:.1f}"'
                f' height="{size:.1f}" rx="2"><title>{escaped(reports[i].name)}: {tip}</title></rect>'
            )
        middle = 5 + at * slot + slot / 2
        more = "+" if at + 1 == shown < longest else ""
        parts.append(f'<text x="{middle}" y="{height + 42}" text-anchor="middle">{at + 1}{more}</text>')
        if len(reports) == 1 and columns[0][at]:
            top = 18 + height - height * columns[0][at] / most
            parts.append(
                f'<text class="count" x="{middle}" y="{top:.1f}" text-anchor="middle">{columns[0][at]}</text>'
            )
    label = "; ".join(
        f"{r.name}: " + ", ".join(f"{n} of length {length}" for length, n in r.lengths.items())
        for r in reports
    )
    picture = (
        f'<div class="wide"><svg class="histogram" role="img" aria-label="{escaped(label)}"'
        f' viewBox="0 0 {width} {height + 50}" style="max-width:{width}px">'
        f'<line x1="0" x2="{width}" y1="{height + 24.5}" y2="{height + 24.5}"/>{"".join(parts)}</svg></div>'
    )
    return _section(
        "Lengths of pieces",
        picture,
        "In code points, a space included; normal and user-defined pieces. " + _key(reports),
    )


def _key(reports: Sequence[VocabularyReport]) -> str:
    if len(reports) == 1:
        return ""
    parts = (f'<span><i class="m{i}"></i>{escaped(r.name)}</span>' for i, r in enumerate(reports))
    return f'<span class="key">{"".join(parts)}</span>'


def _scripts(reports: Sequence[VocabularyReport]) -> str:
    found = [{script.name: script for script in r.scripts} for r in reports]
    names = sorted(
        {n for f in found for n in f}, key=lambda n: (-sum(f[n].pieces for f in found if n in f), n)
    )
    counts = {n: [f[n].pieces if n in f else 0 for f in found] for n in names}
    letters = {n: [f[n].letters if n in f else 0 for f in found] for n in names}
    most = max((max(c) for c in counts.values()), default=0)

    def cells() -> Iterator[Sequence[str]]:
        for name in names:
            yield [
                escaped(name),
                *(f"{count:,}" for count in counts[name]),
                *(f"{count:,}" for count in letters[name]),
                # The square root: one script has most pieces, and the others should be seen too.
                _bars([count**0.5 for count in counts[name]], most**0.5),
            ]

    without = "; ".join(
        (f"{escaped(r.name)}: " if len(reports) > 1 else "") + f"{r.without_letters:,} pieces have no letters"
        for r in reports
    )
    header = ["script", *_named(reports, "pieces"), *_named(reports, "letters"), ""]
    return _section(
        "Scripts",
        _table(header, cells(), "Pieces with letters of a script, and letters that are pieces themselves"),
        "By a letter’s name in Unicode. Letters: those that are pieces themselves; others "
        f"take bytes. Bars grow as the square root. {without}.",
    )


def _pieces(report: VocabularyReport, ids: Sequence[int]) -> str:
    if not ids:
        return '<p class="note">None.</p>'
    chips = "".join(chip(report.pieces[id], i) for i, id in enumerate(ids[:_MOST]))
    more = f'<p class="note">… and {len(ids) - _MOST:,} more</p>' if len(ids) > _MOST else ""
    return f'<div class="tokens" role="list" tabindex="0">{chips}</div>{more}'


def _unproduced(reports: Sequence[VocabularyReport]) -> str:
    def content(report: VocabularyReport) -> str:
        note = _PROOF if report.unproduced_is_proof else _HINT
        if report.unproduced is None:
            return (
                '<p class="note">Not known: no character can stand between a piece and its surroundings.</p>'
            )
        if not report.unproduced:
            return '<p class="note">None: each normal and user-defined piece comes out of its own text.</p>'
        count = f"{len(report.unproduced):,} piece{'' if len(report.unproduced) == 1 else 's'}"
        return f'<p class="note">{count}. {note}</p>{_pieces(report, report.unproduced)}'

    return _section("Pieces that are not produced", _each(reports, content))


def _longest(reports: Sequence[VocabularyReport]) -> str:
    return _section("Longest pieces", _each(reports, lambda report: _pieces(report, report.longest)))


def _settings(reports: Sequence[VocabularyReport]) -> str:
    def rows(settings: Mapping[str, Any]) -> Iterator[Sequence[str]]:
        for name, value in settings.items():
            if isinstance(value, dict):
                value = ", ".join(f"{key}: {part}" for key, part in value.items())
            text = _shown_value(value)
            yield [
                html.escape(name.replace("_", " ")),
                escaped(text if len(text) < 2000 else text[:2000] + "…"),
            ]

    def content(report: VocabularyReport) -> str:
        return _table(["setting", "value"], rows(report.settings), f"Settings of {escaped(report.name)}")

    return _section("Settings", _each(reports, content))


def _shown_value(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    # A space of its own would not be seen.
    plain = isinstance(value, str) and value == value.strip()
    return str(value) if plain else json.dumps(value, ensure_ascii=False)
