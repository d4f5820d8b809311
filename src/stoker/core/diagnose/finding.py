"""What a scorer says of one cause, before the causes are weighed against each other."""

from typing import Final

import msgspec

from stoker.core.diagnose.causes import CauseKind
from stoker.core.diagnose.locate import stalled
from stoker.core.diagnose.scale import doublings, figure, percent, ramp, seconds
from stoker.core.diagnose.shift import Shift
from stoker.core.diagnose.window import QUEUES, Phase

WORDS: Final[dict[Phase, str]] = {
    "queue": "gateway queue",
    "replica_queue": "replica queue",
    "batch_wait": "batch wait",
    "dependency": "calls to dependencies",
}
# A cause that accounts for this much of the harm accounts for the incident: there is always some harm besides.
ENOUGH: Final = 0.6


class Finding(msgspec.Struct, frozen=True):
    """signal: how clearly the cause itself is seen; accounts: how much of the harm it can have done. Both 0–1."""

    kind: CauseKind
    signal: float = 0.0
    accounts: float = 0.0
    evidence: tuple[str, ...] = ()
    where: str = ""
    affected_ratio: float = 1.0

    @property
    def score(self) -> float:
        """What is seen, as far as it accounts for what is wrong."""
        return self.signal * ramp(self.accounts, 0.05, ENOUGH)


def not_of_one(shift: Shift) -> float:
    """Return what is left of a cause that one replica which stood still looks like, 0.15-1.

    What waited for it comes at once when it is replaced, finds nothing ready meanwhile, and misses a replica; the
    general way (MAKES) would make a cycle, for a new version that is slow makes replicas look bad.
    """
    return 1 - 0.85 * stalled(shift.bad, shift.base).score


def harm_share(
    shift: Shift,
    *,
    latency: float = 0.0,
    errors: float = 0.0,
    refusals: float = 0.0,
    quality: float = 0.0,
    deaths: float = 0.0,
) -> float:
    """Return which share of all harm a cause accounts for, given its share of each kind."""
    harm = shift.harm
    if harm.total <= 0:
        return 0.0
    return (
        harm.latency * min(latency, 1.0)
        + harm.errors * min(errors, 1.0)
        + harm.refusals * min(refusals, 1.0)
        + harm.quality * min(quality, 1.0)
        + harm.deaths * min(deaths, 1.0)
    ) / harm.total


def load_share(shift: Shift, *factors: str, phases: frozenset[Phase] | tuple[Phase, ...] = ()) -> float:
    """Return the harm of a cause that slows `phases` itself, and queues by its `factors` of the pressure."""
    queued = shift.pressure.share(*factors)
    latency = shift.added(*phases) + shift.added(*QUEUES) * queued
    # Load makes requests fail by making them late. Where none is late or refused, they fail for something else.
    late = max(shift.harm.latency, shift.harm.refusals)
    return harm_share(shift, latency=latency, refusals=queued, errors=0.5 * queued * late)


def phase_line(shift: Shift, phase: Phase) -> tuple[str, ...]:
    """Return `gateway queue p99 1.9 s against 20 ms` where the phase takes longer than before."""
    now, before = shift.bad.phases.get(phase), shift.base.phases.get(phase)
    if now is None or shift.added_s.get(phase, 0.0) <= 0 or shift.added(phase) < 0.05:
        return ()
    then = seconds(before.p99) if before is not None and before.count else "none"
    name = WORDS.get(phase, phase)
    return (f"{name} p99 {seconds(now.p99)} against {then} ({percent(shift.added(phase))} of the added time)",)


def queue_lines(shift: Shift) -> tuple[str, ...]:
    """Return a line for each queue that grew."""
    return phase_line(shift, "queue") + phase_line(shift, "replica_queue")


def factor_line(what: str, grown: float) -> tuple[str, ...]:
    """Return `arrivals: 2.5 times that of before` for a growth in doublings that is worth a word."""
    return (f"{what}: {figure(2 ** min(grown, 60.0))} times that of before",) if grown >= 0.15 else ()


def error_line(shift: Shift) -> tuple[str, ...]:
    """Return which share of the requests fails, where more do than before."""
    if shift.harm.errors <= 0:
        return ()
    now, before = (each.errors / max(each.requests, 1.0) for each in (shift.bad, shift.base))
    return (f"{percent(now)} of the requests fail, {percent(before)} before",)


def rise(now: float | None, before: float | None) -> float:
    """Return the doublings between two measured numbers; 0 when one is missing."""
    return doublings(now, before) if now is not None and before is not None else 0.0
