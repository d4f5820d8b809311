"""What the traces of a load say: the engine as it was just then, what is beside it, and the times to judge it by.

A load is cut into stretches, which take turns in two folds. Each fold is judged by what is fitted to the other: so
neighbours that slow a machine for a minute slow both, and nothing is judged by what it was fitted to.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Final

import msgspec
import numpy as np

from stoker.sim.arrivals import Arrivals
from stoker.sim.platform import plan
from stoker.sim.sizing import measured, paced, slowness, trial
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.trial import Column, Kind
from stoker.types.errors import InvalidInput
from stoker.types.starts import Took
from stoker.types.traces import Trace

STRETCH_S: Final = 1.0  # so that a burst of seconds is in both: what a machine has beside it changes with each
FOLDS: Final = 2
PACING_MIN: Final = 5  # traces
QUEUED_MIN: Final = 5  # of those that waited; fewer do not say what is beside them
ROUNDS: Final = 3
# Quantiles of how much longer calls take than their line says, and of what is beside them. So many that the slowest of
# hundreds is drawn as often as it was: between fewer it would be smeared over what was never as slow.
EVEN: Final = 401


class Traced(msgspec.Struct, frozen=True):
    """One request, as its gateway and its replica saw it. Times in seconds; infinite without an answer.

    number: its place in the load. began_at_s: unix time. beside_s: what was spent neither in a queue nor in the engine.
    waited_s: in the gateway, for a place.
    rows, call_s: of the call that answered it. prefill_s, decode_s: of a generated answer.
    """

    number: int
    ttft_s: float = math.inf
    latency_s: float = math.inf
    beside_s: float = 0.0
    rows: int = 0
    call_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    read_tokens: int = 0
    written_tokens: int = 0
    began_at_s: float = 0.0
    waited_s: float = 0.0


def traced(number: int, trace: Trace) -> Traced:
    """Return what a trace says of the request with this number."""
    timings, usage = trace.timings, trace.usage
    if trace.status != 200 or timings is None:
        return Traced(number, began_at_s=trace.began_at_s)
    queue_s = timings.queue_s
    if timings.prefill_s or queue_s:  # else the engine was free: the way from the socket to it
        queue_s += timings.batch_wait_s
    ttft_s = trace.first_byte_s or trace.seconds
    return Traced(
        number,
        ttft_s,
        trace.seconds,
        max(trace.seconds - trace.waited_s - queue_s - timings.compute_s, 0.0),
        timings.batch_rows,
        timings.compute_s,
        timings.prefill_s,
        timings.decode_s,
        max(usage.input_tokens - usage.cached_tokens, 1) if usage is not None else 0,
        usage.output_tokens if usage is not None else 0,
        trace.began_at_s,
        trace.waited_s,
    )


def fold(at_s: float) -> int:
    """Return in which fold a request is that came `at_s` after the beginning."""
    return int(at_s / STRETCH_S) % FOLDS


def fitted(kind: Kind, counted: Range, arrivals: Arrivals, traces: Sequence[Traced]) -> tuple[Kind, ...]:
    """Return, for each fold, `kind` with the engine and what is beside it as the traces of the other one say.

    Raises InvalidInput where these say too little.
    """
    answered = [each for each in traces if math.isfinite(each.latency_s)]
    return tuple(
        _fitted(kind, counted, arrivals, [each for each in answered if fold(arrivals.at_s[each.number]) != judged])
        for judged in range(FOLDS)
    )


def started(kinds: Sequence[Kind], starts: Sequence[Took]) -> tuple[Kind, ...]:
    """Return `kinds` with what starts took: those of the load, each by the others; where it had fewer than two, all.

    starts: all that are known, at any time.
    """
    since = [plan.Started(each.whole_s, each.at_s - kinds[0].began_s) for each in starts]
    during = [each for each in since if each.at_s >= 0.0]
    known = during if len(during) > 1 else since
    return tuple(replace(kind, starts=tuple(known)) for kind in kinds)


def _fitted(kind: Kind, counted: Range, arrivals: Arrivals, pacing: Sequence[Traced]) -> Kind:
    if len(pacing) < PACING_MIN:
        raise InvalidInput(f"{len(pacing)} requests left a trace to set the pace by, too few: send for longer")
    known = replace(kind, around_s=_beside_s(pacing))
    queued = [each for each in pacing if each.waited_s > 0.0]
    if len(queued) >= QUEUED_MIN:  # they came all at once, many to a replica that had just begun
        at_once = [each for each in pacing if not each.waited_s]
        known = replace(known, around_s=_beside_s(at_once or queued), around_queued_s=_beside_s(queued))
    match kind.engine:
        case plan.Batching(max_rows=most):
            return replace(known, engine=_batching(pacing, most))
        case plan.Generating():
            return replace(known, engine=_generating(known, counted, arrivals, pacing))
        case _:
            return known


def _beside_s(pacing: Sequence[Traced]) -> tuple[float, ...]:
    return tuple(np.quantile([each.beside_s for each in pacing], np.linspace(0.0, 1.0, EVEN)).tolist())


def _batching(pacing: Sequence[Traced], max_rows: int) -> plan.Batching:
    calls = [measured.Batches(1.0, each.rows, each.call_s) for each in pacing if each.rows]
    line = measured.batching(calls, max_rows)
    longer = [each.call_s / line.call_s(round(each.rows)) for each in calls]
    spread = np.quantile(longer, np.linspace(0.0, 1.0, EVEN)).tolist()
    return measured.batching(calls, max_rows, spread)


def _generating(known: Kind, counted: Range, arrivals: Arrivals, pacing: Sequence[Traced]) -> plan.Generating:
    """Return the engine, and how fast its machine was when: found in turns, each given what the other was last."""
    assert isinstance(known.engine, plan.Generating)
    numbers = [each.number for each in pacing]
    first_s, whole_s = (np.array([getattr(each, name) for each in pacing]) for name in ("ttft_s", "latency_s"))
    writing_s = whole_s - first_s

    def lived(engine: plan.Generating) -> tuple[Column, Column]:
        found = trial.lived(replace(known, engine=engine), counted, arrivals)
        return found.ttft_s[numbers], found.writing_s[numbers]

    def error(engine: plan.Generating) -> float:
        return paced.off(lived(engine), (first_s, writing_s))

    # Who waited for a place waited for others; only what took an engine's time says how fast that was.
    waited_s = np.array([each.latency_s - each.beside_s - each.prefill_s - each.decode_s for each in pacing])
    is_alone = waited_s < first_s / 2
    came_s = arrivals.at_s[numbers]
    found = paced.paced(_rough(known.engine, pacing), error)
    for _ in range(ROUNDS):
        read_s, wrote_s = lived(found)
        when_s = np.concatenate([came_s + first_s + writing_s / 2, (came_s + first_s / 2)[is_alone]])
        simulated_s, took_s = (
            np.concatenate([writing, reading[is_alone]])
            for writing, reading in ((wrote_s, read_s), (writing_s, first_s))
        )
        more = slowness.spells(when_s, simulated_s, took_s, arrivals.duration_s)
        before = found.slowness or (1.0,) * len(more)
        slower = tuple(one * other for one, other in zip(before, more, strict=True))
        found = paced.paced(replace(found, slowness=slower), error)
    return found


def _rough(engine: plan.Generating, pacing: Sequence[Traced]) -> plan.Generating:
    """Return where to begin to look for the pace: what those took who had the engine nearly for themselves."""
    token_s = np.quantile([each.decode_s / max(each.written_tokens - 1, 1) for each in pacing], 0.1)
    read_s = median(each.prefill_s / max(each.read_tokens, 1) for each in pacing)
    return replace(engine, step_s=float(token_s), sequence_s=0.0, read_token_s=read_s, least_s=0.0)
