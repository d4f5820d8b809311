"""The watch over objectives: looks as often as sums come (every EVERY_S), decides, remembers, and has receivers told.

What it remembers is stored before anybody is told, outbox included: killed at any moment, it goes on with the same
alerts, and tells what it had not. Only the holder of control's lease looks; another one's memory would be stale.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

import msgspec

from stoker.core import notices, slo
from stoker.core.alerts import Alert, Signal, Silence, alert_id
from stoker.core.notices import AlertMemory, Route
from stoker.core.slo import EVERY_S
from stoker.core.snapshot import EndpointKey, EndpointState
from stoker.observe.notify.post import Post
from stoker.observe.objectives.ages import Ages, Snapshots
from stoker.observe.objectives.alarms import Alarms, Asks
from stoker.observe.objectives.judge import Judge, Standing, Sums
from stoker.observe.objectives.parts import Parts, SumsBy
from stoker.store import alerts, endpoints, journal, leases, notifiers, revisions
from stoker.store.alerts import WatchMemory
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.store.revisions import Made
from stoker.telemetry.metrics import Registry
from stoker.types.errors import InvalidInput, NotFound, Unavailable
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.resources import Notifier
from stoker.types.slos import Move
from stoker.types.units import parse_seconds

# A ticket must last: it is of no use in the minute of a deploy.
TICKET_HOLDS_S: Final = 60.0

log = logging.getLogger(__name__)


class History(Sums, SumsBy, Asks, Snapshots, Protocol):
    """What the watch asks of the history."""


class Watch:
    """One in a control process. `standings` and `memory` are of the last look.

    beat: returns when it is time for the next look: new sums are there (every EVERY_S).
    """

    def __init__(
        self,
        database: Database,
        history: History,
        post: Post,
        lease: Callable[[], Lease | None],
        metrics: Registry,
        beat: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._judge = Judge(history, metrics)
        self._parts = Parts(history)
        self._ages = Ages(history, metrics)
        self.alarms = Alarms(history)
        self._post = post
        self._lease = lease
        self._metrics = metrics
        self._beat = beat
        self._clock = clock
        self._stored: WatchMemory | None = None  # None: not read since this process got the lease
        self._turn = asyncio.Lock()
        self._shown: dict[str, dict[str, str]] = {}  # labels of objectives that have series
        self.standings: tuple[Standing, ...] = ()
        # What is to be told of money that was spent (control/budgets.py).
        self.spending: Callable[[Connection, float], list[Signal]] = _nothing_spent

    @property
    def memory(self) -> AlertMemory:
        """The alerts and silences there are."""
        return self._stored.alerts if self._stored is not None else AlertMemory()

    def alerted(self) -> list[Alert]:
        """Return the alerts there are."""
        return list(self.memory.alerts.values())

    def seen(self) -> list[Alert]:
        """Return the alerts as they are now: those that are stored say what was so when they began or got worse."""
        burning = {alert_id(each.labels): each for each in map(_burning, self.standings) if each is not None}
        return [
            msgspec.structs.replace(alert, because=burning[alert.id].because)
            if alert.id in burning and alert.state != "resolved"
            else alert
            for alert in self.memory.alerts.values()
        ]

    def asked(self) -> dict[EndpointKey, dict[Move, str]] | None:
        """Return the moves that objectives ask for now, by endpoint, with why; None before the first look."""
        if self._stored is None:
            return None
        found: dict[EndpointKey, dict[Move, str]] = {}
        for each in self.standings:
            for due in each.decision.due:
                moves = found.setdefault((ProjectName(each.project), EndpointName(each.endpoint)), {})
                moves.setdefault(due.move, f"objective {slo.label(each.objective)!r}: {due.because}")
        return found

    @property
    def frozen(self) -> dict[EndpointKey, str]:
        """Why the rollouts of endpoints are frozen by the policy of their budgets."""
        return {
            key: moves["freeze-rollouts"] for key, moves in (self.asked() or {}).items() if "freeze-rollouts" in moves
        }

    async def run(self) -> None:
        """Look at every beat; returns only by cancellation."""
        while True:
            await self._beat()
            began_s = time.perf_counter()
            try:
                await self.look()
            except LeaseLost:
                self._stored = None
                self._judge.forget()
            except Exception:  # whatever one look meets, the next one may not
                self._metrics.counter("stoker_watch_errors_total").add()
                log.exception("a look at the objectives failed")
            self._metrics.histogram("stoker_watch_seconds").observe(time.perf_counter() - began_s)

    async def look(self) -> None:
        """Judge every objective once, store what changed, and hand on what is to be told."""
        lease = self._lease()
        if lease is None:
            self._stored, self.standings = None, ()
            self._judge.forget()
            return
        async with self._turn:
            await self._look(lease)

    async def acknowledge(self, which: str, by: str) -> Alert:
        """Have somebody take an alert. Raises NotFound, or Unavailable while this process does not act."""
        if which not in self.memory.alerts:
            raise NotFound(f"no alert {which!r}; `stoker alerts` lists them")
        after = await self._change(lambda memory: notices.acknowledge(memory, which, by, self._clock()))
        return after.alerts[which]

    async def silence(self, what: Silence) -> None:
        """Add a silence. Raises InvalidInput for one that cannot be, or Unavailable while this process does not act."""
        try:
            await self._change(lambda memory: notices.silence(memory, what))
        except ValueError as wrong:
            raise InvalidInput(str(wrong), field="match") from wrong

    async def unsilence(self, which: str) -> None:
        """End a silence. Raises NotFound, or Unavailable while this process does not act."""
        if which not in self.memory.silences:
            raise NotFound(f"no silence {which!r}; `stoker alerts` lists them")
        await self._change(lambda memory: notices.unsilence(memory, which))

    async def _look(self, lease: Lease) -> None:
        known = self._ages.known()
        before, states, receivers, made, spending = await self._database.reading(
            lambda connection: self._read(connection, known)
        )
        now_s = self._clock()
        await self._ages.follow(states, made, now_s)
        followed = await self._parts.look(states, before.parts, now_s)
        standings = await self._judge.look(states, before.slos, followed, self._ages.of, now_s)
        burns = (burn for each in standings if (burn := _burning(each)))
        signals = (*burns, *spending, *await self.alarms.look(states, now_s, before.alerts.alerts.values()))
        routes = [_route(each) for each in receivers]
        remembered = notices.delivered(before.alerts, self._post.settled())
        decision = notices.decide(signals, routes, remembered, now_s)
        slos = {
            each.key: each.decision.memory
            for each in standings
            if each.decision.memory.firing or each.decision.memory.steps
        }
        after = WatchMemory(decision.memory, slos, followed)
        if after != before:
            await self._store(lease, after, decision.changed, now_s)
        self._stored, self.standings = after, standings
        if decision.dropped:
            log.warning("there are too many alerts to keep", extra={"dropped": decision.dropped})
        self._post.deliver(after.alerts.outbox, receivers)
        self._count()

    def _read(
        self, connection: Connection, known: set[str]
    ) -> tuple[WatchMemory, list[EndpointState], list[Notifier], list[Made], list[Signal]]:
        memory = self._stored if self._stored is not None else alerts.load(connection)
        made = revisions.made(connection, known)
        spending = self.spending(connection, self._clock())
        return memory, endpoints.everything(connection), notifiers.everything(connection), made, spending

    async def _change(self, change: Callable[[AlertMemory], AlertMemory]) -> AlertMemory:
        async with self._turn:
            lease, before = self._lease(), self._stored
            if lease is None or before is None:
                raise Unavailable("control starts, or another one acts", retry_after_s=EVERY_S)
            after = msgspec.structs.replace(before, alerts=change(before.alerts))
            await self._store(lease, after, (), self._clock())
            self._stored = after
            return after.alerts

    async def _store(self, lease: Lease, memory: WatchMemory, changed: Iterable[Alert], now_s: float) -> None:
        def write(connection: Connection) -> None:
            leases.guard(connection, lease)
            alerts.save(connection, memory)
            for alert in changed:
                journal.add(connection, _entry(alert, now_s))

        await self._database.writing(write)

    def _count(self) -> None:
        states = [(alert.severity, alert.state) for alert in self.memory.alerts.values()]
        for severity in ("page", "ticket"):
            for state in ("pending", "firing", "acknowledged", "silenced"):
                gauge = self._metrics.gauge("stoker_alerts", severity=severity, state=state)
                gauge.set(float(states.count((severity, state))))
        shown = {}
        for each in self.standings:
            whose = {"project": each.project, "endpoint": each.endpoint, "slo": slo.label(each.objective)}
            self._metrics.gauge("stoker_slo_budget_left_ratio", **whose).set(each.decision.budget_left)
            self._metrics.gauge("stoker_slo_burn_rate", **whose).set(each.decision.burn_rate)
            shown[each.key] = whose
        for key in self._shown.keys() - shown.keys():
            self._metrics.forget(**self._shown[key])
        self._shown = shown


def _nothing_spent(_connection: Connection, _now_s: float) -> list[Signal]:
    return []


def _burning(standing: Standing) -> Signal | None:
    """Return the signal of an objective that burns, None of one that does not."""
    decision, objective = standing.decision, standing.objective
    if decision.severity == "none":
        return None
    labels = {
        "alertname": "SloBurn",
        "project": standing.project,
        "endpoint": standing.endpoint,
        "slo": objective.name,
        "sli": objective.sli,
    }
    if objective.tenant:
        labels["tenant"] = objective.tenant
    if objective.segment:
        labels["segment"] = objective.segment
    if objective.owner:
        labels["owner"] = objective.owner
    return Signal(
        labels=labels,
        severity=decision.severity,
        summary=f"{standing.project}/{standing.endpoint} misses its objective {slo.label(objective)!r}",
        because=decision.because,
        runbook=objective.runbook,
        holds_s=TICKET_HOLDS_S if decision.severity == "ticket" else 0.0,
    )


def _route(notifier: Notifier) -> Route:
    spec = notifier.spec
    return Route(
        receiver=f"{notifier.metadata.project}/{notifier.metadata.name}",
        project="" if spec.all_projects else notifier.metadata.project,
        match=spec.match,
        min_severity=spec.min_severity,
        repeat_s=parse_seconds(spec.repeat),
    )


def _entry(alert: Alert, now_s: float) -> journal.Entry:
    labels = alert.labels
    because = alert.muted_by or alert.because
    return journal.Entry(
        now_s,
        f"Alert{alert.state.title()}",
        because,
        labels.get("project", ""),
        labels.get("endpoint", ""),
        labels.get("slo") or labels.get("alertname", ""),
    )
