"""Waiting for a change to serve: through its rollout, if it makes one, to the rollout's end; and how that is told."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from stoker.cli import junit
from stoker.cli.exits import Exit
from stoker.cli.output import is_live
from stoker.cli.progress import Progress
from stoker.cli.rollout_page import need, seen, times, where
from stoker.cli.waiting import NO_CAPACITY_PATIENCE_S, POLL_S, TAKEN_BACK, condition, judge, patiently
from stoker.client.control import ControlClient
from stoker.client.rollouts import RolloutClient, RolloutDetail
from stoker.client.views import EndpointDetail
from stoker.types.errors import Conflict, DeadlineExceeded, EngineFailed, NotFound, StokerError

ENTRIES: Final = 10  # of a timeline, to know why it ended
_WAITS: Final = ("paused", "reported")
_SERVES: Final = ("promoted", "keeping")


@dataclass(frozen=True, slots=True)
class Followed:
    """How a change ended; `rollout` is None where there was none: nothing had served before, or nothing changed.

    replaced: what the endpoint asks for since another change took the place of this one; "" where none did.
    """

    detail: EndpointDetail
    rollout: RolloutDetail | None = None
    replaced: str = ""

    @property
    def exit(self) -> Exit:
        """What the command ends with."""
        if self.replaced:
            return Exit.FAILED
        if self.rollout is None or self.rollout.phase in _SERVES:
            return Exit.OK
        if self.rollout.phase in _WAITS:
            return Exit.PAUSED
        ended = {"rolled-back": Exit.ROLLED_BACK, "refused": Exit.REFUSED}
        return ended.get(self.rollout.phase, Exit.FAILED)


@dataclass(frozen=True, slots=True)
class Follower:
    """Waits for one endpoint. `before`: the number of its newest rollout before the change; `model`: what it asked for,
    "" for what was asked for before.
    """

    control: ControlClient
    project: str
    name: str
    before: int
    model: str = ""

    def follow(
        self,
        generation: int,
        timeout_s: float,
        progress: Progress,
        seen: Callable[[str], None] = lambda _revision: None,
    ) -> Followed:
        """Return how the spec of `generation` ended. `seen` hears each time which revision it asks for.

        Raises:
            Conflict: its first revision does not pass its gates.
            EngineFailed: it cannot be served; the message is the platform's reason.
            DeadlineExceeded: not within `timeout_s`; it goes on by itself.
        """
        began_s = time.monotonic()
        stuck_since_s: float | None = None
        while True:
            detail = patiently(lambda: self.control.endpoint(self.project, self.name))
            if self.model not in ("", detail.resource.spec.model):
                return Followed(detail, replaced=detail.resource.spec.model)
            found, now_s = judge(detail, generation), time.monotonic()
            rollout = self._rollout(detail, generation)
            note, fraction = found.note, found.fraction
            if detail.status.observed_generation >= generation:
                seen(detail.status.revision)
            if rollout is not None:
                if rollout.is_ended or rollout.phase in (*_WAITS, *_SERVES):
                    # It was asked before the rollout was, and may say what served then.
                    return Followed(patiently(lambda: self.control.endpoint(self.project, self.name)), rollout)
                note, fraction = said(rollout) or found.note, _fraction(rollout) or found.fraction
            elif found.state == "done":
                return Followed(detail)
            if rollout is None or rollout.strategy == "direct":  # others are rolled back, which ends them
                if found.state == "refused":
                    raise Conflict(f"{found.note}; see `stoker release show {self.name}`")
                if found.state == "failed":
                    raise EngineFailed(f"{self.name} cannot be served: {found.note}; see `stoker logs {self.name}`")
                stuck_since_s = (stuck_since_s or now_s) if found.state == "stuck" else None
                if stuck_since_s is not None and now_s - stuck_since_s > NO_CAPACITY_PATIENCE_S:
                    raise EngineFailed(f"{self.name} has no place to run: {_no_place(detail, found.note)}")
            if now_s - began_s > timeout_s:
                missing = f"{note} ({need(rollout)})" if rollout is not None and need(rollout) else note
                raise DeadlineExceeded(
                    f"{self.name} is not there after {timeout_s:g} s: {missing}; it goes on by itself"
                )
            progress.step(note)
            progress.update(fraction, 1.0 if fraction else 0)
            time.sleep(POLL_S)

    def _rollout(self, detail: EndpointDetail, generation: int) -> RolloutDetail | None:
        """Return the rollout that the change made, or that runs for the same, or has taken the same back before."""
        if detail.status.observed_generation < generation:
            return None
        found = newest(self.control, self.project, self.name)
        progressing = condition(detail.status.conditions, "Progressing")
        is_taken_back = progressing is not None and progressing.reason in TAKEN_BACK
        if found is None or not (found.number > self.before or not found.is_ended or is_taken_back):
            return None
        return found


def newest(control: ControlClient, project: str, name: str) -> RolloutDetail | None:
    """Return an endpoint's newest rollout, None without one."""
    client = RolloutClient(control.connection)
    try:
        return patiently(lambda: client.newest(project, name, ENTRIES))
    except NotFound:
        return None


def said(one: RolloutDetail) -> str:
    """Return what a rollout does now as a line of progress; "" while replicas load, which says more."""
    if one.phase == "returning":
        return f"going back to {one.baseline}: {one.because}"
    if one.phase == "awaiting":
        return f"waits for approval: {one.because}"
    if one.phase != "stepping":
        return ""
    share = "gets copies only" if one.strategy == "shadow" else f"{one.weight} % of the traffic"
    parts = [", ".join(part for part in (one.strategy, where(one), share) if part)]
    if not one.requests and one.phase == "stepping":
        parts.append("nobody has asked it yet")
    if is_live():  # a log is not told each second
        parts.append(need(one))
        if one.part >= 0.01:
            parts.append(f"{times(one.part)} of what aborts")
    return "; ".join(part for part in parts if part)


def outcome(one: RolloutDetail) -> str:
    """Return how a rollout ended, in a sentence."""
    model = f" ({one.canary_model})" if one.canary_model else ""
    match one.phase:
        case "promoted":
            return f"rollout {one.number} {click.style('promoted', fg='green')} {one.canary}{model}"
        case "keeping":
            return (
                f"rollout {one.number}: {click.style(one.canary, fg='green')}{model} serves; {one.baseline} stays warm"
            )
        case "paused":
            again = f"`stoker rollouts resume {one.endpoint}` goes on"
            return f"rollout {one.number} is {click.style('paused', fg='yellow')} at {one.weight} %; {again}"
        case "reported":
            words = click.style("over and waits for a decision", fg="yellow")
            return f"rollout {one.number} is {words}: {one.because}"
        case "superseded":
            return f"rollout {one.number} was {click.style('superseded', fg='red')}: {one.because}"
        case _:
            words = click.style("rolled back" if one.phase == "rolled-back" else one.phase, fg="red")
            return f"rollout {one.number} of {one.canary}{model} was {words}: {why(one)}; {one.baseline} serves"


def why(one: RolloutDetail) -> str:
    """Return what took the traffic away from the canary; else the newest reason."""
    bad = ("worse", "crashed", "stalled", "abort", "refused", "unanswered", "deny")
    return next((each.because for each in reversed(one.timeline) if each.event in bad), one.because)


def replaced(followed: Followed) -> str:
    """Return who took the place of the change."""
    return f"another change took its place: {followed.detail.name} asks for {followed.replaced} now"


def goes_on(detail: EndpointDetail) -> str:
    """Return what somebody hears who waits no longer."""
    name = detail.name
    if not detail.status.serving:
        return f"it goes on: `stoker describe {name}` shows it, `stoker delete endpoint {name}` ends it"
    return f"it goes on: `stoker rollouts show {name} --watch` shows it, `stoker rollback {name}` takes it back"


def _no_place(detail: EndpointDetail, note: str) -> str:
    """Return what is missing, what goes on meanwhile, and what would help."""
    serving = detail.status.serving
    on = f"; {serving} serves on, and it waits for room" if serving else "; it waits for room"
    helps = "fewer --cpu or --memory, `--strategy recreate`" if serving else "fewer --cpu or --memory"
    return f"{note}{on} ({helps}, or a replica that goes make some)"


def junit_failure(detail: EndpointDetail, problem: StokerError, path: Path) -> None:
    """Write why a change came to no end that a rollout could tell of as a test report. Raises InvalidInput."""
    case = junit.Case("outcome", "not serving", failed=problem.message, kind=problem.code)
    junit.write(path, junit.report(f"{detail.project}/{detail.name}", [case]))


def junit_report(followed: Followed, path: Path) -> None:
    """Write how a change ended as a test report: its outcome, and each metric and cohort. Raises InvalidInput."""
    one, detail = followed.rollout, followed.detail
    if followed.replaced:
        case = junit.Case("outcome", "replaced", failed=replaced(followed))
        junit.write(path, junit.report(f"{detail.project}/{detail.name}", [case]))
        return
    if one is None:
        served = junit.Case("outcome", "serving", detail=f"{detail.status.serving} serves")
        junit.write(path, junit.report(f"{detail.project}/{detail.name}", [served]))
        return
    has_failed = one.phase in ("rolled-back", "refused", "superseded")
    cases = [junit.Case("outcome", one.phase, failed=why(one) if has_failed else "")]
    for each in seen(one):
        name = each.metric + (f" of {each.cohort}" if each.cohort else "")
        cases.append(junit.Case("evidence", name, failed=each.because if each.part >= 1 else ""))
    junit.write(path, junit.report(f"rollout {one.number} of {one.project}/{one.endpoint}", cases))


def _fraction(one: RolloutDetail) -> float:
    if one.phase != "stepping" or not one.requests_min:
        return 0.0
    return min(one.requests / one.requests_min, 1.0)
