"""The arithmetic of a benchmark: percentiles, medians over rounds, ratios, and whether a number holds. Pure."""

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import median
from typing import Literal

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """What one round of one load on one contender gave."""

    requests: int
    errors: int
    seconds: float
    p50_s: float
    p99_s: float
    cpu_s: float = 0.0  # of all processes of the contender

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.errors) / self.seconds if self.seconds else 0.0

    @property
    def cpu_us(self) -> float:
        """Processor microseconds a request, over all processes of the contender."""
        return self.cpu_s / self.requests * 1e6 if self.requests else 0.0


class Figure(msgspec.Struct, frozen=True):
    """One line of the report. `hold` is what it must keep to, with the side in `keep`; without it, it only informs."""

    what: str
    value: float
    unit: str = ""
    hold: float | None = None
    keep: Literal["at least", "at most", ""] = ""
    note: str = ""

    @property
    def verdict(self) -> Literal["pass", "MISSED", ""]:
        """Whether the figure keeps what it must."""
        if self.hold is None:
            return ""
        kept = self.value >= self.hold if self.keep == "at least" else self.value <= self.hold
        return "pass" if kept else "MISSED"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of `values` that at least `share` (0–1) of them do not exceed; 0 for no values."""
    ranked = sorted(values)
    return ranked[max(0, ceil(share * len(ranked)) - 1)] if ranked else 0.0


def over_rounds(samples: Sequence[Sample]) -> Sample:
    """Return the median of every number over the rounds (errors: all of them, none must hide in a median)."""
    return Sample(
        requests=round(median(sample.requests for sample in samples)),
        errors=sum(sample.errors for sample in samples),
        seconds=median(sample.seconds for sample in samples),
        p50_s=median(sample.p50_s for sample in samples),
        p99_s=median(sample.p99_s for sample in samples),
        cpu_s=median(sample.cpu_s for sample in samples),
    )


def ratio_over_rounds(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios inside each round: what a neighbour does to one round, it does to both."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True) if other]
    return median(ratios) if ratios else 0.0


def turn(names: Sequence[str], round_number: int) -> list[str]:
    """Return the order of the contenders in a round: each begins in turn, so that none always runs first."""
    shift = round_number % len(names) if names else 0
    return [*names[shift:], *names[:shift]]


def table(samples: Mapping[str, Sequence[Sample]]) -> list[list[str]]:
    """Return rows of text for one load: contender, requests/s, p50, p99, CPU a request, errors."""
    rows = [["", "req/s", "p50 ms", "p99 ms", "CPU µs/req", "errors"]]
    for name, rounds in samples.items():
        middle = over_rounds(rounds)
        rate = median(sample.rate for sample in rounds)
        cpu_us = median(sample.cpu_us for sample in rounds)
        rows.append(
            [
                name,
                f"{rate:,.0f}",
                f"{middle.p50_s * 1e3:.3f}",
                f"{middle.p99_s * 1e3:.3f}",
                f"{cpu_us:.0f}",
                str(middle.errors),
            ]
        )
    return rows
