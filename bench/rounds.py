"""Alternating rounds: every contender takes the same load in turn, so that what a neighbour does hits all of them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench import load
from bench.figures import Sample, over_rounds, turn
from bench.servers import Contender


@dataclass(frozen=True)
class Effort:
    """How much is measured: a quick run shows the order of things, a whole one is for the documentation."""

    rounds: int
    seconds: float  # of one load in one round
    streams: int = 1  # chat requests in one round, at the least
    starts: int = 1
    soak_s: float = 3600.0


def say(text: str) -> None:
    """Tell whoever waits what is going on."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def alternate(
    contenders: Sequence[Contender], what: load.Load, *, rounds: int, warm_s: float = 1.0
) -> dict[str, list[Sample]]:
    """Return one sample a round for every contender, by name."""
    by_name = {contender.name: contender for contender in contenders}
    for contender in contenders:
        load.warm_up(contender, what, warm_s)
    samples: dict[str, list[Sample]] = {name: [] for name in by_name}
    for number in range(rounds):
        for name in turn(list(by_name), number):
            samples[name].append(load.run(by_name[name], what))
    for name, taken in samples.items():
        middle = over_rounds(taken)
        say(
            f"  c={what.connections:<4} {name:<18} {middle.rate:>9,.0f} req/s   p50 {middle.p50_s * 1e3:8.3f} ms   "
            f"p99 {middle.p99_s * 1e3:8.3f} ms   {middle.cpu_us:5.0f} µs CPU   {middle.errors} errors"
        )
    return samples
