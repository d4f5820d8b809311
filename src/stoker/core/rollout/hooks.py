"""Which moments of a rollout somebody outside is told of, and in what words. Pure.

Every message is made of one entry of the timeline, so that what is told is what is kept, in its order. The same entry
gives the same id, however often it is sent.
"""

from typing import Final

import msgspec

from stoker.core.rollout.state import Entry, RolloutState
from stoker.core.rollout.table import Phase
from stoker.core.verdict.judge import Finding
from stoker.types.rollouts import Hook, HookEvent, Strategy
from stoker.types.units import parse_seconds

_TOLD: Final[dict[str, HookEvent]] = {
    "began": "pre-release",
    "asked": "pre-release",
    "ready": "step",
    "arrived": "step",
    "passed": "verdict",
    "worse": "verdict",
    "crashed": "verdict",
    "stalled": "verdict",
    "inconclusive": "verdict",
    "reported": "verdict",
    "refused": "verdict",
    "unanswered": "verdict",
    "lapsed": "verdict",
    "approve": "verdict",
    "deny": "verdict",
    "promote": "verdict",
    "abort": "verdict",
    "kept": "promoted",
    "returned": "rolled-back",
    # The canary's traffic is taken away too; `phase` says why.
    "superseded": "rolled-back",
}


class HookMessage(msgspec.Struct, frozen=True):
    """What a hook gets, as JSON. The same `id` again is the same event.

    baseline, canary: revisions; …_model: the versions that they serve, "" of one that is gone. weight: percent of the
    traffic that the canary has now. findings: of the verdict, what is worst first. answer: where its approval is
    waited for, the path in control's API; answer_by_s: until when. "" and 0: nothing is waited for.
    """

    id: str
    type: str
    event: HookEvent
    at_s: float
    project: str
    endpoint: str
    rollout: int
    strategy: Strategy
    baseline: str
    canary: str
    baseline_model: str
    canary_model: str
    phase: Phase
    weight: int
    step: int
    because: str
    findings: tuple[Finding, ...] = ()
    answer: str = ""
    answer_by_s: float = 0.0


def hook_event(entry: Entry) -> HookEvent | None:
    """Return what hooks call this moment; None where they are not told of it."""
    if entry.event == "promote" and entry.phase == "promoted":
        return "promoted"
    return _TOLD.get(entry.event)


def message(state: RolloutState, entry: Entry, sequence: int, models: tuple[str, str]) -> HookMessage | None:
    """Return what hooks are told of an entry.

    Args:
        sequence: the entry's place in the store, never given twice.
        models: of the baseline and of the canary.
    """
    event = hook_event(entry)
    if event is None:
        return None
    holder = state.holder if entry.event == "asked" else None
    return HookMessage(
        id=f"rollout-{state.number}-{sequence}",
        type=f"rollout.{event}",
        event=event,
        at_s=entry.at_s,
        project=state.project,
        endpoint=state.endpoint,
        rollout=state.number,
        strategy=state.strategy,
        baseline=state.baseline,
        canary=state.canary,
        baseline_model=models[0],
        canary_model=models[1],
        phase=entry.phase,
        weight=entry.weight,
        step=entry.step,
        because=entry.because,
        findings=entry.findings,
        answer=f"/api/v1/projects/{state.project}/endpoints/{state.endpoint}/rollout" if holder is not None else "",
        answer_by_s=entry.at_s + parse_seconds(holder.within) if holder is not None else 0.0,
    )


def hears(hook: Hook, told: HookMessage) -> bool:
    """Return whether `hook` asked for this kind of event."""
    return told.event in hook.events
