"""Incidents as they go on: raised, explained until there is a cause and each minute after, closed when all is well.

Whoever finds something burning calls `open`: the watch over objectives, the quarantine, a person. Everything is stored
before it is returned; a control that dies goes on with what the database says. Only the holder of control's lease
writes: each transaction is guarded by its token.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from stoker.core.alerts import Alert
from stoker.core.diagnose import incident as life
from stoker.core.diagnose.incident import Incident
from stoker.core.diagnose.verdict import Explanation
from stoker.observe.incidents.explain import STEP_S, Evidence, Stretch, explain, still_wrong
from stoker.store import incidents, leases, recording
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.types.errors import Unavailable
from stoker.types.remedies import Load

RAISE_EVERY_S: Final = 5.0  # as often as the objectives are judged
OPEN_MAX: Final = 100  # looked at in one round; the newest

_T = TypeVar("_T")
log = logging.getLogger(__name__)


class Incidents:
    """Opens, explains and closes. `quarantined` says which endpoints have a new shape in quarantine."""

    def __init__(
        self,
        database: Database,
        evidence: Evidence,
        quarantined: Callable[[], Awaitable[set[tuple[str, str]]]],
        lease: Callable[[], Lease | None],
        alerts: Callable[[], Iterable[Alert]] = tuple,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._evidence = evidence
        self._quarantined = quarantined
        self._lease = lease
        self._alerts = alerts
        self._raised: set[tuple[str, float]] = set()  # alerts that opened one: each does so once, however long it lasts
        self._clock = clock

    async def run(self) -> None:
        """Raise what is new every RAISE_EVERY_S, look at all that is open each minute; ends only by cancellation."""
        looked_s = self._clock()
        while True:
            await asyncio.sleep(RAISE_EVERY_S)
            if self._lease() is None:
                continue
            try:
                await self.raise_new()
                await self.explain_new()
                if abs(self._clock() - looked_s) >= STEP_S:
                    looked_s = self._clock()
                    await self.look()
            except (LeaseLost, Unavailable):
                log.info("another control looks at the incidents now")
            except Exception:  # a diagnosis that fails must not end the control of all endpoints
                log.exception("a look at the incidents failed; the next minute looks again")

    async def why(
        self, project: str, endpoint: str, since_s: float | None = None, until_s: float | None = None
    ) -> Explanation:
        """Return why the endpoint is worse than before; since its open incident began, where it has one.

        until_s: what came later is not looked at: of something that is over. Changes nothing.
        """
        if until_s is not None:
            return await explain(self._evidence, project, endpoint, until_s, since_s)
        last = await self._database.reading(lambda each: incidents.last_of(each, project, endpoint))
        if since_s is None and last is not None and last.is_open and last.causes:
            # What was good before it stays what it is compared with: hours of it are not its own baseline.
            return await self.again(last, last.since_s)
        return await explain(self._evidence, project, endpoint, self._clock(), since_s)

    async def again(self, incident: Incident, since_s: float) -> Explanation:
        """Return why the endpoint is worse since `since_s` than it was before the incident. Changes nothing."""
        good = (
            Stretch(incident.base_from_s, incident.base_until_s)
            if incident.base_until_s > incident.base_from_s
            else None
        )
        return await explain(self._evidence, incident.project, incident.endpoint, self._clock(), since_s, good)

    async def load(self, project: str, endpoint: str) -> Load:
        """Return how the endpoint did in the last minute."""
        end_s = self._clock() // self._evidence.fine_s * self._evidence.fine_s
        points = await self._evidence.points(project, endpoint, end_s - STEP_S, end_s, STEP_S)
        return Load(points[0].requests, points[0].failed_ratio, points[0].latency_s) if points else Load()

    async def open(self, project: str, endpoint: str, raised_by: str) -> Incident:
        """Return the endpoint's open incident, a new one where none is; explained as far as can be told now.

        Raises Unavailable while this process does not act.
        """
        now_s = self._clock()

        def raised(connection: Connection) -> Incident:
            last = incidents.last_of(connection, project, endpoint)
            if last is None or (not last.is_open and now_s - last.closed_at_s > life.REOPEN_S):
                return incidents.add(connection, life.opened(project, endpoint, raised_by, now_s))
            again = life.raised_again(last, raised_by, now_s)
            incidents.put(connection, again)
            return again

        made = await self.written(raised)
        with recording.acting(None):  # who opens an incident does not write its explanation
            return await self._explained(made)

    async def close(self, number: int, resolution: str) -> Incident:
        """End an incident by hand. Raises NotFound, or Unavailable while this process does not act."""
        return await self._changed(number, lambda one: life.closed(one, resolution, self._clock()))

    async def raise_new(self) -> None:
        """Open incidents for what the quarantine and the objectives found."""
        for project, endpoint in sorted(await self._quarantined()):
            await self.open(project, endpoint, "a request that kills replicas is in quarantine")
        firing = {(each.id, each.began_s): each for each in self._alerts() if each.state == "firing"}
        for key, alert in firing.items():
            project, endpoint = alert.labels.get("project", ""), alert.labels.get("endpoint", "")
            if key not in self._raised and endpoint and not await self._is_closed_over(alert, project, endpoint):
                await self.open(project, endpoint, f"alert: {alert.summary}")
        self._raised = set(firing)

    async def _is_closed_over(self, alert: Alert, project: str, endpoint: str) -> bool:
        """Return whether an incident was closed while `alert` fired: it opened one, before this process began."""
        last = await self._database.reading(lambda each: incidents.last_of(each, project, endpoint))
        return last is not None and not last.is_open and last.closed_at_s >= alert.since_s

    async def explain_new(self) -> None:
        """Explain again what was just opened and has no cause yet: who is paged within seconds waits no minute for it.

        The first look may come before what was counted has been collected.
        """
        for one in await self._database.reading(lambda each: incidents.newest(each, OPEN_MAX, only_open=True)):
            if not one.causes and 0 <= self._clock() - one.opened_at_s < STEP_S:
                await self._explained(one)

    async def look(self) -> None:
        """Look at every open incident once: explain it again while it lasts, close it when it is over."""
        for one in await self._database.reading(lambda each: incidents.newest(each, OPEN_MAX, only_open=True)):
            await self._look_at(one)

    async def _look_at(self, one: Incident) -> None:
        now_s = self._clock()
        if one.base_until_s > one.base_from_s:
            base_s = (one.base_from_s, one.base_until_s)
            is_wrong = (await still_wrong(self._evidence, one.project, one.endpoint, base_s, now_s)).is_wrong
        else:
            is_wrong = (await self.why(one.project, one.endpoint, one.since_s)).diagnosis.is_wrong
        if is_wrong:
            await self._explained(one)
        await self._changed(one.number, lambda each: life.looked(each, is_wrong=is_wrong, now_s=now_s))

    async def _explained(self, one: Incident) -> Incident:
        found = await self.why(one.project, one.endpoint)
        base_s = (found.base_from_s, found.base_until_s)
        if one.base_until_s > one.base_from_s:
            base_s = (one.base_from_s, one.base_until_s)
        now_s = self._clock()
        return await self._changed(
            one.number, lambda each: life.explained(each, found.diagnosis, found.changes, base_s, now_s)
        )

    async def _changed(self, number: int, change: Callable[[Incident], Incident]) -> Incident:
        def do(connection: Connection) -> Incident:
            before = incidents.get(connection, number)
            after = change(before)
            if after != before:
                incidents.put(connection, after)
            return after

        return await self.written(do)

    async def written(self, change: Callable[[Connection], _T]) -> _T:
        """Return what `change` returns, in a transaction of whoever acts. Raises Unavailable, or LeaseLost."""
        lease = self._lease()
        if lease is None:
            raise Unavailable("control starts, or another one acts", retry_after_s=RAISE_EVERY_S)

        def guarded(connection: Connection) -> _T:
            leases.guard(connection, lease)
            return change(connection)

        return await self._database.writing(guarded)
