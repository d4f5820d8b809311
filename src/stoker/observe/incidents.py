"""Incidents as they go on: raised, explained again each minute while they last, closed when the endpoint is well.

Whoever finds something burning calls `open`: the watch over objectives, the quarantine, a person. Everything is stored
before it is returned; a control that dies goes on with what the database says.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from stoker.core.alerts import Alert
from stoker.core.diagnose import incident as life
from stoker.core.diagnose.incident import Incident
from stoker.core.diagnose.verdict import Explanation
from stoker.observe.explain import STEP_S, Evidence, explain, still_wrong
from stoker.store import incidents
from stoker.store.engine import Connection, Database

OPEN_MAX: Final = 100  # looked at in one round; the newest

log = logging.getLogger(__name__)


class Incidents:
    """Opens, explains and closes. `quarantined` says which endpoints have a new shape in quarantine."""

    def __init__(
        self,
        database: Database,
        evidence: Evidence,
        quarantined: Callable[[float], set[tuple[str, str]]],
        alerts: Callable[[], Iterable[Alert]] = tuple,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._evidence = evidence
        self._quarantined = quarantined
        self._alerts = alerts
        self._raised: set[tuple[str, float]] = set()  # alerts that opened one: each does so once, however long it lasts
        self._clock = clock

    async def run(self) -> None:
        """Look every minute, a little after the numbers of it came; returns only by cancellation."""
        while True:
            await asyncio.sleep(STEP_S - (self._clock() - 5.0) % STEP_S)
            try:
                await self.look()
            except Exception:  # a diagnosis that fails must not end the control of all endpoints
                log.exception("a look at the incidents failed; the next minute looks again")

    async def why(self, project: str, endpoint: str, since_s: float | None = None) -> Explanation:
        """Return why the endpoint is worse than before. Changes nothing."""
        return await explain(self._evidence, project, endpoint, self._clock(), since_s)

    async def open(self, project: str, endpoint: str, raised_by: str) -> Incident:
        """Return the endpoint's open incident, a new one where none is; explained as far as can be told now."""
        now_s = self._clock()

        def raised(connection: Connection) -> Incident:
            last = incidents.last_of(connection, project, endpoint)
            if last is None or (not last.is_open and now_s - last.closed_at_s > life.REOPEN_S):
                return incidents.add(connection, life.opened(project, endpoint, raised_by, now_s))
            again = life.raised_again(last, raised_by, now_s)
            incidents.put(connection, again)
            return again

        return await self._explained(await self._database.writing(raised))

    async def close(self, number: int, resolution: str) -> Incident:
        """End an incident by hand. Raises NotFound."""
        return await self._changed(number, lambda one: life.closed(one, resolution, self._clock()))

    async def look(self) -> None:
        """Raise what the quarantine and the objectives found, and look at every open incident once."""
        for project, endpoint in sorted(self._quarantined(self._clock())):
            await self.open(project, endpoint, "a request that kills replicas is in quarantine")
        firing = {(each.id, each.began_s): each for each in self._alerts() if each.state == "firing"}
        for key, alert in firing.items():
            project, endpoint = alert.labels.get("project", ""), alert.labels.get("endpoint", "")
            if key not in self._raised and endpoint:
                await self.open(project, endpoint, f"alert: {alert.summary}")
        self._raised = set(firing)
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
        # While the good stretch is known it stays the baseline's end: an incident of hours is not its own baseline.
        since_s = one.since_s if one.causes else None
        found = await self.why(one.project, one.endpoint, since_s)
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

        return await self._database.writing(do)
