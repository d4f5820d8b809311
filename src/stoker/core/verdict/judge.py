"""One verdict of all that is watched in a rollout: abort, hold or promote, and why.

What aborts is surely worse: the chance that a revision as good as the one that serves is ever aborted is at most
`alpha`, for the whole rollout with all its metrics, cohorts and looks. The e-values of all lines are one as their
weighted mean, whose mean is at most 1 too; it aborts at 1/α. That is never later than giving each line its part of α.

What weight a line has is fixed before its first look and never changes, or the mean would be none. The kinds of events
that are watched are known when a rollout begins. Metrics of judges come whenever they come: each takes the next part of
a reserve of their own, 1/(k·(k + 1)) of it for the k-th, whose sum is bounded however many come.

What promotes was seen to be good: enough requests, for long enough, and nothing suspicious. Too little traffic is no
evidence, and holds.
"""

from collections.abc import Iterable, Sequence
from math import exp
from typing import Final, Literal

import msgspec

from stoker.core.verdict.excess import Excess
from stoker.core.verdict.odds import Odds, Tally
from stoker.core.verdict.spread import LATER_THAN, Buckets, Spread, gap
from stoker.types.rollouts import BAD_EVENTS

COHORTS_MAX: Final = 20  # that are judged, each with its part of the weight; those after them count for everybody only
SUSPICIOUS_RATIO: Final = 10.0  # promoting wants an e-value so many times under the one that aborts
EVERYBODY: Final = ""
# Parts of the weight: bad events of everybody, latencies of everybody, bad events of cohorts, metrics of judges.
WEIGHT_EVENTS: Final = 0.6
WEIGHT_LATENCY: Final = 0.1
WEIGHT_COHORTS: Final = 0.15
WEIGHT_JUDGES: Final = 0.15
DISAGREEMENT: Final = "disagreement"
_LOG_E_MAX: Final = 500.0
_NO_COPIES: Final = Tally()

# inconclusive: what a rollout makes of a hold that lasts too long (core/rollout/inconclusive.py).
Verdict = Literal["abort", "hold", "promote", "inconclusive"]


class Criteria(msgspec.Struct, frozen=True):
    """What a rollout asks for.

    alpha: the chance of aborting what is as good as the baseline. tolerated: odds of bad events, in times the
    baseline's, that nobody minds; at least 1. gap_max: the share of requests that may be late besides those that
    always are. disagree_max: the share of copied requests that may be answered differently. requests_min, dwell_s: of
    the canary, in the step that runs, before it may be promoted.
    """

    alpha: float = 0.01
    tolerated: float = 1.0
    gap_max: float = 0.05
    disagree_max: float = 0.02
    requests_min: int = 500
    dwell_s: float = 60.0


class Look(msgspec.Struct, frozen=True):
    """What was counted of one kind of bad event since the look before. cohort: whose; EVERYBODY for all."""

    metric: str
    canary: Tally
    baseline: Tally
    cohort: str = EVERYBODY


class Line(msgspec.Struct, frozen=True):
    """All that was seen of one metric of one cohort."""

    metric: str
    cohort: str
    odds: Odds = Odds()
    canary: Tally = Tally()
    baseline: Tally = Tally()


class Memory(msgspec.Struct, frozen=True):
    """What one rollout has seen so far, a line a metric a cohort; a value, so that whoever judges can die and go on."""

    lines: tuple[Line, ...] = ()
    spread: Spread = Spread()
    disagreed: Excess = Excess()
    copies: Tally = Tally()  # of a shadow, with how many were answered differently


class Finding(msgspec.Struct, frozen=True):
    """What one line says. e: its e-value. part: of what aborts, in times; 1 aborts alone."""

    metric: str
    cohort: str
    e: float
    part: float
    because: str


class Judgement(msgspec.Struct, frozen=True):
    """The verdict, a sentence, what it is made of (worst first), and the memory for the next look."""

    verdict: Verdict
    because: str
    findings: tuple[Finding, ...]
    memory: Memory


def judge(
    memory: Memory,
    looks: Sequence[Look],
    latencies: tuple[Buckets, Buckets],
    criteria: Criteria,
    *,
    metrics: int,
    step: Tally,
    step_s: float,
    copies: Tally = _NO_COPIES,
) -> Judgement:
    """Return the verdict after one more look.

    Args:
        looks: one for each metric of everybody, and of each cohort that had requests.
        latencies: of the canary and of the baseline since the look before, counts by bucket.
        metrics: how many kinds of bad events are watched, fixed for the rollout; those of judges are none of them.
        step: the canary's requests since this step began.
        step_s: seconds since then.
        copies: of a shadow since the look before, with how many were answered differently; it is one of `metrics`.
    """
    seen = Memory(
        _seen(memory.lines, looks, criteria.tolerated),
        memory.spread.seen(*latencies, criteria.gap_max),
        memory.disagreed.seen(copies, criteria.disagree_max),
        memory.copies + copies,
    )
    found = findings(seen, criteria, metrics)
    return Judgement(*_verdict(found, criteria, step, step_s), found, seen)


def findings(seen: Memory, criteria: Criteria, metrics: int) -> tuple[Finding, ...]:
    """Return what each line of what was seen says, the worst first; `metrics` as for judge."""
    found = [
        _finding(each, weight * criteria.alpha)
        for each, weight in zip(seen.lines, weights(seen.lines, metrics), strict=True)
    ]
    found += _of_latency(seen.spread, WEIGHT_LATENCY / len(LATER_THAN) * criteria.alpha, criteria.alpha)
    if seen.copies.total:
        found.append(_of_copies(seen, WEIGHT_EVENTS / metrics * criteria.alpha, criteria.disagree_max))
    return tuple(sorted(found, key=lambda each: (-each.part, each.metric, each.cohort)))


def weights(lines: Iterable[Line], metrics: int) -> list[float]:
    """Return the weight of each line, in the order in which they came; `metrics` as for judge."""
    found, judges = [], 0
    for each in lines:
        if each.cohort:
            found.append(WEIGHT_COHORTS / (metrics * COHORTS_MAX))
        elif each.metric in BAD_EVENTS:
            found.append(WEIGHT_EVENTS / metrics)
        else:
            judges += 1
            found.append(WEIGHT_JUDGES / (judges * (judges + 1)))
    return found


def _verdict(findings: Sequence[Finding], criteria: Criteria, step: Tally, step_s: float) -> tuple[Verdict, str]:
    part = sum(each.part for each in findings)
    worst = findings[0].because
    if part >= 1.0:
        return "abort", worst
    if step.total < criteria.requests_min:
        return "hold", f"{step.total} of {criteria.requests_min} requests of this step have come to the canary"
    if step_s < criteria.dwell_s:
        return "hold", f"{step_s:.0f} of {criteria.dwell_s:.0f} s of this step are over"
    if part >= 1.0 / SUSPICIOUS_RATIO:
        return "hold", f"not sure yet: {worst}"
    return "promote", f"{step.total} requests in {step_s:.0f} s, and nothing is worse than before"


def _seen(lines: Iterable[Line], looks: Iterable[Look], tolerated: float) -> tuple[Line, ...]:
    by_key = {(each.metric, each.cohort): each for each in lines}
    cohorts = {cohort for _, cohort in by_key if cohort}
    for look in looks:
        if look.cohort and look.cohort not in cohorts:
            if len(cohorts) >= COHORTS_MAX:
                continue
            cohorts.add(look.cohort)
        key = (look.metric, look.cohort)
        line = by_key.get(key) or Line(look.metric, look.cohort)
        by_key[key] = Line(
            line.metric,
            line.cohort,
            line.odds.seen(look.canary, look.baseline, tolerated),
            line.canary + look.canary,
            line.baseline + look.baseline,
        )
    return tuple(by_key.values())


def _finding(line: Line, alpha: float) -> Finding:
    whose = f" of {line.cohort}" if line.cohort else ""
    e = exp(min(line.odds.log_e, _LOG_E_MAX))
    because = f"{line.metric}{whose}: {_rate(line.canary)} in the canary, {_rate(line.baseline)} before"
    return Finding(line.metric, line.cohort, e, e * alpha, because)


def _of_copies(seen: Memory, alpha: float, allowed: float) -> Finding:
    e = exp(min(seen.disagreed.log_e, _LOG_E_MAX))
    because = f"{_rate(seen.copies)} of the copied requests were answered differently; {allowed:.1%} may be"
    return Finding(DISAGREEMENT, EVERYBODY, e, e * alpha, because)


def _of_latency(spread: Spread, alpha: float, whole_alpha: float) -> list[Finding]:
    seen = gap(spread.canary, spread.baseline, whole_alpha)
    sure = f", {seen.surely:.1%} for sure," if seen.surely > 0.0 else ""
    because = f"latency: {seen.ratio:.1%} fewer requests{sure} are done within {2.0 ** (seen.bucket / 8):.3g} s"
    e_values = [exp(min(each.log_e, _LOG_E_MAX)) for each in spread.odds]
    return [
        Finding(f"later than {ratio:.0%}", EVERYBODY, e, e * alpha, because)
        for ratio, e in zip(LATER_THAN, e_values, strict=True)
    ]


def _rate(tally: Tally) -> str:
    share = tally.bad / tally.total if tally.total else 0.0
    return f"{tally.bad} of {tally.total} ({share:.2%})"
