"""Which of the engines that can run a model is taken, from what was measured of them and what the endpoint is for."""

from collections.abc import Sequence

import msgspec

from stoker.types.engines import EngineMeasurement, Goal

# Closer than this is a tie: measurements of a few seconds on a shared machine differ by as much between themselves.
TIE_RATIO = 0.10


class Chosen(msgspec.Struct, frozen=True):
    """The engine, and why it."""

    engine: str
    because: str


class NoneWorks(msgspec.Struct, frozen=True):
    """No candidate could be measured; `because` has each one's reason."""

    because: str


def choose(rows: Sequence[EngineMeasurement], goal: Goal) -> Chosen | NoneWorks:
    """Return the engine of `rows` that serves `goal` best. `rows` are in order of preference, which decides ties.

    `latency`: the shortest time to the whole answer of one request alone. `throughput`: the most tokens a second with
    all slots busy. A row with an error is never taken.
    """
    working = [row for row in rows if not row.error and _score(row, goal) > 0]
    if not working:
        reasons = [f"{row.engine}: {row.error or 'it made no tokens'}" for row in rows]
        return NoneWorks("; ".join(reasons) or "no engine can run this model")
    best = max(working, key=lambda row: _score(row, goal))
    taken = next(row for row in working if _score(row, goal) >= _score(best, goal) * (1 - TIE_RATIO))
    others = [row for row in rows if row.engine != taken.engine]
    words = [f"{_words(taken, goal)} for {goal}"]
    for row in others:
        if row.error:
            words.append(f"{row.engine} cannot run it ({row.error.splitlines()[0]})")
        else:
            tie = ", a tie" if row is best else ""
            words.append(f"{row.engine} {_words(row, goal)}{tie}")
    return Chosen(taken.engine, "; ".join(words))


def _score(row: EngineMeasurement, goal: Goal) -> float:
    """Return how well a row serves `goal`; more is better, 0 is not at all."""
    if goal == "throughput":
        return row.tokens_per_s
    return 1 / row.answer_s if row.answer_s > 0 else 0.0


def _words(row: EngineMeasurement, goal: Goal) -> str:
    if goal == "throughput":
        return f"{row.tokens_per_s:.0f} tokens/s with {row.slots} at once"
    return f"{row.answer_s:.2f} s an answer alone"
