"""The whole diagnosis: is anything wrong, since when, and which causes explain it, each weighed against the others.

Every cause is scored by itself first (what is seen of it, as far as it accounts for the harm). Then causes explain
each other away along MAKES, from the roots down: a noisy tenant that is seen leaves little of the overload it makes.
"""

from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter
from typing import Final

import msgspec

from stoker.core.diagnose import capacity, demand, machine, outside
from stoker.core.diagnose.causes import EVIDENCE_MAX, KINDS, MAKES, REMEDIES, Cause, CauseKind
from stoker.core.diagnose.finding import Finding
from stoker.core.diagnose.shift import Harm, Shift, compare
from stoker.core.diagnose.window import Change, Phase, Window
from stoker.types.remedies import Act

CONFIDENCE_MAX: Final = 0.99
CONFIDENCE_MIN: Final = 0.08  # less is not shown
CAUSES_MAX: Final = 5
HARM_MIN: Final = 0.02
EXPLAINS: Final = 0.85  # of a consequence's score, taken by a cause that is certain

SCORERS: Final[tuple[Callable[[Shift], Finding], ...]] = (
    demand.overload,
    demand.retry_storm,
    demand.noisy_tenant,
    demand.request_mix,
    demand.length,
    demand.model_behaviour,
    capacity.scale_lag,
    capacity.cold_start,
    capacity.batching,
    capacity.saturation,
    capacity.gpu_saturation,
    capacity.memory,
    outside.bad_replica,
    outside.network,
    outside.dependency,
    outside.poison,
    machine.disk_full,
    machine.clock,
)

# What must have been measured for a cause to be judged at all; of the others, requests and their times are enough.
SEEN_BY: Final[dict[CauseKind, Callable[[Window], bool]]] = {
    "batching": lambda seen: seen.signals.batch_rows is not None,
    "saturation": lambda seen: seen.signals.cpu_pressure_ratio is not None or seen.signals.cpu_ratio is not None,
    "gpu_saturation": lambda seen: bool(seen.gpus),
    "disk_full": lambda seen: seen.signals.unwritable_ratio is not None or seen.signals.disk_short_ratio is not None,
    "clock": lambda seen: seen.signals.clock_stepped_s is not None,
    "memory": lambda seen: any(
        each is not None
        for each in (
            seen.signals.preemptions,
            seen.signals.kv_ratio,
            seen.signals.memory_ratio,
            seen.signals.gpu_memory_ratio,
            seen.signals.memory_pressure_ratio,
            seen.signals.memory_deaths,
        )
    ),
    "network": lambda seen: "network" in seen.phases,
    "scale_lag": lambda seen: seen.signals.replicas_ready is not None and seen.signals.replicas_wanted is not None,
    "cold_start": lambda seen: seen.signals.cold_requests is not None,
    "retry_storm": lambda seen: seen.signals.client_retries is not None,
    "noisy_tenant": lambda seen: bool(seen.of("tenant")),
    "bad_replica": lambda seen: bool(seen.of("replica")),
    "dependency": lambda seen: "dependency" in seen.phases or seen.signals.dependency_errors is not None,
    "poison": lambda seen: seen.signals.restarts is not None,
    "model_behaviour": lambda seen: any(
        each is not None for each in (seen.signals.drift, seen.signals.empty_outputs, seen.signals.repeating_outputs)
    ),
}


class Diagnosis(msgspec.Struct, frozen=True):
    """What is wrong and why. causes: likeliest first; none when nothing is wrong, or nothing that is known explains it.

    added_s: change of the mean seconds of a request in each phase. not_judged: causes of which nothing was measured.
    """

    is_wrong: bool
    harm: Harm
    since_s: float
    causes: tuple[Cause, ...] = ()
    added_s: dict[Phase, float] = {}
    not_judged: tuple[CauseKind, ...] = ()


class Explanation(msgspec.Struct, frozen=True):
    """A diagnosis and what it compared. Times are unix seconds.

    acts: what the endpoint's incident did by itself. next_act: what would be done now, "" for nothing; next_because:
    why, or why not. requests, base_requests: that came in the stretch that is judged, and in the other one; None: an
    older control does not say.
    """

    diagnosis: Diagnosis
    bad_from_s: float
    bad_until_s: float
    base_from_s: float
    base_until_s: float
    changes: tuple[Change, ...] = ()
    acts: tuple[Act, ...] = ()
    next_act: str = ""
    next_because: str = ""
    requests: float | None = None
    base_requests: float | None = None


def diagnose(bad: Window, base: Window, changes: Sequence[Change], onset_s: float | None = None) -> Diagnosis:
    """Return why `bad` is worse than `base`. `onset_s`: when it began, where that is known better than by the window.

    Total: windows without requests, or without most of the signals, give a diagnosis that says less.
    """
    since_s = bad.start_s if onset_s is None else onset_s
    shift = compare(bad, base)
    if shift.harm.worst < HARM_MIN:
        return Diagnosis(False, shift.harm, since_s, (), shift.added_s)
    findings = {each.kind: each for each in (scorer(shift) for scorer in SCORERS)}
    findings["change"] = outside.change(shift, changes, since_s)
    scores = weigh({kind: findings[kind].score for kind in KINDS})
    ranked = sorted((kind for kind in KINDS if scores[kind] >= CONFIDENCE_MIN), key=lambda kind: -scores[kind])
    causes = tuple(_cause(findings[kind], scores[kind], since_s) for kind in ranked[:CAUSES_MAX])
    blind = tuple(kind for kind in KINDS if kind in SEEN_BY and not SEEN_BY[kind](bad))
    return Diagnosis(True, shift.harm, since_s, causes, shift.added_s, blind)


def weigh(scores: dict[CauseKind, float]) -> dict[CauseKind, float]:
    """Return each score less what its own causes explain of it."""
    made_by: dict[CauseKind, list[CauseKind]] = {kind: [] for kind in KINDS}
    for cause, made in MAKES.items():
        for kind in made:
            made_by[kind].append(cause)
    left = dict.fromkeys(KINDS, 0.0)
    for kind in TopologicalSorter(made_by).static_order():
        left[kind] = scores.get(kind, 0.0)
        for cause in made_by[kind]:
            left[kind] *= 1 - EXPLAINS * left[cause]
    return left


def _cause(finding: Finding, confidence: float, since_s: float) -> Cause:
    return Cause(
        kind=finding.kind,
        confidence=round(min(confidence, CONFIDENCE_MAX), 3),
        evidence=finding.evidence[:EVIDENCE_MAX],
        since_s=since_s,
        where=finding.where,
        affected_ratio=round(min(max(finding.affected_ratio, 0.0), 1.0), 3),
        remedy=REMEDIES[finding.kind],
    )
