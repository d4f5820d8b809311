"""Keeps the timesheet of nodes and replicas, and makes cost lines of every hour that is over.

Looks every LOOK_EVERY_S; what it saw is stored every STORE_EVERY_S, and a control that starts goes on from there. An
hour becomes lines LATE_S after its end, when gateways have told what was asked in it: one transaction writes the lines
and drops the sheet, so that no moment at which control dies loses or doubles any of it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from stoker.control.costs import closing, outlook
from stoker.control.costs.looking import look
from stoker.control.observe import Observer, State
from stoker.core import alarms
from stoker.core.alerts import Signal
from stoker.core.cost import timesheet
from stoker.core.cost.outlook import Anomaly
from stoker.core.cost.timesheet import Sheet
from stoker.store import costs, leases
from stoker.store.costs import HOUR_S
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.telemetry.metrics import Registry
from stoker.types.costs import CostLine
from stoker.types.errors import StokerError
from stoker.types.prices import NANO_PER_USD

LOOK_EVERY_S: Final = 5.0
STORE_EVERY_S: Final = 15.0
LATE_S: Final = 90.0  # usage comes every few seconds, and again after a gateway's restart
ENDPOINTS_MAX: Final = 500  # that have series of their own; the others are counted as one
OTHER: Final = "other"
MICRO: Final = 1000  # nano-dollars

log = logging.getLogger(__name__)


class CostWatch:
    """One in a control process; acts while it has the lease. anomaly: of today or yesterday; known while it acts."""

    def __init__(
        self,
        database: Database,
        observer: Observer,
        state: Callable[[], State | None],
        lease: Callable[[], Lease | None],
        metrics: Registry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.anomaly: Anomaly | None = None
        self._database = database
        self._observer = observer
        self._state = state
        self._lease = lease
        self._metrics = metrics
        self._clock = clock
        self._token = -1  # of the lease under which the sheet was read
        self._sheet: Sheet | None = None
        self._ended: list[Sheet] = []  # not stored yet
        self._waiting: set[int] = set()  # hours (unix seconds) that are stored and no lines yet
        self._stored_s = 0.0
        self._shown: set[tuple[str, str]] = set()
        self._is_known = False  # whether the days were looked at for an anomaly

    @property
    def unusual(self) -> tuple[Signal, ...] | None:
        """Return what is to be told of costs; None while that is not known."""
        if not self._is_known:
            return None
        found = self.anomaly
        if found is None:
            return ()
        because = f"${found.amount / NANO_PER_USD:,.2f}, on other days ${found.usual / NANO_PER_USD:,.2f}"
        return (alarms.BY_NAME["CostUnusual"].signal({}, because, found.sentence),)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except LeaseLost:
                self._token = -1  # another control looks
            except StokerError as problem:
                log.warning("what serving costs could not be kept", extra={"reason": problem.message})
            except Exception:  # what a request costs must not stop requests: the next look goes on from what is stored
                log.exception("a look at what serving costs failed")
                self._token = -1

    async def look(self) -> None:
        """Look once; store what is to be stored, and make lines of what is over. Raises LeaseLost or Unavailable."""
        lease, state = self._lease(), self._state()
        if lease is None or state is None:
            self._token, self.anomaly, self._is_known = -1, None, False
            return
        if self._token != lease.token:
            await self._begin(lease)
        assert self._sheet is not None
        now_s = self._clock()
        self._sheet, ended = timesheet.look(self._sheet, look(state, self._observer.nodes(), now_s))
        self._ended += ended
        if self._ended or not 0 <= now_s - self._stored_s < STORE_EVERY_S:
            await self._store(lease, self._sheet)
            self._stored_s = now_s
        due = sorted(hour_s for hour_s in self._waiting if hour_s + HOUR_S + LATE_S <= now_s)
        for hour_s in due:
            await self._close(lease, hour_s)
        if due or not self._is_known:
            self.anomaly = await self._database.reading(lambda connection: outlook.anomaly(connection, now_s))
            self._is_known = True

    async def _begin(self, lease: Lease) -> None:
        """Go on from what is stored."""

        def read(connection: Connection) -> tuple[Sheet | None, set[int]]:
            return costs.open_sheet(connection), set(costs.ended(connection))

        sheet, self._waiting = await self._database.reading(read)
        self._sheet = sheet or timesheet.begin(int(self._clock() * 1000))
        self._ended = []
        self._token = lease.token

    async def _store(self, lease: Lease, sheet: Sheet) -> None:
        ended = tuple(self._ended)

        def write(connection: Connection) -> None:
            leases.guard(connection, lease)
            for each in ended:
                costs.put_sheet(connection, each, is_open=False)
                costs.put_gpu_times(connection, each)
            costs.put_sheet(connection, sheet, is_open=True)

        await self._database.writing(write)
        self._waiting |= {each.hour_ms // 1000 for each in ended}
        self._ended = []

    async def _close(self, lease: Lease, hour_s: int) -> None:
        """Make lines of an hour."""

        def write(connection: Connection) -> Sequence[CostLine]:
            leases.guard(connection, lease)
            return closing.close(connection, hour_s)

        lines = await self._database.writing(write)
        self._waiting.discard(hour_s)
        self._count(lines)

    def _count(self, lines: Sequence[CostLine]) -> None:
        for line in lines:
            whose = (line.project, line.endpoint)
            if whose not in self._shown and len(self._shown) >= ENDPOINTS_MAX:
                whose = (OTHER, OTHER)
            self._shown.add(whose)
            labels = {"kind": line.kind, "pool": line.pool, "project": whose[0], "endpoint": whose[1]}
            self._metrics.counter("stoker_cost_micro_dollars_total", **labels).add(line.nano_usd / MICRO)
            self._metrics.counter("stoker_cost_machine_seconds_total", **labels).add(line.ms / 1000.0)
