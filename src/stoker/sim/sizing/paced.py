"""How fast a language model is, found by simulating it: the pace at which what was measured would have come about.

What was measured was measured under load: who writes stood still while prompts of others were read, and several prompts
were read in one step. So no time of a request is a time of the engine. Instead the engine is looked for under which the
simulation of the same requests takes what they took (indirect inference), by a pattern search (Hooke, Jeeves 1961) over
the logarithms of what a step, a sequence in it and a token read take.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stoker.sim.arrivals import Arrivals
from stoker.sim.platform import plan
from stoker.sim.sizing import trial
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.demand import sampled
from stoker.sim.sizing.trial import Kind

Column = NDArray[np.float64]
Error = Callable[[plan.Generating], float]

STRIDE: Final = 0.35  # of the first moves: times 1.4
STRIDE_MIN: Final = 0.02
TRIALS_MAX: Final = 240
SHARES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
REQUESTS_MAX: Final = 600  # of a day: each trial simulates all of them
LEAST_S: Final = 1e-6  # of each of the three
SPLITS: Final = (0.1, 0.5, 0.9)  # of a step of one sequence, the share that is the sequence's, to begin from
# Moves of the three: each by itself, a step and a sequence in it against each other and together, and all of them.
MOVES: Final = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -1, 0), (1, 1, 0), (1, 1, 1))
SLACK_S: Final = 1e-3  # times below it are not told apart


def off(simulated: Sequence[Column], measured: Sequence[Column]) -> float:
    """Return by how much simulated times miss measured ones on average, as a logarithm; without an answer in both: 0.

    Each pair of columns has the same length and counts the same.
    """
    return sum(_off(*each) for each in zip(simulated, measured, strict=True))


def _off(simulated: Column, measured: Column) -> float:
    both = np.isfinite(simulated) & np.isfinite(measured)
    if not np.any(both):
        return math.inf
    logs = np.abs(np.log((simulated[both] + SLACK_S) / (measured[both] + SLACK_S)))
    lost = float(np.mean(np.isfinite(simulated) != np.isfinite(measured)))
    return float(np.mean(logs)) + lost


def paced(engine: plan.Generating, error: Error) -> plan.Generating:
    """Return the engine with the pace under which `error` is the least, looked for from that of `engine`.

    Where sequences cost beside a step is what a rough fit knows least, so the search begins from several splits.
    """
    one_s, left = engine.pace_s(1.0), TRIALS_MAX
    starts = [_with(engine, (one_s * (1.0 - share), one_s * share, engine.read_token_s)) for share in SPLITS]
    found = min(starts, key=error)
    least, stride = error(found), STRIDE
    while stride >= STRIDE_MIN and left > 0:
        moved = False
        for move in MOVES:
            for sign in (stride, -stride):
                tried = _moved(found, [sign * each for each in move])
                left -= 1
                if (missed := error(tried)) < least:
                    found, least, moved = tried, missed, True
                    break
        stride = stride if moved else stride / 2
    return found


def by_quantiles(
    kind: Kind, counted: Range, recorded: Arrivals, first_s: Sequence[float], token_s: Sequence[float]
) -> plan.Generating:
    """Return the engine of `kind` with the pace under which simulated requests take what was measured.

    Args:
        first_s: quantiles, at SHARES, of the time to the first token. token_s: of the mean time of the others.
    """
    engine = kind.engine
    assert isinstance(engine, plan.Generating)
    less = sampled(recorded, REQUESTS_MAX, states=trial.states((kind,), recorded))
    arrivals = less.draw(0)
    weights = less.weights(arrivals.at_s)
    others = np.maximum(arrivals.output_tokens - 1, 1)
    took = np.array(first_s), np.array(token_s)

    def error(tried: plan.Generating) -> float:
        lived = trial.lived(replace(kind, engine=tried), counted, arrivals, jumps=less.jumps)
        columns = lived.ttft_s, lived.writing_s / others
        return off([_quantiles(each, weights) for each in columns], took)

    return paced(engine, error)


def _quantiles(column: Column, weights: Column) -> Column:
    """Return the values of `column` at SHARES, each counted by its weight; infinite is last."""
    order = np.argsort(column, kind="stable")
    counted = np.cumsum(weights[order])
    at = np.searchsorted(counted, np.array(SHARES) * counted[-1])
    found: Column = column[order][np.minimum(at, len(column) - 1)]
    return found


def _moved(engine: plan.Generating, by: Sequence[float]) -> plan.Generating:
    values = (engine.step_s, engine.sequence_s, engine.read_token_s)
    return _with(engine, [value * math.exp(each) for value, each in zip(values, by, strict=True)])


def _with(engine: plan.Generating, values: Sequence[float]) -> plan.Generating:
    step_s, sequence_s, read_s = (max(each, LEAST_S) for each in values)
    return replace(engine, step_s=step_s, sequence_s=sequence_s, read_token_s=read_s, least_s=0.0)
