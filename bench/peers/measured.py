"""The arithmetic of a comparison of gateways: the table, and what stoker must hold against them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal

from bench.figures import Figure, Sample, ratio_over_rounds

Kind = Literal["relay", "proxy", "router", "litellm", "other"]
DIRECT: Final = "upstream itself"
STOKER: Final = "stoker"


@dataclass(frozen=True)
class Measured:
    """One round of one gateway."""

    tiny: Sample
    ttft_p50_s: float
    ttft_p99_s: float
    chunks_a_second: float
    gap_p99_s: float
    rss_mb: float  # of all its processes, at the peak of the many streams
    failed: int  # streams of all

    def __str__(self) -> str:
        return (
            f"{self.tiny.rate:>8,.0f} req/s   {self.tiny.cpu_us:5.0f} µs CPU   "
            f"TTFT p50 {self.ttft_p50_s * 1e3:.2f} p99 {self.ttft_p99_s * 1e3:.2f} ms   "
            f"{self.chunks_a_second:>7,.0f} chunks/s   gap p99 {self.gap_p99_s * 1e3:.1f} ms   "
            f"{self.rss_mb:.0f} MB   {self.failed} failed"
        )


def median_of(rounds: Sequence[Measured]) -> Measured:
    """Return the round of median throughput with the medians of the rest; failures of all rounds."""
    tiny = sorted((one.tiny for one in rounds), key=lambda sample: sample.rate)[len(rounds) // 2]
    return Measured(
        tiny,
        median(one.ttft_p50_s for one in rounds),
        median(one.ttft_p99_s for one in rounds),
        median(one.chunks_a_second for one in rounds),
        median(one.gap_p99_s for one in rounds),
        max(one.rss_mb for one in rounds),
        sum(one.failed for one in rounds),
    )


@dataclass(frozen=True)
class Row:
    """A gateway, stoker and the upstream itself in the same rounds."""

    name: str
    kind: Kind
    theirs: list[Measured]
    ours: list[Measured]
    direct: list[Measured]

    @property
    def ratio(self) -> float:
        """How many times this gateway's requests a second stoker answered, inside the same rounds."""
        return ratio_over_rounds([one.tiny.rate for one in self.ours], [one.tiny.rate for one in self.theirs])


@dataclass
class Found:
    """What a run found: a row for each gateway that ran, and why the others did not."""

    rows: list[Row] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    processes_mb: dict[str, float] = field(default_factory=dict)  # of stoker, by name

    def add(self, name: str, kind: Kind, taken: dict[str, list[Measured]]) -> None:
        """Note the rounds of one gateway with those of stoker and the upstream between them."""
        self.rows.append(Row(name, kind, taken[name], taken[STOKER], taken[DIRECT]))

    @property
    def ours(self) -> list[Measured]:
        """All rounds of stoker."""
        return [one for row in self.rows for one in row.ours]

    @property
    def direct(self) -> list[Measured]:
        """All rounds of the upstream itself."""
        return [one for row in self.rows for one in row.direct]


def added_ms(rounds: Sequence[Measured], direct: Sequence[Measured]) -> tuple[float, float]:
    """Return by how many milliseconds p50 and p99 of the first token are later than the upstream's: inside rounds."""
    pairs = list(zip(rounds, direct, strict=True))
    return (
        median(one.ttft_p50_s - limit.ttft_p50_s for one, limit in pairs) * 1e3,
        median(one.ttft_p99_s - limit.ttft_p99_s for one, limit in pairs) * 1e3,
    )


def table(found: Found) -> list[list[str]]:
    """Return the rows of text; a gateway that did not run says why."""
    heads = ["tiny req/s", "CPU µs/req", "TTFT p50 ms", "TTFT p99 ms", "chunks/s", "gap p99 ms", "RSS MB", "failed"]
    rows = [["", *heads, "note"]]
    if found.rows:
        rows.append([DIRECT, *_cells(found.direct), ""])
        rows.append([STOKER, *_cells(found.ours), ""])
    rows.extend([row.name, *_cells(row.theirs), f"stoker: {row.ratio:.3g} × its req/s"] for row in found.rows)
    rows.extend([name, *[""] * len(heads), why] for name, why in found.absent.items())
    return rows


def _cells(rounds: Sequence[Measured]) -> list[str]:
    middle = median_of(rounds)
    return [
        f"{middle.tiny.rate:,.0f}",
        f"{middle.tiny.cpu_us:.0f}",
        f"{middle.ttft_p50_s * 1e3:.2f}",
        f"{middle.ttft_p99_s * 1e3:.2f}",
        f"{middle.chunks_a_second:,.0f}",
        f"{middle.gap_p99_s * 1e3:.1f}",
        f"{middle.rss_mb:,.0f}",
        str(middle.failed + sum(one.tiny.errors for one in rounds)),
    ]


def figures(found: Found) -> list[Figure]:
    """Return what stoker must hold. A comparison with nobody is left out: it would pass for no reason."""
    shown = []
    routers = [row for row in found.rows if row.kind == "router"]
    if routers:
        best = min(routers, key=lambda row: row.ratio)
        shown.append(Figure("req/s against the best router in Rust", best.ratio, "×", 1.5, "at least", best.name))
    others = [row for row in found.rows if row.kind == "litellm"]
    if others:
        best = min(others, key=lambda row: row.ratio)
        shown.append(Figure("req/s against LiteLLM", best.ratio, "×", 100, "at least", best.name))
    if found.rows:
        half, tail = added_ms(found.ours, found.direct)
        ours = median_of(found.ours)
        apart = ", ".join(f"{name} {mb:.0f}" for name, mb in sorted(found.processes_mb.items()))
        # What the streams go through; the others run beside it, and their memory is not of the streams.
        gateways_mb = [mb for name, mb in found.processes_mb.items() if name.startswith("gateway")]
        failed = ours.failed + sum(one.tiny.errors for one in found.ours)
        shown += [
            Figure("first token later, p50", half, "ms", 0.3, "at most"),
            Figure("first token later, p99", tail, "ms", 3, "at most"),
            Figure("memory of the gateway after all rounds (RSS)", max(gateways_mb), "MB", 80, "at most", apart),
            Figure("errors and failed streams in all rounds", failed, "", 0, "at most"),
        ]
    return shown
