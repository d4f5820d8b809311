"""One turn of a rollout: what was seen → what happened → the next phase, the weights and the replicas of each arm.

Several events may follow each other in a turn (a baseline that is gone is cleared and scaled at once), none twice.
What takes traffic away comes first: a canary that crashes is not promoted because its step was over too.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from stoker.core.gate.law import DossierState
from stoker.core.rollout import inconclusive, reading
from stoker.core.rollout.course import Course, course, host, replicas
from stoker.core.rollout.reading import Since
from stoker.core.rollout.room import Room
from stoker.core.rollout.state import FINDINGS_SHOWN, Entry, RolloutState
from stoker.core.rollout.table import ENDED, TABLE, Event, Order, Phase, after
from stoker.core.verdict.judge import Criteria, Judgement, judge
from stoker.core.verdict.odds import Tally
from stoker.types.rollouts import BAD_EVENTS, Arms, Rollout, RolloutCounts
from stoker.types.units import parse_seconds

EVENTS_A_TURN_MAX: Final = 8
LOOK_ENTRY_S: Final = 15.0  # between two entries of a timeline that say only how it stands
_UNJUDGED: Final = ("gating", "awaiting", "returning", "reported", "keeping")


class Sight(msgspec.Struct, frozen=True):
    """What was seen of a rollout's endpoint in this turn.

    wanted: replicas in all. usual: as many ready ones are enough to take all of the traffic. baseline_left: replicas
    of the baseline that are anywhere, draining ones included; None while a node of theirs does not answer.
    baseline_is_out: each of its replicas was seen, and none is ready. crash: the words of a replica of the canary that
    crashed too often, or took too much memory. blocked: why one has no room. gone: why the endpoint asks for something
    else now. words: who gave the order, and why. gateways, posted: see reading.py. room: see room.py.
    """

    wanted: int
    usual: int
    canary_ready: int = 0
    baseline_ready: int = 0
    baseline_left: int | None = 0
    baseline_is_out: bool = False
    serves_canary: bool = False
    crash: str = ""
    blocked: str = ""
    gone: str = ""
    room: Room = Room()
    dossier: DossierState = DossierState()
    order: Order | None = None
    words: str = ""
    gateways: Mapping[str, RolloutCounts] = {}
    posted: Mapping[str, Arms] = {}


class Turn(msgspec.Struct, frozen=True):
    """The rollout after a turn; what is new in its timeline; when time alone makes something due."""

    state: RolloutState
    entries: tuple[Entry, ...] = ()
    again_s: float | None = None


def turn(state: RolloutState, sight: Sight, now_s: float) -> Turn:
    """Return the rollout after what was seen. `now_s`: unix seconds."""
    seen = reading.since(state.read, sight.gateways, sight.posted, slow=state.slow_s > 0.0)
    state, judgement = _judged(state, seen, now_s)
    entries: list[Entry] = []
    order = sight.order
    for _ in range(EVENTS_A_TURN_MAX):
        found = None if state.is_ended else _happened(state, sight, Evidence(seen, judgement, order), now_s)
        if found is None:
            break
        event, because = found
        if event == order:
            order = None
        state = _moved(state, event, because, now_s)
        judgement = None  # of the phase before
        entries.append(_entry(state, sight, event, because, now_s))
    if not entries and judgement is not None and not 0.0 <= now_s - state.told_s < LOOK_ENTRY_S:
        entries.append(_entry(state, sight, "look", judgement.because, now_s))
    if entries:
        state = msgspec.structs.replace(state, told_s=now_s)
    return Turn(state, tuple(entries), None if state.is_ended else _due_s(state, now_s))


class Evidence(msgspec.Struct, frozen=True):
    """What may end a phase: counts since the last look, what they mean, and what somebody said."""

    seen: Since
    judgement: Judgement | None
    order: Order | None


def wants(state: RolloutState, wanted: int) -> tuple[int, int]:
    """Return how many replicas of the canary and of the baseline shall run."""
    way = course(state.spec, state.strategy)
    old = state.baseline_count
    match state.held if state.phase == "paused" else state.phase:
        case "gating" | "awaiting":
            return (min(1, wanted) if not way.clears else 0, old)
        case "clearing":
            return (0, 0)
        case "returning":
            return (0 if way.clears or state.held != "keeping" else wanted, old)
        case "reported":
            return (0, old)
        case "scaling" | "stepping":
            whole = state.step >= len(way.steps)
            return (wanted if whole else replicas(way.steps[state.step], wanted), 0 if way.clears else old)
        case "keeping":
            return (wanted, old if way.keep_s else 0)
        case "promoted":
            return (wanted, 0)
        case _:
            return (0, old)


def _judged(state: RolloutState, seen: Since, now_s: float) -> tuple[RolloutState, Judgement | None]:
    """Return what the counts since the last look say; no judgement where nothing is compared."""
    way = course(state.spec, state.strategy)
    if state.is_ended or not way.steps or state.phase in _UNJUDGED:
        return state, None
    is_due = state.phase == "stepping" and now_s - state.since_s >= parse_seconds(state.spec.dwell)
    if not seen.is_new and not is_due:
        return state, None
    arrivals, asked = state.arrivals, state.asked
    if state.is_stepping:
        arrivals += seen.canary
        asked = (asked[0] + seen.asked[0], asked[1] + seen.asked[1])
    judgement = judge(
        state.memory,
        seen.looks,
        seen.latencies if way.mirror is None else ({}, {}),  # a copy waits behind those that somebody waits for
        criteria(state.spec),
        metrics=metrics_of(state),
        step=arrivals,
        step_s=now_s - state.since_s,
        copies=seen.copies,
    )
    after_look = msgspec.structs.replace(
        state,
        read=seen.read,
        memory=judgement.memory,
        findings=judgement.findings[:FINDINGS_SHOWN],
        arrivals=arrivals,
        asked=asked,
    )
    if judgement.verdict == "hold" and (why := inconclusive.why(after_look, judgement.because, now_s)):
        judgement = msgspec.structs.replace(judgement, verdict="inconclusive", because=why)
    return after_look, judgement


def metrics_of(state: RolloutState) -> int:
    """Return how many kinds of bad events are watched, the same from its beginning to its end."""
    is_mirrored = course(state.spec, state.strategy).mirror is not None
    return len(BAD_EVENTS) - (state.slow_s <= 0.0) + is_mirrored


def criteria(spec: Rollout) -> Criteria:
    """Return what a rollout is held to."""
    return Criteria(
        alpha=spec.false_aborts,
        tolerated=spec.tolerated,
        disagree_max=spec.mirror.disagree_max,
        requests_min=spec.requests_min,
        dwell_s=parse_seconds(spec.dwell),
    )


def _happened(state: RolloutState, sight: Sight, evidence: Evidence, now_s: float) -> tuple[Event, str] | None:
    """Return the one event that counts now, and why."""
    if sight.gone:
        return "superseded", sight.gone
    if evidence.order is not None and after(state.phase, evidence.order) is not None:
        return evidence.order, sight.words or f"asked to {evidence.order}"
    found = _worse(state, sight, evidence, now_s)
    return found if found is not None else _better(state, sight, evidence, now_s)


def _worse(state: RolloutState, sight: Sight, evidence: Evidence, now_s: float) -> tuple[Event, str] | None:
    """Return what takes the traffic away from the canary, if anything does."""
    way = course(state.spec, state.strategy)
    if after(state.phase, "crashed") is None or not way.is_guarded:
        return None
    seen, judgement = evidence.seen, evidence.judgement
    if sight.crash:
        return "crashed", sight.crash
    if seen.reverted:
        return "crashed", f"a gateway went back to {state.baseline} by itself: {seen.reverted}"
    if state.spec.first_failed and seen.all_failed >= state.spec.first_failed:
        return "worse", f"all of the first {seen.all_failed} requests of the canary failed"
    if judgement is not None and judgement.verdict == "abort":
        return "worse", judgement.because
    waits = state.phase in ("scaling", "clearing") or (state.phase == "gating" and not sight.canary_ready)
    if waits and now_s - state.since_s >= parse_seconds(state.spec.progress):
        return "stalled", sight.blocked or f"its replicas were not ready within {state.spec.progress}"
    return None


def _better(state: RolloutState, sight: Sight, evidence: Evidence, now_s: float) -> tuple[Event, str] | None:
    """Return what brings the rollout on, if anything does."""
    way, judgement = course(state.spec, state.strategy), evidence.judgement
    match state.phase:
        case "gating" if state.is_return:
            return "released", "a way back waits for nothing"
        case "gating" | "awaiting" if sight.dossier.state == "refused":
            return "refused", sight.dossier.because
        case "clearing" | "scaling" if way.clears and not state.is_return and sight.dossier.state == "refused":
            return "refused", sight.dossier.because
        case "gating":
            return _gated(state, sight.dossier, way)
        case "awaiting":
            return _unanswered(state, now_s)
        case "clearing" if sight.baseline_left == 0:
            return "cleared", f"no replica of {state.baseline} is left"
        case "scaling":
            return _scaled(state, sight, way)
        case "stepping" if judgement is not None and judgement.verdict == "promote":
            return ("passed" if way.promotes else "reported"), judgement.because
        case "stepping" if judgement is not None and judgement.verdict == "inconclusive":
            ending = inconclusive.ending(state.spec, promotes=way.promotes)
            return (ending, judgement.because) if ending is not None else None
        case "keeping" if now_s - state.since_s >= way.keep_s or sight.baseline_left == 0:
            return "kept", f"{state.canary} serves"
        case "returning" if _is_back(state, sight, way):
            return "returned", f"{state.baseline} serves"
        case _:
            return None


def _gated(state: RolloutState, dossier: DossierState, way: Course) -> tuple[Event, str] | None:
    """Return what follows from gates that are passed, as far as they can be."""
    swaps = way.clears and dossier.swaps
    if dossier.state != "complete" and not swaps:
        return None
    because = dossier.because or "it has no gates"
    holder = state.holder
    if state.holds and holder is not None:
        return "asked", f"{because}; {host(holder)} has {holder.within} to approve it"
    return ("measured" if swaps else "released"), because


def _is_back(state: RolloutState, sight: Sight, way: Course) -> bool:
    """Return whether the baseline has its traffic again; where its replicas had to go, requests wait for one."""
    kept_it = not sight.serves_canary and not way.clears
    return bool(sight.baseline_ready) or not state.baseline_count or kept_it


def _unanswered(state: RolloutState, now_s: float) -> tuple[Event, str] | None:
    """Return what follows when nobody has answered in time; also when nobody is asked any more."""
    holder = state.holder
    if holder is None:
        return "lapsed", "nobody has to approve it"
    if now_s - state.since_s < parse_seconds(holder.within):
        return None
    because = f"{host(holder)} did not approve it within {holder.within}"
    return (
        ("lapsed", f"{because}, and is not waited for") if holder.unanswered == "release" else ("unanswered", because)
    )


def _makes_room(sight: Sight, way: Course) -> bool:
    """Return whether what serves goes first after all; never for an a-b, which is to compare both."""
    return way.promotes and not way.clears and sight.room.is_idle and sight.room.is_cleared


def _scaled(state: RolloutState, sight: Sight, way: Course) -> tuple[Event, str] | None:
    if way.clears and sight.dossier.state != "complete" and not state.is_return:
        return None  # its gates are asked now, in the place of what served
    if _makes_room(sight, way):
        return "idle", f"nobody asks for {state.baseline}, and it holds the room that {state.canary} needs"
    if not sight.usual and sight.room.beside:
        return None  # it sleeps, and what would be woken then has no room
    needed, _ = wants(state, sight.wanted)
    ready = f"{sight.canary_ready} of {needed} wanted replicas of {state.canary} are ready"
    if state.step < len(way.steps):
        if sight.canary_ready >= needed:
            return "ready", ready
        if sight.canary_ready and sight.baseline_is_out:
            return "ready", f"{ready}, and {state.baseline} has none"
        return None
    if sight.canary_ready >= sight.usual:
        return "arrived", f"all {sight.usual} wanted replicas of {state.canary} are ready"
    if sight.canary_ready and (sight.baseline_is_out or way.clears):
        return "arrived", f"{sight.canary_ready} of {sight.usual} are ready, and {state.baseline} has none"
    return None


def _moved(state: RolloutState, event: Event, because: str, now_s: float) -> RolloutState:
    """Return the rollout after `event`, which its phase knows."""
    phase = TABLE[state.phase, event]
    way, held = course(state.spec, state.strategy), state.held
    if event == "released" and way.clears:
        phase = "clearing"
    if event == "pause" or (phase == "returning" and state.phase != "paused"):
        held = state.phase
    if event == "passed":
        held = "scaling"
    is_answer = event in ("approve", "lapsed")
    weight = _weight(state, event, phase, way)
    if event == "ready" and weight in state.spec.pause_at and held != "stepping":
        phase, held = "paused", "stepping"
    return msgspec.structs.replace(
        state,
        strategy="recreate" if event == "idle" else state.strategy,
        phase=phase,
        because=state.because if event == "returned" else because,  # why it went back is what people ask
        since_s=now_s,
        step=0 if event == "idle" else len(way.steps) if event == "promote" else state.step + (event == "passed"),
        weight=weight,
        held=held,
        holds=state.holds and not is_answer,
        approved=because if is_answer else state.approved,
        arrivals=Tally() if event == "ready" else state.arrivals,
        asked=(Tally(), Tally()) if event == "ready" else state.asked,
        ended_s=now_s if phase in ENDED else 0.0,
    )


def _weight(state: RolloutState, event: Event, phase: Phase, way: Course) -> int:
    """Return the canary's percent of the traffic after `event`."""
    if phase in ("returning", "rolled-back", "superseded", "reported", "refused", "clearing"):
        return 0
    if phase in ("keeping", "promoted"):
        return 100
    return way.steps[state.step] if event == "ready" else state.weight


def _due_s(state: RolloutState, now_s: float) -> float | None:
    way = course(state.spec, state.strategy)
    match state.phase:
        case "stepping":
            dwelt_s, over_s = inconclusive.due_s(state)
            ends_s = dwelt_s if dwelt_s > now_s else over_s
        case "keeping":
            ends_s = state.since_s + way.keep_s
        case "awaiting":
            ends_s = state.since_s + (parse_seconds(holder.within) if (holder := state.holder) is not None else 0.0)
        case "gating" | "scaling" | "clearing" if way.is_guarded:
            ends_s = state.since_s + parse_seconds(state.spec.progress)
        case _:
            return None
    return ends_s - now_s if ends_s > now_s else None


def _entry(state: RolloutState, sight: Sight, event: str, because: str, now_s: float) -> Entry:
    return Entry(
        at_s=now_s,
        event=event,
        phase=state.phase,
        because=because,
        weight=state.weight,
        step=state.step,
        canary_ready=sight.canary_ready,
        baseline_ready=sight.baseline_ready,
        arrivals=state.arrivals,
        findings=state.findings,
    )
