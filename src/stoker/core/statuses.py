"""What is said of an endpoint: its conditions with reasons, in the engine's own words where it failed."""

from collections.abc import Mapping
from typing import Final

import msgspec

from stoker.core import conditions, sandbox
from stoker.core.conditions import GATES, PROGRESSING, READY, RELEASED, SANDBOXED, crash_message, is_crash_looping
from stoker.core.gate.law import DossierState
from stoker.core.pooling import Turn
from stoker.core.rollout.course import course
from stoker.core.rollout.release import REJECTED
from stoker.core.rollout.state import RolloutState
from stoker.core.scale.bounds import Closed
from stoker.core.snapshot import Assignment, EndpointState
from stoker.types.process import ProcessStatus
from stoker.types.statuses import Condition, EndpointStatus

PREEMPTED: Final = "Preempted"
TOOK: Final = " took its room; "


class Sight(msgspec.Struct, frozen=True):
    """What was seen of one endpoint. `blocked` and `problem` are sentences, None when all is well.

    `target` is the revision that is meant to serve in the end, "" before it was made; `asked` the one that the spec
    asks for: another one where that was taken back. `rollout` is the one that runs, or that took `asked` back;
    `processes` are all assignments.
    """

    target: str
    wanted_count: int
    processes: tuple[tuple[Assignment, ProcessStatus | None], ...]
    blocked: str | None = None  # no node has room
    is_idle: bool = False  # nobody asks, and none needs to run
    preempted_by: str = ""  # for whom replicas went just now
    problem: str | None = None  # the spec cannot be served
    start_failures: Mapping[str, str] = {}  # by replica
    asked: str = ""
    rollout: RolloutState | None = None
    rest: Turn | None = None  # why it has no replica because of others
    closed: Closed | None = None  # it may have none now
    release: DossierState | None = None  # how `asked` stands with its gates; None: it has none


class _Claim(msgspec.Struct, frozen=True):
    status: bool
    reason: str
    message: str


def endpoint_status(endpoint: EndpointState, sight: Sight, now_s: float) -> EndpointStatus:
    """Return the status of `endpoint`. Times in its messages would change it each second, so there are none."""
    serving = endpoint.serving or sight.target
    ready = _ready(sight, serving)
    claims = {READY: _readiness(endpoint, sight, serving), PROGRESSING: _progress(endpoint, sight)}
    if sight.release is not None:
        claims[RELEASED] = _released(sight, sight.release)
    told = (process.sandbox for _, process in sight.processes if process is not None)
    if (sandboxed := sandbox.condition(each for each in told if each is not None)) is not None:
        claims[SANDBOXED] = _Claim(sandboxed.status, sandboxed.reason, sandboxed.message)
    others = tuple(one for one in endpoint.status.conditions if one.type not in claims)  # said by who watches them
    return EndpointStatus(
        observed_generation=endpoint.generation,
        conditions=conditions.merge(
            endpoint.status.conditions,
            (Condition(kind, claim.status, claim.reason, claim.message, now_s) for kind, claim in claims.items()),
        )
        + others,
        revision=sight.asked or sight.target or endpoint.status.revision,
        serving=endpoint.serving,
        replicas_ready=ready,
        replicas_wanted=0 if endpoint.is_deleting else sight.wanted_count,
    )


def _readiness(endpoint: EndpointState, sight: Sight, serving: str) -> _Claim:
    ready = _ready(sight, serving)
    if endpoint.is_deleting:
        return _Claim(False, "Deleting", _leaving_message(sight))
    if not endpoint.serving and _is_held(sight) and (ready or _is_refused(sight)):
        return _release(sight.asked, sight.release)
    if ready:
        return _Claim(True, "ReplicasReady", f"{ready} of {sight.wanted_count} replicas of {serving} are ready")
    failing = _failing(sight, serving) or _failing(sight, sight.target)
    if failing is not None:
        return _Claim(False, _crash_reason(failing), crash_message(failing))
    unstarted = _unstarted(sight, serving) or _unstarted(sight, sight.target)
    if unstarted is not None:
        return _Claim(False, "StartFailed", unstarted)
    if sight.problem is not None and not serving:
        return _Claim(False, "Unservable", sight.problem)
    if sight.rest is not None and not _running(sight):
        reason = "WaitsForRoom" if sight.rest.is_waiting else "ScaledToZero"
        return _Claim(False, reason, sight.rest.because)
    if sight.closed is not None:
        return _Claim(False, "Closed", sight.closed.words)
    if sight.wanted_count == 0:
        is_off = not endpoint.resource.spec.replicas.max
        how = "replicas.max is 0; set it to 1 or more" if is_off else "nobody asks; the next request wakes it"
        return _Claim(False, "ScaledToZero", how)
    if sight.blocked is not None and not _wanted(sight, serving):
        if sight.is_idle and endpoint.serving not in ("", sight.target):
            how = f"nobody asks; the next request wakes {serving}, for {sight.target} has no room"
            return _Claim(False, "ScaledToZero", how)
        return _no_room(endpoint, sight.blocked, sight.preempted_by)
    if not serving:
        return _Claim(False, "Loading", "its first revision is being made")
    return _Claim(False, "Loading", _swapping(sight) or f"no replica of {serving} is ready yet")


def _progress(endpoint: EndpointState, sight: Sight) -> _Claim:
    if endpoint.is_deleting:
        return _Claim(True, "Deleting", _leaving_message(sight))
    if sight.problem is not None:
        return _Claim(False, "Unservable", sight.problem)
    if not endpoint.serving and _is_refused(sight):
        return _release(sight.asked, sight.release)
    failing = _failing(sight, sight.target)
    if failing is not None and is_crash_looping(failing):
        return _Claim(False, "CrashLoop", crash_message(failing))
    if sight.rollout is not None and sight.rollout.phase in REJECTED:
        return _taken_back(sight.rollout)
    if sight.blocked is not None:
        return _no_room(endpoint, sight.blocked, sight.preempted_by)
    unstarted = _unstarted(sight, sight.target)
    if unstarted is not None:
        return _Claim(False, "StartFailed", unstarted)
    if (
        sight.rollout is not None
        and (claim := _gating(sight, sight.rollout) or _rolling_out(sight.rollout)) is not None
    ):
        return claim
    ready = _ready(sight, sight.target)
    if not endpoint.serving and ready and _is_held(sight):
        return _Claim(True, "Gating", _release(sight.asked, sight.release).message)
    if endpoint.serving != sight.target or ready < sight.wanted_count:
        until = "" if endpoint.serving in ("", sight.target) else f"; {endpoint.serving} serves until all are"
        words = "" if failing is None else f"; {crash_message(failing)}"
        target = sight.target or "the next revision"
        return _Claim(True, "Starting", f"{ready} of {sight.wanted_count} replicas of {target} are ready{until}{words}")
    leaving = len(sight.processes) - min(len(_wanted(sight, sight.target)), sight.wanted_count)
    if leaving:
        return _Claim(True, "Draining", f"{_replicas(leaving)} finishing admitted requests")
    return _Claim(False, "Complete", f"{sight.target} serves with all {sight.wanted_count} replicas")


def no_room(status: EndpointStatus) -> str:
    """Return why the endpoint's last missing replica has no node; "" if it has one."""
    found = conditions.find(status.conditions, PROGRESSING)
    return found.message if found is not None and found.reason in ("NoCapacity", PREEMPTED) else ""


def _no_room(endpoint: EndpointState, blocked: str, preempted_by: str) -> _Claim:
    """Return that there is no room, and who has it that made replicas go, from then until all are back."""
    before = conditions.find(endpoint.status.conditions, PROGRESSING)
    if not preempted_by and before is not None and before.reason == PREEMPTED:
        preempted_by = before.message.partition(TOOK)[0]
    if preempted_by:
        return _Claim(False, PREEMPTED, f"{preempted_by}{TOOK}{blocked}")
    return _Claim(False, "NoCapacity", blocked)


def _released(sight: Sight, release: DossierState) -> _Claim:
    """Return how what the spec asks for stands with its gates; while it is taken back nobody asks them."""
    rollout = sight.rollout
    if release.state != "pending" or rollout is None or rollout.phase not in REJECTED:
        return _release(sight.asked, release)
    again = f"`stoker rollouts retry {rollout.endpoint}` has it judged by the gates of now"
    return _Claim(False, _taken_back(rollout).reason, f"{sight.asked} was taken back: {rollout.because}; {again}")


def _release(asked: str, release: DossierState | None) -> _Claim:
    if release is None or release.state == "complete":
        because = release.because if release is not None else "it has no gates"
        return _Claim(True, "Released", f"{asked} may take traffic: {because}")
    if release.state == "pending":
        return _Claim(False, release.reason, f"{asked}{GATES}{release.because}")
    return _Claim(False, release.reason, f"{asked} is refused: {release.because}")


def _is_held(sight: Sight) -> bool:
    return sight.release is not None and sight.release.state != "complete"


def _is_refused(sight: Sight) -> bool:
    return sight.release is not None and sight.release.state == "refused"


def _taken_back(rollout: RolloutState) -> _Claim:
    reason = "RolledBack" if rollout.phase == "rolled-back" else "Refused"
    words = f"{rollout.canary} was {'rolled back' if rollout.ended_s and reason == 'RolledBack' else 'refused'}"
    again = f"`stoker rollouts retry {rollout.endpoint}` tries it again"
    return _Claim(False, reason, f"{words}: {rollout.because}; {rollout.baseline} serves; {again}")


def _gating(sight: Sight, rollout: RolloutState) -> _Claim | None:
    """Return what gates it waits for, and who serves meanwhile; None where it waits for none."""
    if not _is_held(sight):
        return None
    held = _release(sight.asked, sight.release).message
    if rollout.phase == "gating":
        return _Claim(True, "Gating", f"{held}; {rollout.baseline} serves on")
    if rollout.phase == "scaling" and course(rollout.spec, rollout.strategy).clears:
        return _Claim(True, "Gating", f"{held}; requests wait")
    return None


def _swapping(sight: Sight) -> str:
    """Return for whom what served has gone, or goes; "" where both are there at once."""
    rollout = sight.rollout
    if rollout is None or rollout.phase not in ("clearing", "scaling"):
        return ""
    if not course(rollout.spec, rollout.strategy).clears:
        return ""
    gating = _gating(sight, rollout)
    return (
        gating.message if gating is not None else f"{rollout.baseline} makes room for {rollout.canary}; requests wait"
    )


def _rolling_out(rollout: RolloutState) -> _Claim | None:
    """Return what a rollout with steps does now; None where the replicas say it all."""
    way = course(rollout.spec, rollout.strategy)
    at = f"{rollout.canary} has {rollout.weight} % of the traffic"
    if way.steps:
        at = f"{at} (step {min(rollout.step + 1, len(way.steps))} of {len(way.steps)})"
    match rollout.phase:
        case "gating":
            return _Claim(True, "Gating", f"{rollout.canary} takes no traffic before its release is complete")
        case "awaiting":
            answers = f"`stoker rollouts approve {rollout.endpoint}`, or deny"
            return _Claim(True, "Awaiting", f"{rollout.canary} waits for approval: {rollout.because}; {answers}")
        case "clearing":
            return _Claim(True, "Clearing", f"{rollout.baseline} makes room for {rollout.canary}; requests wait")
        case "stepping":
            return _Claim(True, "RollingOut", f"{rollout.strategy}: {at}")
        case "paused":
            return _Claim(True, "Paused", f"{rollout.strategy}: {at}; `stoker rollouts resume {rollout.endpoint}`")
        case "returning":
            return _Claim(True, "Returning", f"back to {rollout.baseline}: {rollout.because}")
        case "reported":
            return _Claim(False, "Reported", f"{rollout.because}; {rollout.baseline} serves: promote or abort")
        case "keeping" if way.keep_s:
            return _Claim(True, "Keeping", f"{rollout.canary} serves; {rollout.baseline} stays warm for a while")
        case _:
            return None


def _wanted(sight: Sight, revision: str) -> list[ProcessStatus | None]:
    return [
        process
        for assignment, process in sight.processes
        if assignment.revision == revision and assignment.phase == "wanted"
    ]


def _running(sight: Sight) -> bool:
    return any(assignment.phase == "wanted" for assignment, _ in sight.processes)


def _ready(sight: Sight, revision: str) -> int:
    return sum(1 for process in _wanted(sight, revision) if process is not None and process.phase == "ready")


def _failing(sight: Sight, revision: str) -> ProcessStatus | None:
    """Return the replica of `revision` that crashed most, if one did and is not ready again."""
    crashed = [
        process
        for process in _wanted(sight, revision)
        if process is not None and process.phase != "ready" and process.crashes_in_row > 0
    ]
    return max(crashed, key=lambda process: (process.crashes_in_row, process.name), default=None)


def _unstarted(sight: Sight, revision: str) -> str | None:
    """Return why a wanted replica of `revision` could not even be started, if one could not."""
    for assignment, process in sight.processes:
        is_meant = assignment.revision == revision and assignment.phase == "wanted" and process is None
        if is_meant and assignment.replica in sight.start_failures:
            return f"replica could not be started: {sight.start_failures[assignment.replica]}"
    return None


def _crash_reason(process: ProcessStatus) -> str:
    return "CrashLoop" if is_crash_looping(process) else "Crashed"


def _leaving_message(sight: Sight) -> str:
    left = len(sight.processes)
    return f"{_replicas(left)} still finishing" if left else "all its replicas are gone"


def _replicas(count: int) -> str:
    return "1 replica is" if count == 1 else f"{count} replicas are"
