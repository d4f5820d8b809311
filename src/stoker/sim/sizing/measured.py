"""What an engine takes, from what a platform measured of it minute by minute: lines by least squares.

Where the minutes do not tell a batch of one from a batch of ten, nothing is believed to be won by batching: a plan may
ask for too much then, never for too little.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from stoker.sim.platform import plan

# Of what a line is fitted over, standard deviation by mean; less says nothing about its slope.
VARIATION_MIN: Final = 0.15


class Batches(NamedTuple):
    """A minute of calls: how many requests were in them, rows of a call on average, and what a call took."""

    requests: float
    rows: float
    call_s: float


class Generation(NamedTuple):
    """A minute of a language model: means of its requests, and how many sequences one of them ran among, itself too."""

    requests: float
    prompt_tokens: float
    prefill_s: float
    output_tokens: float
    decode_s: float
    running: float


def batching(minutes: Sequence[Batches], max_rows: int, calls_s: Sequence[float] = ()) -> plan.Batching:
    """Return an engine that runs one batch after the other. calls_s: quantiles of what they took, at even shares."""
    base_s, row_s = line([each.rows for each in minutes], [each.call_s for each in minutes], _weights(minutes))
    mean_s = sum(calls_s) / max(len(calls_s), 1)
    return plan.Batching(base_s, row_s, max_rows, tuple(each / mean_s for each in calls_s) if mean_s else ())


def generating(minutes: Sequence[Generation], slots: int) -> plan.Generating:
    """Return an engine with continuous batching: what a token takes by the sequences beside it, and to read one."""
    weights = _weights(minutes)
    running = [each.running for each in minutes]
    # Alone: what the steps of others take between is simulated.
    base_s, more_s = line(running, [each.prefill_s / max(each.prompt_tokens, 1.0) for each in minutes], weights)
    read_s = base_s + more_s
    tokens_s = [each.decode_s / max(each.output_tokens - 1.0, 1.0) for each in minutes]
    step_s, sequence_s = line(running, tokens_s, weights)
    return plan.Generating(slots, step_s, sequence_s, read_s)


def line(across: Sequence[float], up: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """Return where a line through weighted points begins, and its slope; neither is below 0."""
    x, y, w = np.array(across), np.array(up), np.array(weights)
    mean_x, mean_y = float(np.average(x, weights=w)), float(np.average(y, weights=w))
    spread = float(np.average((x - mean_x) ** 2, weights=w))
    if spread**0.5 < VARIATION_MIN * mean_x:
        return 0.0, mean_y / max(mean_x, 1e-9)
    slope = float(np.average((x - mean_x) * (y - mean_y), weights=w)) / spread
    slope = min(max(slope, 0.0), mean_y / mean_x)
    return max(mean_y - slope * mean_x, 0.0), slope


def _weights(minutes: Sequence[Batches] | Sequence[Generation]) -> list[float]:
    return [each.requests for each in minutes]
