"""The arithmetic of a comparison with predictive servers: the table, and what stoker must hold against them. Pure."""

from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal

from bench.figures import Figure, Sample, over_rounds, ratio_over_rounds

BUSY, ALONE = 64, 1  # connections
Kind = Literal["by hand", "framework", "own"]
BY_HAND: Final = "by hand"
FRAMEWORK: Final = "framework"
OWN: Final = "own"
STOKER, TWO_WORKERS = "stoker", "FastAPI + ORT, 2 workers"


@dataclass(frozen=True)
class Row:
    """A peer and stoker in the same rounds: samples by connections, and the peer's resident memory after load."""

    name: str
    kind: Kind
    theirs: dict[int, list[Sample]]
    ours: dict[int, list[Sample]]
    rss_mb: float

    def ratio(self, connections: int) -> float:
        """Return how many times the peer's requests a second stoker answered, inside the same rounds."""
        ours, theirs = self.ours[connections], self.theirs[connections]
        return ratio_over_rounds([one.rate for one in ours], [one.rate for one in theirs])

    def tail_ratio(self, connections: int) -> float:
        """Return stoker's p99 as a multiple of the peer's."""
        ours, theirs = self.ours[connections], self.theirs[connections]
        return ratio_over_rounds([one.p99_s for one in ours], [one.p99_s for one in theirs])


@dataclass
class Found:
    """What a run found: a row for each peer that ran, and why the others did not."""

    rows: list[Row] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    own_rss_mb: float = 0.0

    def own(self, connections: int) -> list[Sample]:
        """Return all rounds of stoker."""
        return [sample for row in self.rows for sample in row.ours[connections]]


def table(found: Found, connections: int) -> list[list[str]]:
    """Return the rows of text for one load; a peer that did not run says why."""
    rows = [["", "req/s", "p50 ms", "p99 ms", "CPU µs/req", "RSS MB", "errors", "stoker, same rounds"]]
    if found.rows:
        rows.append([*_cells(STOKER, found.own(connections), found.own_rss_mb), ""])
    rows.extend(
        [*_cells(row.name, row.theirs[connections], row.rss_mb), f"{row.ratio(connections):.2f} ×"]
        for row in found.rows
    )
    rows.extend([name, *[""] * 6, why] for name, why in found.absent.items())
    return rows


def _cells(name: str, samples: list[Sample], rss_mb: float) -> list[str]:
    middle = over_rounds(samples)
    return [
        name,
        f"{median(sample.rate for sample in samples):,.0f}",
        f"{middle.p50_s * 1e3:.3f}",
        f"{middle.p99_s * 1e3:.3f}",
        f"{median(sample.cpu_us for sample in samples):.0f}",
        f"{rss_mb:,.0f}",
        str(middle.errors),
    ]


def figures(found: Found) -> list[Figure]:
    """Return what stoker must hold. A comparison with nobody is left out: it would pass for no reason."""
    shown = []
    frameworks = [row for row in found.rows if row.kind == FRAMEWORK]
    others = [row for row in found.rows if row.kind != OWN]
    if frameworks:
        best = min(frameworks, key=lambda row: row.ratio(BUSY))
        shown.append(_at_least(f"req/s against the best framework, c = {BUSY}", best, BUSY, 3.0))
    shown.extend(
        _at_least(f"req/s against {row.name}, c = {BUSY}", row, BUSY, 1.2) for row in others if row.name == TWO_WORKERS
    )
    if others:
        worst = max(others, key=lambda row: row.tail_ratio(BUSY))
        tail = worst.tail_ratio(BUSY)
        shown.append(Figure(f"p99 against the lowest, c = {BUSY}", tail, "×", 1.0, "at most", worst.name))
        alone = min(others, key=lambda row: row.ratio(ALONE))
        shown.append(_at_least(f"req/s against the fastest, c = {ALONE}", alone, ALONE, 1.0))
    if frameworks:
        alone = min(frameworks, key=lambda row: row.ratio(ALONE))
        shown.append(_at_least(f"req/s against the fastest framework, c = {ALONE}", alone, ALONE, 1.0))
    if found.rows:
        cpu_us = median(sample.cpu_us for sample in found.own(BUSY))
        shown.append(Figure(f"CPU a request, all processes, c = {BUSY}", cpu_us, "µs", 110, "at most"))
        errors = sum(sample.errors for connections in (BUSY, ALONE) for sample in found.own(connections))
        shown.append(Figure("errors in all rounds", errors, "", 0, "at most"))
    return shown


def _at_least(what: str, row: Row, connections: int, hold: float) -> Figure:
    return Figure(what, row.ratio(connections), "×", hold, "at least", row.name)
