"""What people see of rollouts and say to them. The loop does what was said; here it is only written down."""

from datetime import UTC, datetime
from typing import Final

import msgspec

from stoker.client.rollouts import LineView, RolloutDetail, RolloutView, Told
from stoker.client.views import TakenBack
from stoker.control.observe import target
from stoker.core.revisions import ServingConfig, config_digest, serving_config
from stoker.core.rollout import untold
from stoker.core.rollout.course import course
from stoker.core.rollout.decide import criteria, metrics_of
from stoker.core.rollout.release import REJECTED
from stoker.core.rollout.state import Entry, RolloutState
from stoker.core.rollout.table import ORDERS, Order, Phase, after
from stoker.core.snapshot import EndpointState
from stoker.core.verdict.judge import DISAGREEMENT, Finding, findings
from stoker.core.verdict.odds import Tally
from stoker.store import endpoints, journal, releases, revisions, rollouts
from stoker.store.engine import Connection
from stoker.store.rollouts import Stored
from stoker.types.errors import Conflict, InvalidInput, NotFound
from stoker.types.rollouts import BAD_EVENTS, WRONG, ArmCounts, Arms
from stoker.types.units import parse_seconds

# What brings a canary on. A freeze of rollouts forbids it unless all of the traffic is there, or it served before.
_ANSWERS: Final[dict[Order, str]] = {"approve": "approved", "deny": "denied"}
FORWARD: Final[frozenset[Order]] = frozenset(("resume", "promote"))
RESERVED: Final = (*BAD_EVENTS, DISAGREEMENT, WRONG)  # metrics that the platform counts itself


class Word(msgspec.Struct, frozen=True):
    """How somebody says something. reason: their own words, for the journal. frozen: why the policy of a budget freezes
    the endpoint's rollouts, "" where none does; who `insists` is obeyed all the same. by: whose key it is. number: of
    the rollout that is meant, 0 for the newest."""

    reason: str = ""
    frozen: str = ""
    insists: bool = False
    by: str = ""
    number: int = 0

    def because(self, asked: str, *, is_frozen: bool = False) -> str:
        """Return what the journal says."""
        over = f"; over the freeze of rollouts: {self.frozen}" if is_frozen else ""
        return f"{asked}{f' ({self.reason})' if self.reason else ''}{over}"

    def check(self, order: str) -> None:
        """Raise Conflict where the freeze holds."""
        if not self.insists:
            raise Conflict(
                f"rollouts are frozen: {self.frozen}; `stoker rollouts abort` and `stoker rollback` still work, and "
                f"`stoker rollouts {order}` insists with --over-budget"
            )


def listed(connection: Connection, project: str, endpoint: str | None, limit: int) -> list[RolloutView]:
    """Return rollouts, the newest first."""
    return [_view(connection, each) for each in rollouts.everything(connection, project, endpoint)[:limit]]


def numbered(connection: Connection, project: str, number: int, entries: int | None = None) -> RolloutDetail:
    """Return one rollout, with the newest `entries` of its timeline or all. Raises NotFound."""
    return _detail(connection, rollouts.get(connection, project, number), entries)


def newest(connection: Connection, project: str, name: str, entries: int | None = None) -> RolloutDetail:
    """Return an endpoint's newest rollout. Raises NotFound."""
    return _detail(connection, _newest(connection, project, name), entries)


def awaited(connection: Connection, project: str, name: str, revision: str) -> str:
    """Return whose approval a revision waits for, and until when; "" where it waits for nobody's."""
    found = rollouts.latest(connection, project, name)
    if found is None or found.state.canary != revision or found.state.phase != "awaiting":
        return ""
    state, holder = found.state, found.state.holder
    until_s = state.since_s + (parse_seconds(holder.within) if holder is not None else 0.0)
    until = datetime.fromtimestamp(until_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{state.number} awaits approval until {until}: {state.because}"


def running(connection: Connection) -> dict[tuple[str, str], RolloutView]:
    """Return the rollouts that run, by project and endpoint."""
    found = rollouts.running(connection)
    return {(each.state.project, each.state.endpoint): _view(connection, each) for each in found}


def say(connection: Connection, project: str, name: str, order: Order, word: Word, now_s: float) -> None:
    """Keep an order for the loop. Raises NotFound; Conflict where it means nothing, or rollouts are frozen."""
    stored = _newest(connection, project, name)
    state = stored.state
    if word.number not in (0, state.number):
        raise Conflict(f"rollout {word.number} of {project}/{name} is over; rollout {state.number} is the newest")
    if after(state.phase, order) is None:
        can = [each for each in ORDERS if after(state.phase, each) is not None]
        words = " or ".join(filter(None, (", ".join(can[:-1]), *can[-1:])))
        hint = f"it can be told to {words}" if can else "nothing can be said to it"
        if state.phase in REJECTED:
            hint = f"`stoker rollouts retry {name}` tries it again"
        raise Conflict(f"rollout {state.number} of {project}/{name} {_stands(state.phase)}; {hint}")
    is_frozen = bool(word.frozen) and order in FORWARD and state.phase != "keeping" and not state.is_return
    if is_frozen:
        word.check(order)
    action = f"{order.capitalize()}Rollout"
    answer = f"{_ANSWERS[order]} by {word.by or 'somebody'}" if order in _ANSWERS else f"asked to {order}"
    because = word.because(answer, is_frozen=is_frozen)
    rollouts.order(connection, state.number, order, because)
    journal.add(connection, journal.Entry(now_s, action, because, project, name, state.canary))


def retry(connection: Connection, project: str, name: str, word: Word, now_s: float) -> None:
    """Have the revision tried again that was rolled back or refused; gates that refused it are asked again.

    Raises NotFound; Conflict where there is none, or rollouts are frozen.
    """
    endpoint = endpoints.get(connection, project, name)
    state = _newest(connection, project, name).state
    if state.phase not in REJECTED:
        raise Conflict(
            f"rollout {state.number} of {project}/{name} {_stands(state.phase)}; only one that was rolled back or "
            "refused is tried again"
        )
    if not _is_asked_for(connection, endpoint, state.canary):
        raise Conflict(f"{project}/{name} asks for something else than {state.canary} now, so it is not tried again")
    is_frozen = bool(word.frozen) and not state.is_return
    if is_frozen:
        word.check("retry")
    asked = word.because(f"asked to try {state.canary} again", is_frozen=is_frozen)
    because = f"{asked}; it {_stands(state.phase)}: {state.because}"
    ended = msgspec.structs.replace(state, phase="superseded", because=because)
    rollouts.keep(connection, ended, (Entry(now_s, "retry", "superseded", because),))
    releases.renew(connection, state.canary)
    journal.add(connection, journal.Entry(now_s, "RetryRollout", because, project, name, state.canary))


def taken_back(connection: Connection, endpoint: EndpointState) -> TakenBack | None:
    """Return what became of the revision that the endpoint's spec asks for, if it was taken back; None if not."""
    config = _asked_for(connection, endpoint)
    if config is None:
        return None
    digest = config_digest(config)
    history = revisions.everything(connection, endpoint.project, endpoint.name)
    revision = next((each.revision for each in history if each.digest == digest), "")
    past = [each.state for each in rollouts.everything(connection, endpoint.project, endpoint.name)]
    last = next((each for each in past if each.canary == revision), None)
    if last is None or last.phase not in REJECTED or revision == endpoint.serving:
        return None
    return TakenBack(
        revision=revision,
        model=config.ref,
        rollout=last.number,
        phase=last.phase,
        because=last.because,
        ended_s=last.ended_s,
        serving=endpoint.serving,
        begins=last is not past[0],
    )


def judged(connection: Connection, project: str, name: str, metric: str, more: Arms, id_: str) -> Told:
    """Add what a judge has told to the rollout that runs. Raises NotFound, Conflict, InvalidInput."""
    if metric in RESERVED:
        raise InvalidInput(f"{metric!r} is counted by the platform itself; take another name", field="metric")
    for arm, counts in (("canary", more.canary), ("baseline", more.baseline)):
        if counts.bad.get(metric, 0) > counts.total:
            raise InvalidInput(f"{counts.bad[metric]} bad ones of {counts.total}", field=f"{arm}.bad")
    state = _newest(connection, project, name).state
    if state.is_ended:
        raise Conflict(f"rollout {state.number} of {project}/{name} {_stands(state.phase)}; nothing is judged now")
    counted = rollouts.post(connection, state.number, metric, more, id_)
    sums = rollouts.get(connection, project, state.number).posted.get(metric, Arms())
    return Told(state.number, counted, _tally(sums.canary, metric), _tally(sums.baseline, metric))


def _newest(connection: Connection, project: str, name: str) -> Stored:
    endpoints.get(connection, project, name)
    found = rollouts.latest(connection, project, name)
    if found is None:
        raise NotFound(f"endpoint {name!r} had no rollout yet; the next change of its model makes one")
    return found


def _is_asked_for(connection: Connection, endpoint: EndpointState, revision: str) -> bool:
    """Return whether the endpoint's spec means `revision` now."""
    config = _asked_for(connection, endpoint)
    try:
        kept = revisions.get(connection, revision)
    except NotFound:
        return False
    return config is not None and config_digest(config) == kept.digest


def _asked_for(connection: Connection, endpoint: EndpointState) -> ServingConfig | None:
    """Return what the endpoint's spec means now, None where it can be no revision."""
    version = target(connection, endpoint)
    config = serving_config(endpoint.resource.spec, version) if version is not None else None
    return config if isinstance(config, ServingConfig) else None


def _stands(phase: Phase) -> str:
    match phase:
        case "rolled-back":
            return "was rolled back"
        case "promoted" | "refused" | "superseded" | "paused":
            return f"is {phase}" if phase == "paused" else f"was {phase}"
        case "reported":
            return "is over and waits for a decision"
        case "stepping":
            return "is in a step"
        case "awaiting":
            return "waits for its approval"
        case _:
            return f"is {phase}"


def _view(connection: Connection, stored: Stored) -> RolloutView:
    state = stored.state
    return RolloutView(
        number=state.number,
        project=state.project,
        endpoint=state.endpoint,
        strategy=state.strategy,
        phase=state.phase,
        because=state.because,
        baseline=state.baseline,
        canary=state.canary,
        baseline_model=_model(connection, state.baseline),
        canary_model=_model(connection, state.canary),
        steps=course(state.spec, state.strategy).steps,
        step=state.step,
        weight=state.weight,
        requests=state.arrivals.total if state.is_stepping else 0,
        requests_min=state.spec.requests_min,
        dwell_s=parse_seconds(state.spec.dwell),
        began_s=state.began_s,
        since_s=state.since_s,
        ended_s=state.ended_s,
        ordered=stored.ordered,
    )


def _detail(connection: Connection, stored: Stored, entries: int | None) -> RolloutDetail:
    state = stored.state
    timeline, earlier = rollouts.timeline(connection, state.number, entries)
    found = findings(state.memory, criteria(state.spec), metrics_of(state))
    seen = {(each.metric, each.cohort): (each.canary, each.baseline) for each in state.memory.lines}
    shown = _view(connection, stored)
    last = next((each for each in reversed(timeline) if each.event not in untold.EVENTS), None)
    verdict = last.because if last is not None and last.event == "look" else ""
    return RolloutDetail(
        **{**msgspec.structs.asdict(shown), "verdict": verdict},
        spec=state.spec,
        lines=tuple(_line(each, state, seen) for each in found),
        part=sum(each.part for each in found),
        posted=stored.posted,
        timeline=tuple(timeline),
        earlier=earlier,
    )


def _line(finding: Finding, state: RolloutState, seen: dict[tuple[str, str], tuple[Tally, Tally]]) -> LineView:
    canary, baseline = seen.get((finding.metric, finding.cohort), (None, None))
    if finding.metric == DISAGREEMENT:
        canary = state.memory.copies
    return LineView(
        finding.metric, finding.cohort, finding.e, finding.part, finding.because, canary=canary, baseline=baseline
    )


def _model(connection: Connection, revision: str) -> str:
    try:
        return revisions.get(connection, revision).config.ref
    except NotFound:
        return ""


def _tally(counts: ArmCounts, metric: str) -> Tally:
    return Tally(counts.bad.get(metric, 0), counts.total)
