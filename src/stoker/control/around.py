"""Which agents and replicas the history hears at a tick, and what of their words it believes.

Control and the gateways are asked at every tick (observe/history/collect.py). A platform may have hundreds of replicas:
at most ASKED_MAX of them are asked at a tick, each in its turn, REPLICAS_MAX at all. A replica runs other people's
code, so it is believed about itself alone, and only what the catalogue keeps.
"""

import logging
import time
from typing import Final

import msgspec

from stoker.control.observe import Observer
from stoker.observe.history.accounts import GAUGE_STALE_S, Answer
from stoker.observe.history.collect import Remote, Source
from stoker.observe.port import TICK_S
from stoker.placement.port import Driver
from stoker.telemetry.catalogue import BY_NAME, SAID_BY_REPLICA
from stoker.telemetry.metrics import Registry
from stoker.telemetry.snapshot import MetricValues, Snapshot
from stoker.types.errors import StokerError
from stoker.types.process import ProcessStatus

# Of 100 replicas each is asked every 10 s. 50 answers cost control 30 ms of processor (bench/around.py).
ASKED_MAX: Final = 50
# The history remembers what 256 processes had counted; the rest of them is for gateways and agents.
REPLICAS_MAX: Final = 200
_ASKED_IN: Final = ("ready", "draining")

log = logging.getLogger(__name__)


class Around:
    """The rotation.

    metrics: where it counts how far the nodes' clocks are.
    """

    def __init__(self, driver: Driver, observer: Observer, metrics: Registry) -> None:
        self._metrics = metrics
        self._driver = driver
        self._observer = observer
        self._after = ""  # the replica that was asked last
        self._left_out = 0

    def due(self) -> list[Source]:
        """Return who is asked at this tick: every agent, and the replicas whose turn it is."""
        replicas = {
            process.name: process
            for status in self._observer.statuses
            for process in status.processes
            if process.kind == "replica" and process.phase in _ASKED_IN
        }
        names = sorted(replicas)
        left_out = max(len(names) - REPLICAS_MAX, 0)
        if left_out and not self._left_out:
            log.warning("more replicas than the history keeps the numbers of", extra={"left_out": left_out})
        self._left_out = left_out
        names = names[:REPLICAS_MAX]
        turn = [name for name in names if name > self._after] + [name for name in names if name <= self._after]
        turn = turn[:ASKED_MAX]
        self._after = turn[-1] if turn else ""
        rounds = -(-len(names) // ASKED_MAX)
        good_for_s = GAUGE_STALE_S + TICK_S * max(rounds - 1, 0)
        agents = [_Agent(self._driver, status.node, self._metrics) for status in self._observer.statuses]
        return [*agents, *(_Replica(replicas[name], good_for_s) for name in turn)]


class _Agent:
    """See observe.history.collect.Source."""

    def __init__(self, driver: Driver, node: str, metrics: Registry) -> None:
        self.name = f"agent-{node}"
        self._metrics = metrics
        self._driver = driver
        self._node = node

    async def ask(self) -> Answer | None:
        """See Source. The moment it started is what tells one start from the next."""
        asked_at_s = time.time()
        try:
            told = await self._driver.metrics(self._node)
        except StokerError:
            return None
        self._clocks(told.taken_at_s, asked_at_s, time.time())
        began_s = told.total("process_start_time_seconds", process=told.process)
        return Answer(self.name, f"{began_s:.2f}", told)

    def _clocks(self, there_s: float, asked_at_s: float, answered_at_s: float) -> None:
        """Take note how far the node's clock is: it was read there between two moments here."""
        apart_s = max(there_s - answered_at_s, asked_at_s - there_s, 0.0)
        self._metrics.gauge("stoker_node_clock_apart_seconds", node=self._node).set(round(apart_s, 3))


class _Replica:
    """See observe.history.collect.Source."""

    def __init__(self, process: ProcessStatus, good_for_s: float) -> None:
        self.name = process.name
        self._process = process
        self._good_for_s = good_for_s

    async def ask(self) -> Answer | None:
        """See Source."""
        answer = await Remote(self.name, self._process.address).ask()
        if answer is None:
            return None
        return Answer(self.name, answer.boot, of_itself(answer.snapshot, self._process), self._good_for_s)


def of_itself(told: Snapshot, process: ProcessStatus) -> Snapshot:
    """Return what of `told` is kept: metrics that name the replica itself, under the labels that control gave it."""
    own = {**process.labels, "replica": process.name}
    found: dict[str, MetricValues] = {}
    for metric in told.metrics:
        known = BY_NAME.get(metric.name)
        if metric.name not in SAID_BY_REPLICA or known is None or not known.kept:
            continue
        if (metric.kind, metric.labels) != (known.kind, known.labels):
            continue
        wanted = tuple(own.get(label, "") for label in known.labels)
        series = tuple(one for one in metric.series if one.labels == wanted)[:1]
        if series:
            found[metric.name] = msgspec.structs.replace(metric, series=series)
    return Snapshot(told.process, told.taken_at_s, tuple(found.values()))
