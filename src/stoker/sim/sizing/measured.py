"""What an engine takes, from what a platform measured of it minute by minute: lines by least squares.

Where the minutes do not tell a batch of one from a batch of ten, nothing is believed to be won by batching, and nothing
by batches smaller than those that were seen: a plan may ask for too much then, never for too little.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from stoker.sim.platform import plan

# Of what a line is fitted over, standard deviation by mean; less says nothing about its slope.
VARIATION_MIN: Final = 0.15
READING_MAX: Final = 0.9  # of an engine's time; a minute with more had a backlog, or took several prompts at once


class Line(NamedTuple):
    """What something takes by its size: `base_s + more_s * size`, and `least_s` at least."""

    base_s: float
    more_s: float
    least_s: float = 0.0


class Batches(NamedTuple):
    """A minute of calls: how many requests were in them, rows of a call on average, and what a call took."""

    requests: float
    rows: float
    call_s: float


class Generation(NamedTuple):
    """A minute of a language model: means of its requests, and how many a second came to one replica."""

    requests: float
    prompt_tokens: float
    prefill_s: float
    output_tokens: float
    decode_s: float
    per_s: float


def batching(minutes: Sequence[Batches], max_rows: int, calls_s: Sequence[float] = ()) -> plan.Batching:
    """Return an engine that runs one batch after the other. calls_s: quantiles of what they took, at even shares."""
    weights = [each.requests for each in minutes]
    call = line([each.rows for each in minutes], [each.call_s for each in minutes], weights)
    mean_s = sum(calls_s) / max(len(calls_s), 1)
    spread = tuple(each / mean_s for each in calls_s) if mean_s else ()
    return plan.Batching(call.base_s, call.more_s, max_rows, spread, call.least_s)


def generating(minutes: Sequence[Generation], slots: int, chunk_tokens: int = 512) -> plan.Generating:
    """Return an engine with continuous batching: what a token takes by the sequences beside it, and to read one.

    Who writes stands still while the prompts of others are read: for a share `per_s * prefill_s` of its time. That is
    simulated, so it must not be in what is fitted. Who waits to be read is not in prefill. By Little's law
    `per_s * decode_s` others write beside a request.
    """
    weights = [each.requests for each in minutes]
    running = [1.0 + _others(each, slots) for each in minutes]
    tokens_s = [
        each.decode_s * (1.0 - min(each.per_s * each.prefill_s, READING_MAX)) / max(each.output_tokens - 1.0, 1.0)
        for each in minutes
    ]
    step = line(running, tokens_s, weights)
    found = plan.Generating(slots, step.base_s, step.more_s, 0.0, chunk_tokens, least_s=step.least_s)
    read_s = [_read_s(each, found) for each in minutes]
    return replace(found, read_token_s=float(np.average(read_s, weights=weights)))


def _others(minute: Generation, slots: int) -> float:
    """Return how many sequences are written beside one."""
    return min(minute.per_s * minute.decode_s, slots - 1.0)


def _read_s(minute: Generation, engine: plan.Generating) -> float:
    """Return what reading a token takes by itself: a prompt rides on steps that write for the others."""
    tokens = max(minute.prompt_tokens, 1.0)
    steps_s = math.ceil(tokens / engine.chunk_tokens) * engine.pace_s(_others(minute, engine.slots))
    return max(minute.prefill_s - steps_s, 0.0) / tokens


def line(across: Sequence[float], up: Sequence[float], weights: Sequence[float]) -> Line:
    """Return a line through weighted points; it neither begins below 0 nor falls.

    Where the points do not tell, it is through 0, and as high as they are on average at the least.
    """
    x, y, w = np.array(across), np.array(up), np.array(weights)
    mean_x, mean_y = float(np.average(x, weights=w)), float(np.average(y, weights=w))
    spread = float(np.average((x - mean_x) ** 2, weights=w))
    if spread**0.5 < VARIATION_MIN * mean_x:
        return Line(0.0, mean_y / max(mean_x, 1e-9), mean_y)
    slope = float(np.average((x - mean_x) * (y - mean_y), weights=w)) / spread
    slope = min(max(slope, 0.0), mean_y / mean_x)
    return Line(max(mean_y - slope * mean_x, 0.0), slope)
