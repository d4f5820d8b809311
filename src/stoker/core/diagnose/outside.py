"""Causes that sit in a place or come from outside: a replica, a revision, the network, a dependency, one request."""

from collections.abc import Sequence
from typing import Final

from stoker.core.diagnose.finding import (
    Finding,
    error_line,
    factor_line,
    harm_share,
    load_share,
    not_of_one,
    phase_line,
    queue_lines,
)
from stoker.core.diagnose.locate import Spot, stalled, worst
from stoker.core.diagnose.scale import percent, ramp
from stoker.core.diagnose.shift import Shift
from stoker.core.diagnose.window import PHASES, WORK, Change

# A change is suspected while what got worse began at most this long after it: a rollout's last replica is ready, and
# its first slow answers are counted, within that.
SUSPECT_S: Final = 240.0
EARLY_S: Final = 60.0  # an onset is found to the step of a series, so it may seem to come before its change
BY_TIME_ALONE: Final = 0.7  # what the coincidence of a change and an onset is worth, however exact
_CAUSING: Final = ("version", "config", "traffic")
# What a worse configuration cannot have done: the waiting for others belongs to them.
_OWN: Final = tuple(phase for phase in PHASES if phase not in ("receive", "auth", "admit", "network", "dependency"))


def bad_replica(shift: Shift) -> Finding:
    """One replica, or all of one node, do worse than their peers of the same revision; and did not before.

    Or one stood still, which needs no peers to be seen.
    """
    still = stalled(shift.bad, shift.base)
    found = []
    for axis in ("node", "replica"):
        spot = worst(shift.bad, axis)
        before = worst(shift.base, axis)
        known = before.score if before.name == spot.name else 0.0
        found.append((spot.score * (1 - known), axis, spot))
    score, axis, spot = max(found, key=lambda each: each[0])
    excess = _excess_share(shift, spot, axis)
    alone_score, alone_axis, alone = found[-1]
    # A node with one bad replica among good ones is no bad node: the replica carries all that the node does.
    if alone_score >= 0.8 * score and _excess_share(shift, alone, alone_axis) >= 0.8 * excess:
        score, axis, spot, excess = alone_score, alone_axis, alone, _excess_share(shift, alone, alone_axis)
    if still.name and (still.score > score or still.name == spot.name):
        score, spot = max(still.score, score), _joined(still, spot)
        if len(shift.bad.of("replica")) == 1:  # nothing that came meanwhile was answered in time
            excess = harm_share(shift, latency=1.0, errors=1.0, refusals=1.0)
        else:
            excess = max(excess, _excess_share(shift, spot, "replica"), 0.5 * still.score)
        axis = "replica"
    return Finding(
        "bad_replica",
        score,
        excess,
        (*spot.evidence, *queue_lines(shift)),
        where=f"{axis} {spot.name}" if spot.name else "",
        affected_ratio=spot.share,
    )


def _joined(still: Spot, spot: Spot) -> Spot:
    """Return what stood still, with what else is seen of the same replica."""
    more = spot.evidence if spot.name == still.name else ()
    return Spot(still.name, still.score, still.share, (*still.evidence, *more))


def _excess_share(shift: Shift, spot: Spot, axis: str) -> float:
    """Return how much of the harm the part that stands out carries."""
    part = shift.bad.of("node" if axis == "node" else "replica").get(spot.name)
    if part is None:
        return 0.0
    error_share = part.errors / shift.bad.errors if shift.bad.errors > 0 else 0.0
    added = max(shift.bad.latency.sum - shift.base.latency.mean * shift.bad.latency.count, 1e-9)
    usual_s = shift.base.latency.mean
    latency = max(part.time_s - part.requests * usual_s, 0.0) / added
    queued = shift.added("queue", "admit", "replica_queue") * shift.pressure.share("pace", "together")
    return harm_share(shift, latency=latency + queued, errors=error_share, refusals=shift.pressure.share("pace"))


def change(shift: Shift, changes: Sequence[Change], onset_s: float) -> Finding:
    """A revision does worse than the others that serve beside it; or everything got worse just after a change."""
    spot = worst(shift.bad, "revision")
    usual = shift.base.of("revision")
    was = usual[spot.name].requests / max(shift.base.requests, 1.0) if spot.name in usual else 0.0
    grew = ramp(spot.share - was, 0.02, 0.05)
    arm = spot.score * grew
    near = [one for one in changes if one.kind in _CAUSING and -EARLY_S <= onset_s - one.at_s <= SUSPECT_S]
    own = [one for one in near if arm > 0 and one.subject == spot.name]  # not the way back that came after it
    suspect = max(own or near, key=lambda one: one.at_s, default=None)
    lines = [*spot.evidence] if arm > 0 else []
    if suspect is not None:
        lines.append(f"{suspect.what}, {_ago(onset_s - suspect.at_s)}")
    broken = max(ramp(shift.pace, 0.2, 0.6), 1.0 if shift.harm.errors > 0 else 0.0)
    by_time = BY_TIME_ALONE * broken if suspect is not None else 0.0
    errors = shift.bad.of("revision").get(spot.name)
    arm_errors = errors.errors / shift.bad.errors if errors is not None and shift.bad.errors > 0 else 1.0
    accounts = load_share(shift, "pace", "together", "work", phases=_OWN)
    return Finding(
        "change",
        max(arm, by_time, min(arm + 0.2, 1.0) if arm > 0 and suspect is not None else 0.0),
        max(accounts, harm_share(shift, errors=arm_errors, latency=shift.added(*WORK), quality=arm)),
        (*lines, *error_line(shift), *factor_line("time for the same work", shift.pace), *queue_lines(shift)),
        where=f"revision {spot.name}" if arm > 0 else "",
        affected_ratio=spot.share if arm > 0 else 1.0,
    )


def _ago(seconds: float) -> str:
    if seconds < 0:
        return "as it began"
    return f"{seconds:.0f} s before it began" if seconds >= 1 else "just before it began"


def network(shift: Shift) -> Finding:
    """Time on the way between gateway and replica."""
    now = shift.bad.phase_s("network")
    grown = ramp(now / max(shift.base.phase_s("network"), 1e-4), 2.0, 6.0)
    own = shift.added("network")
    # Requests under way hold their places, so a slow network queues too.
    queued = shift.added("queue", "admit") * ramp(own, 0.05, 0.3) * 0.8
    return Finding(
        "network",
        grown * ramp(own, 0.05, 0.4),
        harm_share(shift, latency=own + queued, errors=0.3, refusals=ramp(own, 0.05, 0.3)),
        phase_line(shift, "network"),
    )


def dependency(shift: Shift) -> Finding:
    """Something that is called for an answer is slow or fails."""
    now = shift.bad.signals.dependency_errors
    failing, failed = 0.0, 0.0
    lines = list(phase_line(shift, "dependency"))
    if now is not None and shift.bad.requests > 0:
        share = now / shift.bad.requests
        usual = (shift.base.signals.dependency_errors or 0.0) / max(shift.base.requests, 1.0)
        failing = ramp(share - usual, 0.005, 0.05)
        failed = now / shift.bad.errors if shift.bad.errors > 0 else 0.0
        if failing:
            lines.append(f"{percent(share)} of the requests had a call fail, {percent(usual)} before")
    own = shift.added("dependency")
    slow = ramp(own, 0.05, 0.4)
    queued = shift.added("queue", "admit", "replica_queue") * slow * 0.9
    return Finding(
        "dependency",
        max(slow, failing),
        harm_share(shift, latency=own + queued, errors=max(failed, 0.8 * slow), refusals=slow),
        tuple(lines),
    )


def poison(shift: Shift) -> Finding:
    """Replicas die of a request, one after the other."""
    # Who was killed for its memory died of that.
    deaths = (shift.bad.signals.restarts or 0.0) - (shift.bad.signals.memory_deaths or 0.0)
    if deaths <= 0:
        return Finding("poison")
    usual = (shift.base.signals.restarts or 0.0) / shift.base.seconds * shift.bad.seconds
    quarantined = shift.bad.signals.quarantined or 0.0
    # Who was never ready had no request to die of. Of those that were, the newest need not be back yet. One that stood
    # still was killed for that.
    starts = shift.bad.signals.starts
    ready = deaths if starts is None else min(deaths, starts + 1)
    many = ramp(ready - 2 * usual, 0.0, 3.0) * (1.0 if quarantined else not_of_one(shift))
    lines = [f"{deaths:.0f} replicas died in {shift.bad.seconds / 60:.0f} min, {usual:.1f} in such a time before"]
    if quarantined:
        lines.append(f"{quarantined:.0f} request shapes are in quarantine")
    # Without a verdict of the quarantine the deaths may have any cause, memory before all.
    signal = many * (1.0 if quarantined else 0.45)
    replicas = shift.added("queue", "admit", "replica_queue") * shift.pressure.share("replicas", "repeats", "pace")
    accounts = harm_share(shift, latency=max(replicas, 0.5), errors=1.0, refusals=0.8, deaths=1.0)
    return Finding("poison", signal, accounts, (*lines, *queue_lines(shift)))
