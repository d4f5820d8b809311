"""What every endpoint did in the last seconds, counted by the gateways and asked of each over its own socket."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from stoker.client.views import EndpointStats, GatewayStats, Stats
from stoker.control.observe import Observer
from stoker.control.routes import RoutePublisher
from stoker.core import conditions
from stoker.core.snapshot import EndpointState
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.store import endpoints
from stoker.store.engine import Database
from stoker.telemetry.metrics import Snapshot, decode_snapshot, merge, subtract
from stoker.types.errors import ReplicaLost, StokerError

SAMPLE_EVERY_S: Final = 2.5
SAMPLES_KEPT: Final = 3  # with the one taken for an answer they span 5 to 7.5 s
ASK_TIMEOUT_S: Final = 1.0

log = logging.getLogger(__name__)


class Sample(msgspec.Struct, frozen=True):
    """What the gateways that answered had counted. `at_s` is monotonic."""

    at_s: float
    gateways: dict[int, Snapshot]


class StatsReader:
    """Samples the gateways now and then, so that one question is answered with rates."""

    def __init__(
        self,
        database: Database,
        observer: Observer,
        routes: RoutePublisher,
        address: Callable[[str], str],
        gateways: int,
    ) -> None:
        self._database = database
        self._observer = observer
        self._routes = routes
        self._address = address
        self._gateways = gateways
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_KEPT)

    async def sample_now_and_then(self) -> None:
        """Sample every SAMPLE_EVERY_S; returns only by cancellation."""
        while True:
            with suppress(OSError):
                self._samples.append(await self._sample())
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def read(self) -> Stats:
        """Return rates over the last seconds, and gauges of now."""
        states = await self._database.reading(endpoints.everything)
        now = await self._sample()
        before = self._samples[0] if self._samples else now
        seconds = max(now.at_s - before.at_s, 1e-3)
        change = merge(
            subtract(snapshot, before.gateways[index])
            for index, snapshot in now.gateways.items()
            if index in before.gateways
        )
        tasks = {(route.project, route.endpoint): route.task for route in self._routes.table.endpoints}
        return Stats(
            endpoints=tuple(_endpoint(state, tasks.get(state.key, ""), change, seconds) for state in states),
            gateways=tuple(self._gateway(index) for index in sorted(now.gateways)),
        )

    async def snapshots(self) -> list[Snapshot]:
        """Return what each gateway that answers has counted since its start."""
        return list((await self._sample()).gateways.values())

    async def _sample(self) -> Sample:
        answers = await asyncio.gather(*(self._ask(index) for index in range(self._gateways)))
        found = {index: snapshot for index, snapshot in enumerate(answers) if snapshot is not None}
        return Sample(asyncio.get_running_loop().time(), found)

    async def _ask(self, index: int) -> Snapshot | None:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                link = await connect(self._address(f"gateway-{index}"), timeout_s=ASK_TIMEOUT_S)
                try:
                    _, body = await link.call(RequestHead(method="metrics"), kind=Kind.CALL).answer()
                finally:
                    link.close()
            return decode_snapshot(body)
        except (ReplicaLost, TimeoutError):
            return None  # it starts, or is gone; the others count on
        except (StokerError, ValueError) as odd:
            log.warning("a gateway's metrics could not be read", extra={"gateway": index, "reason": str(odd)})
            return None

    def _gateway(self, index: int) -> GatewayStats:
        name = f"gateway-{index}"
        seen = (self._observer.process(status.node, name) for status in self._observer.statuses)
        rss_bytes = next((process.rss_bytes for process in seen if process is not None), 0)
        return GatewayStats(index=index, rss_bytes=rss_bytes)


def _endpoint(state: EndpointState, task: str, change: Snapshot, seconds: float) -> EndpointStats:
    whose = {"project": state.project, "endpoint": state.name}
    latency = change.distribution("stoker_request_duration_seconds", **whose)
    errors = sum(
        change.total("stoker_requests_total", code=code, **whose)
        for code in change.values_of("stoker_requests_total", "code")
        if code.startswith("5")
    )
    ready = conditions.find(state.status.conditions, conditions.READY)
    return EndpointStats(
        project=state.project,
        endpoint=state.name,
        task=task,
        requests_per_s=change.total("stoker_requests_total", **whose) / seconds,
        errors_per_s=errors / seconds,
        p50_s=latency.quantile(0.5) or 0.0,
        p99_s=latency.quantile(0.99) or 0.0,
        tokens_per_s=change.total("stoker_tokens_total", kind="output", **whose) / seconds,
        queued=int(change.total("stoker_queue_depth", **whose)),
        running=int(change.total("stoker_in_flight", **whose)),
        replicas_ready=state.status.replicas_ready,
        replicas_wanted=state.status.replicas_wanted,
        serving=state.serving,
        ready=ready is not None and ready.status,
        reason="" if ready is None else ready.reason,
    )
