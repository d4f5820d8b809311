"""What became of processes, counted from what the nodes report: starts that became ready,
restarts, what replicas use.

Control counts it rather than the replica, which does not live on to say that it died, and from reports it gets anyway.
What happened before it first saw a process is not counted.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from stoker.telemetry.metrics import Registry
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.starts import FIRST_ANSWER, TOTAL

SEEN_MAX: Final = 10_000  # processes that are remembered; an agent runs at most 512


class Fleet:
    """Counts what nodes report into `registry`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._began_at_s = time.time()
        self._seen: dict[tuple[str, str], ProcessStatus] = {}

    def look(self, statuses: Iterable[NodeStatus]) -> None:
        """Take the newest report of every node."""
        now: dict[tuple[str, str], ProcessStatus] = {}
        for status in statuses:
            self._node(status)
            for process in status.processes[: SEEN_MAX - len(now)]:
                now[status.node, process.name] = process
                before = self._seen.get((status.node, process.name))
                self._process(status.node, process, before)
                if process.kind == "replica":
                    self._used(status.node, process, before)
        self._seen = now

    def _process(self, node: str, now: ProcessStatus, before: ProcessStatus | None) -> None:
        if before is None:
            if now.started_at_s < self._began_at_s:
                return
            before = msgspec.structs.replace(now, ready_at_s=0.0, phases={})  # it was ready before anybody looked
        whose = _whose(now)
        if now.restarts > before.restarts:
            restarted = self._registry.counter(
                "stoker_restarts_total",
                kind=now.kind,
                node=node,
                reason=now.killed_for or _reason(now.last_exit),
                **whose,
            )
            restarted.add(now.restarts - before.restarts)
        if now.ready_at_s and now.ready_at_s != before.ready_at_s:
            self._registry.counter("stoker_cold_starts_total", kind=now.kind, node=node, **whose).add()
            if now.kind == "replica":
                self._cold(node, now, {**now.phases, TOTAL: now.ready_at_s - now.started_at_s})
        elif FIRST_ANSWER in now.phases and FIRST_ANSWER not in before.phases:
            self._cold(node, now, {FIRST_ANSWER: now.phases[FIRST_ANSWER]})

    def _used(self, node: str, now: ProcessStatus, before: ProcessStatus | None) -> None:
        """Count what it used since the last report; of the first that is seen all it ever did is counted before."""
        whose = {**_whose(now), "node": node, "replica": now.name}
        is_same = before is not None and before.pid == now.pid
        used_s = now.cpu_s - before.cpu_s if before is not None and is_same else now.cpu_s
        is_new = before is None and now.started_at_s < self._began_at_s
        self._registry.counter("stoker_replica_cpu_seconds_total", **whose).add(0.0 if is_new else max(used_s, 0.0))
        self._registry.gauge("stoker_replica_memory_bytes", **whose).set(float(now.rss_bytes))

    def _cold(self, node: str, process: ProcessStatus, phases: Mapping[str, float]) -> None:
        for phase, seconds in phases.items():
            labels = {**_whose(process), "node": node, "phase": phase}
            self._registry.histogram("stoker_cold_start_seconds", **labels).observe(seconds)

    def _node(self, status: NodeStatus) -> None:
        self._registry.gauge("stoker_node_cores", node=status.node).set(status.cores)
        self._registry.gauge("stoker_node_memory_bytes", node=status.node).set(float(status.memory_bytes))
        self._registry.gauge("stoker_node_memory_free_bytes", node=status.node).set(float(status.memory_free_bytes))
        if status.cpu_ratio is not None:
            self._registry.gauge("stoker_node_cpu_ratio", node=status.node).set(status.cpu_ratio)
        if status.cpu_pressure_ratio is not None:
            self._registry.gauge("stoker_node_cpu_pressure_ratio", node=status.node).set(status.cpu_pressure_ratio)
        if status.memory_pressure_ratio is not None:
            starved = self._registry.gauge("stoker_node_memory_pressure_ratio", node=status.node)
            starved.set(status.memory_pressure_ratio)


def _whose(process: ProcessStatus) -> dict[str, str]:
    return {"project": process.labels.get("project", ""), "endpoint": process.labels.get("endpoint", "")}


def _reason(last_exit: str) -> str:
    if last_exit.startswith("exit code"):
        return "exit"
    return "signal" if last_exit.startswith("killed by") else "unseen"
