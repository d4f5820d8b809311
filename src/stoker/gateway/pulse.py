"""What happens in a gateway once a second, and when somebody asks for its numbers."""

import asyncio
import time
from typing import Final

from stoker.gateway.answers import Answers
from stoker.gateway.directory import Directory
from stoker.gateway.http.connection import Connection
from stoker.gateway.quotas import Quotas
from stoker.gateway.relay import PING_AFTER_S
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.telemetry.process import read_process

PULSE_S: Final = 1.0


class Pulse:
    """Sweeps lanes and kept answers, keeps idle streams alive, and reads gauges."""

    def __init__(
        self, directory: Directory, answers: Answers, quotas: Quotas, connections: set[Connection], registry: Registry
    ) -> None:
        self._directory = directory
        self._quotas = quotas
        self._answers = answers
        self._connections = connections
        self._registry = registry
        self._lag = registry.histogram("stoker_event_loop_lag_seconds", process=registry.process)

    async def run(self) -> None:
        """Beat until cancelled."""
        pinged_s = time.monotonic()
        while True:
            due_s = time.monotonic() + PULSE_S
            await asyncio.sleep(PULSE_S)
            now_s = time.monotonic()
            self._lag.observe(max(now_s - due_s, 0.0))
            for lane in self._directory:
                lane.sweep(now_s)
                lane.meters.turn(now_s)
            self._answers.sweep(self._directory, now_s)
            if now_s - pinged_s >= PING_AFTER_S / 2:  # a stream idle for a whole round is pinged: after 7.5 to 15 s
                pinged_s = now_s
                for lane in self._directory:
                    for exchange in list(lane.exchanges):
                        if exchange.relay is not None:
                            exchange.relay.keep_alive()

    def snapshot(self) -> Snapshot:
        """Return the numbers of now."""
        for lane in self._directory:
            lane.meters.gauges(
                waiting=len(lane.admission) + lane.suspects.count, in_flight=len(lane.exchanges), ready=lane.ready_count
            )
            if lane.circuit.is_used:
                lane.meters.breaker(lane.circuit.state(time.monotonic()))
            for replica in lane.replicas:
                if replica.stats.kv_used_ratio:
                    lane.meters.kv_used(replica.revision, replica.id, replica.stats.kv_used_ratio)
        self._answers.gauges()
        registry, process = self._registry, self._registry.process
        registry.gauge("stoker_gateway_connections", process=process).set(float(len(self._connections)))
        registry.gauge("stoker_route_table_version", process=process).set(float(self._directory.version))
        for scope, count in self._quotas.running().items():
            registry.gauge("stoker_quota_running", process=process, scope=scope).set(float(count))
        read_process(registry)
        return registry.snapshot()
