"""What every endpoint did in the last seconds, counted by the gateways."""

import msgspec

from stoker.client.views import EndpointStats, GatewayStats, Stats
from stoker.control import steering
from stoker.control.observe import Observer
from stoker.control.routes import RoutePublisher
from stoker.control.views import starting
from stoker.core import conditions
from stoker.core.snapshot import EndpointState
from stoker.observe.history.collect import Collector
from stoker.store import endpoints
from stoker.store.engine import Database
from stoker.telemetry.metrics import Snapshot, merge, subtract


class StatsReader:
    """Answers with the rates between the collector's last samples and one taken now."""

    def __init__(
        self, database: Database, observer: Observer, routes: RoutePublisher, collector: Collector, gateways: int
    ) -> None:
        self._database = database
        self._observer = observer
        self._routes = routes
        self._collector = collector
        self._names = {f"gateway-{index}": index for index in range(gateways)}

    async def read(self) -> Stats:
        """Return rates over the last seconds, and gauges of now."""
        states, rolling = await self._database.reading(
            lambda each: (endpoints.everything(each), steering.running(each))
        )
        now = await self._collector.sample()
        before = self._collector.before or now
        seconds = max(now.at_s - before.at_s, 1e-3)
        change = merge(
            subtract(answer.snapshot, before.answers[name].snapshot)
            for name, answer in now.answers.items()
            if name in self._names and name in before.answers
        )
        tasks = {(route.project, route.endpoint): route.task for route in self._routes.table.endpoints}
        return Stats(
            endpoints=tuple(
                msgspec.structs.replace(
                    _endpoint(state, tasks.get(state.key, ""), change, seconds),
                    rollout=rolling.get(state.key),
                    progress=starting(state, self._observer, self._routes.table),
                )
                for state in states
            ),
            gateways=tuple(
                self._gateway(name, index, now.answers[name].snapshot)
                for name, index in self._names.items()
                if name in now.answers
            ),
        )

    def _gateway(self, name: str, index: int, counted: Snapshot) -> GatewayStats:
        seen = (self._observer.process(status.node, name) for status in self._observer.statuses)
        rss_bytes = next((process.rss_bytes for process in seen if process is not None), 0)
        build = "".join(counted.values_of("stoker_gateway_build_info", "build"))
        return GatewayStats(index=index, rss_bytes=rss_bytes, build=build)


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
        newer=conditions.newer(state.status),
    )
