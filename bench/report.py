"""What a run of the benchmark found, as text for a terminal, JSON for machines and Markdown for the documentation."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.figures import Figure

RESULTS = Path(__file__).parent / "results"


class Section(msgspec.Struct, frozen=True):
    """One room of the benchmark: figures that hold or not, and the tables they came from (first row: headings)."""

    title: str
    figures: list[Figure]
    tables: dict[str, list[list[str]]] = {}


class Report(msgspec.Struct, frozen=True):
    """A whole run."""

    command: str
    machine: dict[str, str]
    sections: list[Section]
    taken_at: str = ""

    @property
    def missed(self) -> list[Figure]:
        """The figures that do not hold."""
        return [figure for section in self.sections for figure in section.figures if figure.verdict == "MISSED"]


def _value(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def figure_rows(figures: Sequence[Figure]) -> list[list[str]]:
    """Return figures as a table of text."""
    rows = [["what", "measured", "hold", "", "note"]]
    for figure in figures:
        sign = {"at least": "≥ ", "at most": "≤ ", "": ""}[figure.keep]
        hold = f"{sign}{_value(figure.hold)} {figure.unit}".strip() if figure.hold is not None else ""
        rows.append([figure.what, f"{_value(figure.value)} {figure.unit}".strip(), hold, figure.verdict, figure.note])
    return _without_empty_columns(rows)


def _without_empty_columns(rows: list[list[str]]) -> list[list[str]]:
    used = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:]) or at < 2]
    return [[row[at] for at in used] for row in rows]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines of a terminal; columns of numbers alone (headings aside) stand to the right."""
    columns = []
    for column in zip(*rows, strict=True):
        width = max(len(cell) for cell in column)
        to_right = all(_is_number(cell) for cell in column[1:])
        columns.append([cell.rjust(width) if to_right else cell.ljust(width) for cell in column])
    return "\n".join("  " + "   ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _is_number(cell: str) -> bool:
    return not cell or cell[0] in "-≥≤0123456789"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def text(report: Report) -> str:
    """Return the report for a terminal."""
    parts = [aligned([["measured on", " "], *([name, f" {value}"] for name, value in report.machine.items())])]
    for section in report.sections:
        parts.append(f"\n{section.title}\n")
        parts.extend(f"  {name}\n{aligned(rows)}\n" for name, rows in section.tables.items())
        if section.figures:
            parts.append(aligned(figure_rows(section.figures)))
    count = len(report.missed)
    parts.append(f"\n{count} {'number' if count == 1 else 'numbers'} missed" if count else "\nall numbers hold")
    return "\n".join(parts)


def markdown(report: Report) -> str:
    """Return the measured part of docs/benchmarks.md."""
    parts = [
        f"Measured {report.taken_at} with `{report.command}` on:",
        "",
        markdown_table([["", ""], *([name, value] for name, value in report.machine.items())]),
    ]
    for section in report.sections:
        parts.extend(["", f"## {section.title}", ""])
        if section.figures:
            parts.extend([markdown_table(figure_rows(section.figures)), ""])
        for name, rows in section.tables.items():
            parts.extend([f"{name}:", "", markdown_table(rows), ""])
    return "\n".join(parts).rstrip() + "\n"


def write(report: Report) -> Path:
    """Write the report as JSON and Markdown below bench/results and return the JSON's path."""
    RESULTS.mkdir(exist_ok=True)
    name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path = RESULTS / f"{name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    path.with_suffix(".md").write_text(markdown(report))
    return path
