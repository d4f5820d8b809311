"""What incidents do by themselves: decided, written down, and only then made true.

Every ROUND_S each open incident whose endpoint allows remedies is looked at anew. What is decided is one transaction,
guarded by the lease: the act under its number in the incident, the line of its timeline, the journal, and of a way back
the endpoint's spec. The other acts are made true by the loop from what is in force (core/reconcile.py). A control that
is killed before the transaction has decided nothing; after it, the next one goes on with the same act.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar

import msgspec

from stoker.control import ways_back
from stoker.core import remedies
from stoker.core.diagnose import incident as life
from stoker.core.diagnose.causes import Cause
from stoker.core.diagnose.incident import Incident
from stoker.core.diagnose.verdict import Explanation
from stoker.core.remedies import Pool
from stoker.core.scale.policy import is_scaled
from stoker.core.snapshot import EndpointKey, EndpointState
from stoker.store import endpoints, incidents, journal, recording, revisions
from stoker.store.engine import Connection, Database
from stoker.store.leases import LeaseLost
from stoker.telemetry.metrics import Registry
from stoker.types.errors import Unavailable
from stoker.types.faults import FAULT_MAX_S
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.process import NodeStatus
from stoker.types.remedies import Act, Load

ROUND_S: Final = 10.0
STEADY_S: Final = 8.0  # the likeliest cause must have been so for: two rounds in a row
LOOKED_AT_MAX: Final = 100  # incidents in one round; the newest
ENDED_BACK_S: Final = 86_400.0  # an act of an incident that closed ends in the next round, or after control's absence
PAST_READ: Final = 10  # incidents of an endpoint whose acts count: more cannot have acted within an hour
JOURNAL_READ: Final = 200
BECAUSE_MAX: Final = 300

_T = TypeVar("_T")
log = logging.getLogger(__name__)


class Diagnoses(Protocol):
    """What is asked of the incidents (observe/incidents/incidents.py)."""

    async def again(self, incident: Incident, since_s: float) -> Explanation:
        """Return why the endpoint is worse since then than it was before the incident."""
        ...

    async def load(self, project: str, endpoint: str) -> Load:
        """Return how the endpoint did in the last minute."""
        ...

    async def written(self, change: Callable[[Connection], _T]) -> _T:
        """Return what `change` returns, in a transaction of whoever acts."""
        ...


class _Named(msgspec.Struct, frozen=True):
    """The likeliest cause of an incident, and since when it is."""

    kind: str
    where: str
    since_s: float


class Remedies:
    """Looks, decides, and knows what is in force. One in a control process."""

    def __init__(
        self,
        database: Database,
        diagnoses: Diagnoses,
        nodes: Callable[[], Iterable[NodeStatus]],
        metrics: Registry,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._diagnoses = diagnoses
        self._nodes = nodes
        self._metrics = metrics
        self._changed = changed
        self._clock = clock
        self._named: dict[int, _Named] = {}  # by incident that is open
        self._in_force: dict[EndpointKey, tuple[Act, ...]] | None = None
        self._shown: set[tuple[str, str, str]] = set()

    def in_force(self) -> Mapping[EndpointKey, tuple[Act, ...]] | None:
        """Return the acts in force by endpoint; None before the first look, or while this process does not act."""
        return self._in_force

    async def run(self, beat: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look every ROUND_S; returns only by cancellation."""
        while True:
            try:
                await self.look()
            except (LeaseLost, Unavailable):
                self._in_force = None  # what another control decides is not known here
            except Exception:  # what one incident meets must not end the control of all endpoints
                log.exception("a look at what incidents do failed; the next one looks again")
            await beat(ROUND_S if self._in_force is not None else 1.0)

    async def look(self) -> None:
        """Look once at every incident that is open or has an unsettled act. Raises Unavailable, or LeaseLost."""
        found = await self._live()
        self._named = {
            number: named for number, named in self._named.items() if number in {one.number for one in found}
        }
        self._take(found)
        for one in found:
            await self._look_at(one)
        self._take(await self._live())

    async def advice(self, found: Explanation, project: str, endpoint: str) -> Explanation:
        """Return an explanation with what was done, and what would be done now, or why nothing."""

        def ask(connection: Connection) -> Explanation:
            state = endpoints.get(connection, project, endpoint)
            past = incidents.of(connection, project, endpoint, PAST_READ)
            is_open = bool(past) and past[0].is_open
            mine = past[0].acts if is_open else ()
            others = [act for one in past[is_open:] for act in one.acts]
            pool = self._pool(connection, state, past[0] if is_open else None)
            wish = remedies.wish(found.diagnosis.causes, mine, pool, self._clock(), others)
            return msgspec.structs.replace(found, acts=mine, next_act=wish.what, next_because=wish.because)

        return await self._database.reading(ask)

    async def _live(self) -> list[Incident]:
        """Return the incidents that are open, or have an act that is not settled. Raises Unavailable, or LeaseLost."""
        since_s = self._clock() - ENDED_BACK_S
        found = await self._diagnoses.written(lambda each: incidents.live(each, since_s, LOOKED_AT_MAX))
        return [one for one in found if one.is_open or not all(act.is_settled for act in one.acts)]

    async def _look_at(self, one: Incident) -> None:
        is_acting = any(act.is_in_force for act in one.acts)
        is_allowed = one.is_open and await self._database.reading(lambda each: _allows(each, one))
        if not is_allowed and all(act.is_settled for act in one.acts):
            return
        causes: tuple[Cause, ...] = ()
        if is_allowed and not is_acting:
            # What was done is judged by what was seen since.
            since_s = max([one.since_s, *(act.ended_at_s for act in one.acts)])
            found = await self._diagnoses.again(one, since_s)
            again_s = self._restarted_s(found.diagnosis.causes)
            if again_s > since_s:  # its agent was quicker: is it bad since then too?
                found = await self._diagnoses.again(one, again_s)
            causes = found.diagnosis.causes if self._is_steady(one.number, found.diagnosis.causes) else ()
        load = await self._diagnoses.load(one.project, one.endpoint)
        after = await self._diagnoses.written(lambda connection: self._decide(connection, one.number, causes, load))
        if after.acts != one.acts:
            self._count(one, after)
            self._take(await self._live())
            self._changed()

    def _restarted_s(self, causes: tuple[Cause, ...]) -> float:
        """Return when the process of the replica that is to blame was started, 0 where none is."""
        blamed = causes[0].where.removeprefix("replica ") if causes else ""
        every = (each for node in self._nodes() for each in node.processes)
        return next((each.started_at_s for each in every if each.name == blamed), 0.0)

    def _is_steady(self, number: int, causes: tuple[Cause, ...]) -> bool:
        """Return whether the likeliest cause was so the last time too."""
        if not causes:
            self._named.pop(number, None)
            return False
        now_s, first, before = self._clock(), causes[0], self._named.get(number)
        if before is None or (before.kind, before.where) != (first.kind, first.where):
            self._named[number] = before = _Named(first.kind, first.where, now_s)
        return now_s - before.since_s >= STEADY_S

    def _decide(self, connection: Connection, number: int, causes: tuple[Cause, ...], load: Load) -> Incident:
        """End what is over and begin what is to be done; store both with their reasons, in the caller's transaction."""
        now_s = self._clock()
        one = incidents.get(connection, number)
        state = endpoints.find(connection, one.project, one.endpoint)
        pool = self._pool(connection, state, one) if state is not None else Pool()
        after = one
        for act in one.acts:
            how = ""
            if act.is_in_force:
                is_there = state is not None
                how = remedies.outcome(act, pool, now_s, is_open=one.is_open) if is_there else "the endpoint is gone"
            if how:
                after = life.act_ended(after, msgspec.structs.replace(act, ended_at_s=now_s, outcome=how))
                _note(connection, one, "RemedyEnded", f"{act.what}: {how}", act, now_s)
            elif not act.is_in_force and act.after is None and now_s - act.ended_at_s >= remedies.JUDGED_S:
                judged = msgspec.structs.replace(act, after=load)
                after = life.act_judged(after, judged, remedies.effect(act.before, load), now_s)
        if causes and one.is_open and state is not None and not state.is_deleting:
            past = incidents.of(connection, one.project, one.endpoint, PAST_READ)
            others = [act for other in past if other.number != number for act in other.acts]
            wish = remedies.wish(causes, after.acts, pool, now_s, others)
            if wish.kind is not None:
                after = life.acted(after, Act(0, wish.kind, wish.subject, wish.because, now_s, before=load))
                self._begin(connection, after, now_s)
        if after != one:
            incidents.put(connection, after)
        return after

    def _begin(self, connection: Connection, incident: Incident, now_s: float) -> None:
        act = incident.acts[-1]
        _note(connection, incident, "Remedy", f"{act.what}, for {act.because}", act, now_s)
        if act.kind == "roll-back":
            to = revisions.get(connection, act.subject).number
            ways_back.rollback(connection, incident.project, incident.endpoint, to, now_s)

    def _pool(self, connection: Connection, state: EndpointState, incident: Incident | None) -> Pool:
        spec = state.resource.spec
        mine = revisions.assignments(connection, state.project, state.name)
        replicas = {str(each.replica) for each in mine if each.revision == state.serving and each.phase == "wanted"}
        ready = {each.name for node in self._nodes() for each in node.processes if each.phase == "ready"}
        done = journal.last(connection, JOURNAL_READ, state.project, state.name)
        served = [entry for entry in done if entry.action == "SetServing"]
        kept = {str(each.revision) for each in revisions.everything(connection, state.project, state.name)}
        is_current = bool(served) and served[0].subject == state.serving
        gameday = next((entry for entry in done if entry.action in ("GamedayBegan", "GamedayEnded")), None)
        return Pool(
            allowed=() if state.is_deleting else spec.remedies,
            replicas=frozenset(replicas),
            ready=frozenset(replicas & ready),
            least=max(spec.replicas.min, state.status.replicas_wanted if is_scaled(spec) else 0),
            most=spec.replicas.max,
            serving=state.serving,
            target=state.status.revision,
            serving_since_s=served[0].at_s if is_current else 0.0,
            earlier=served[1].subject if is_current and len(served) > 1 and served[1].subject in kept else "",
            is_gameday=gameday is not None
            and gameday.action == "GamedayBegan"
            and self._clock() - gameday.at_s < FAULT_MAX_S,
            is_well=incident is not None and incident.well > 0,
        )

    def _take(self, found: Iterable[Incident]) -> None:
        """Know what is in force, and show it."""
        every = remedies.in_force(list(found))
        self._in_force = {(ProjectName(project), EndpointName(name)): acts for (project, name), acts in every.items()}
        shown: set[tuple[str, str, str]] = {(*key, act.kind) for key, acts in every.items() for act in acts}
        for project, endpoint, kind in shown | self._shown:
            gauge = self._metrics.gauge("stoker_remedies_in_force", project=project, endpoint=endpoint, act=kind)
            gauge.set(float((project, endpoint, kind) in shown))
        self._shown = shown

    def _count(self, before: Incident, after: Incident) -> None:
        known = {act.number: act for act in before.acts}
        for act in after.acts:
            old = known.get(act.number)
            has_ended = not act.is_in_force and (old is None or old.is_in_force)
            events = (["begun"] if old is None else []) + (["ended"] if has_ended else [])
            for event in events:
                log.warning("a remedy", extra={"event": event, "act": act.what, "incident": after.number})
                labels = {"project": after.project, "endpoint": after.endpoint}
                self._metrics.counter("stoker_remedies_total", act=act.kind, event=event, **labels).add()


def _allows(connection: Connection, one: Incident) -> bool:
    state = endpoints.find(connection, one.project, one.endpoint)
    return state is not None and not state.is_deleting and bool(state.resource.spec.remedies)


def _note(connection: Connection, one: Incident, action: str, text: str, act: Act, now_s: float) -> None:
    because = f"incident {one.number}, act {act.number}: {text}"[:BECAUSE_MAX]
    journal.add(connection, journal.Entry(now_s, action, because, one.project, one.endpoint, act.subject))
    recording.note(connection, action, because, (f"endpoint {one.project}/{one.endpoint}",))
