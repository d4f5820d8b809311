"""One endpoint's numbers of a stretch of time, from metrics as they are kept to the window that is compared.

The live platform and the simulator of faults come through here, so that what is learnt there holds here. A counter
without a series counted nothing. What no metric of the catalogue tells (preemptions) is None, and the causes
that rest on it are not judged: see core/diagnose/window.py.
"""

from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Final

import msgspec

from stoker.core.diagnose.onset import Point
from stoker.core.diagnose.window import PARTS_MAX, PHASES, WORK, Axis, Part, Phase, Signals, Spread, Window
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import RELATIVE_ERROR, Distribution, merge_distributions, upper_bound
from stoker.telemetry.snapshot import Snapshot

# Refusals that tell of the platform. A caller's own limits, and what is wrong with his request, do not.
REFUSALS: Final = frozenset(
    ("busy", "queue_full", "shed", "out_of_time", "unavailable", "not_reachable", "draining", "deadline_exceeded")
)
_REFUSED_5XX: Final = frozenset(("unavailable", "not_reachable", "draining", "deadline_exceeded"))
SLOW_TIMES: Final = 1.2
PHASE: Final = "stoker_request_phase_seconds"
REQUESTS: Final = "stoker_requests_total"
DURATION: Final = "stoker_request_duration_seconds"
REFUSED: Final = "stoker_refused_total"
CANCELLED: Final = "stoker_cancelled_total"
REPLICA_REQUESTS: Final = "stoker_replica_requests_total"
REPLICA_DURATION: Final = "stoker_replica_request_duration_seconds"
STALLED: Final = "stoker_replica_stalled_seconds_total"
TENANT_REQUESTS: Final = "stoker_tenant_requests_total"
TENANT_TOKENS: Final = "stoker_tenant_tokens_total"
NODE_MEMORY: Final = "stoker_node_memory_bytes"
NODE_FREE: Final = "stoker_node_memory_free_bytes"
# Signals that are the total of a counter.
COUNTED: Final[dict[str, str]] = {
    "ejections": "stoker_ejections_total",
    "quarantined": "stoker_quarantined_total",
    "cold_requests": "stoker_cold_requests_total",
    "client_retries": "stoker_client_retries_total",
    "retries": "stoker_retries_total",
    "hedges": "stoker_hedges_total",
    "fallbacks": "stoker_fallbacks_total",
    "starts": "stoker_cold_starts_total",
    "restarts": "stoker_restarts_total",
}
EMPTY: Final = "stoker_empty_outputs_total"
REPEATING: Final = "stoker_repeating_outputs_total"
RESTARTS: Final = "stoker_restarts_total"
DRIFT: Final = "stoker_drift_score"
READY: Final = "stoker_replicas_ready"
WANTED: Final = "stoker_replicas_wanted"
KV: Final = "stoker_kv_cache_usage_ratio"
TOGETHER: Final = "stoker_batch_rows"
PROMPT: Final = "stoker_prompt_tokens"
OUTPUT: Final = "stoker_output_tokens"
ROWS: Final = "stoker_rows_total"
NODE_CPU: Final = "stoker_node_cpu_ratio"
NODE_PRESSURE: Final = "stoker_node_cpu_pressure_ratio"
NODE_STARVED: Final = "stoker_node_memory_pressure_ratio"
GPU: Final = "stoker_gpu_utilization_ratio"
GPU_USED: Final = "stoker_gpu_memory_used_bytes"
GPU_BYTES: Final = "stoker_gpu_memory_bytes"
GPUS_MAX: Final = 64
UNWRITABLE: Final = "stoker_replica_unwritable"
DISK_SHORT: Final = "stoker_node_disk_short_ratio"
NODE_STEPPED: Final = "stoker_node_clock_stepped_seconds_total"
STEPPED: Final = "stoker_replica_clock_stepped_seconds_total"
APART: Final = "stoker_node_clock_apart_seconds"
# What a point of the series is made of, and a whole window. Nothing else is asked of the history.
OF_A_POINT: Final = (REQUESTS, DURATION, REFUSED, CANCELLED)
OF_A_WINDOW: Final = (
    *OF_A_POINT, PHASE, REPLICA_REQUESTS, REPLICA_DURATION, STALLED, TENANT_REQUESTS, TENANT_TOKENS, NODE_MEMORY,
    NODE_FREE,
    *COUNTED.values(), EMPTY, REPEATING, DRIFT, READY, WANTED, KV, TOGETHER, PROMPT, OUTPUT, ROWS, NODE_CPU,
    NODE_PRESSURE, NODE_STARVED, GPU, GPU_USED, GPU_BYTES, UNWRITABLE, DISK_SHORT,
    NODE_STEPPED, STEPPED, APART,
)  # fmt: skip


class Site(msgspec.Struct, frozen=True):
    """What metrics do not say: the node of each replica, and the revisions whose engine is a server elsewhere."""

    places: Mapping[str, str] = {}
    remote: frozenset[str] = frozenset()


NOWHERE: Final = Site()


def window(
    change: Snapshot,
    project: str,
    endpoint: str,
    start_s: float,
    site: Site = NOWHERE,
    slow_over_s: float | None = None,
) -> Window:
    """Return the window from `start_s` until the time of `change`.

    Args:
        change: what the counters and histograms gained in that time; gauges are means over it.
        site: what lies where.
        slow_over_s: what counts as slow; SLOW_TIMES the 99th percentile of the window itself when it is the baseline.
    """
    whose = {"project": project, "endpoint": endpoint}
    errors, refused = _failures(change, whose)
    replicas = _replicas(change, whose)
    latency = change.distribution(DURATION, **whose)
    limit_s = slow_over_s if slow_over_s is not None else SLOW_TIMES * (latency.quantile(0.99) or 0.0)
    parts: dict[Axis, dict[str, Part]] = {
        "replica": replicas,
        "node": _nodes(replicas, site.places),
        "tenant": _tenants(change, whose),
        "revision": _by(change, "revision", whose),
    }
    return Window(
        start_s=start_s,
        end_s=max(change.taken_at_s, start_s),
        requests=change.total(REQUESTS, **whose),
        errors=errors,
        refused=refused,
        abandoned=change.total(CANCELLED, **whose),
        latency=spread(latency),
        slow=(latency.share_over(limit_s) or 0.0) * latency.count,
        slow_over_s=limit_s,
        phases=_phases(change, whose, site.remote),
        prompt_tokens=_sizes(change, PROMPT, whose),
        output_tokens=_sizes(change, OUTPUT, whose),
        rows=_rows(change, whose),
        methods=_by(change, "method", whose),
        parts={axis: _busiest(found) for axis, found in parts.items() if found},
        signals=_signals(change, whose, site),
        gpus=_gpus(change, GPU, site),
    )


def point(change: Snapshot, project: str, endpoint: str, start_s: float) -> Point:
    """Return one step of the series in which the onset is looked for."""
    whose = {"project": project, "endpoint": endpoint}
    requests = change.total(REQUESTS, **whose)
    failed, refused = _failures(change, whose)
    unserved = failed + sum(refused.values()) + change.total(CANCELLED, **whose)
    latency = change.distribution(DURATION, **whose)
    return Point(start_s, requests, latency.mean or 0.0, unserved / requests if requests else 0.0)


def spread(seen: Distribution) -> Spread:
    """Return a distribution as the few numbers that are compared."""
    count = seen.count
    if not count:
        return Spread()
    mean = seen.sum / count
    square = 0.0
    for index, held in seen.buckets.items():
        middle = min(upper_bound(index), 2.0**20) / sqrt(1 + RELATIVE_ERROR)
        square += held * (middle - mean) ** 2
    return Spread(count, seen.sum, seen.quantile(0.5) or 0.0, seen.quantile(0.99) or 0.0, sqrt(square / count))


def _sizes(change: Snapshot, name: str, whose: Mapping[str, str]) -> Spread | None:
    seen = change.distribution(name, **whose)
    return spread(seen) if seen.buckets else None


def _rows(change: Snapshot, whose: Mapping[str, str]) -> Spread | None:
    rows, requests = change.total(ROWS, **whose), change.total(REQUESTS, **whose)
    return Spread(requests, rows) if rows > 0 else None


def _phases(change: Snapshot, whose: Mapping[str, str], remote: frozenset[str]) -> dict[Phase, Spread]:
    """Return the phases; the work of a server elsewhere is a wait for a dependency."""
    found: dict[Phase, list[Distribution]] = {}
    for revision in change.values_of(PHASE, "revision"):
        for phase in PHASES:
            seen = change.distribution(PHASE, phase=phase, revision=revision, **whose)
            if seen.buckets:
                where: Phase = "dependency" if phase in WORK and revision in remote else phase
                found.setdefault(where, []).append(seen)
    return {phase: spread(merge_distributions(each)) for phase, each in found.items()}


def _failures(change: Snapshot, whose: Mapping[str, str]) -> tuple[float, dict[str, float]]:
    """Return the errors of requests that were let in, and the refusals by reason."""
    refused = {
        reason: count
        for reason in change.values_of(REFUSED, "reason")
        if reason in REFUSALS and (count := change.total(REFUSED, reason=reason, **whose)) > 0
    }
    failed = _codes(change, REQUESTS, "5", **whose)
    return max(failed - sum(refused.get(code, 0.0) for code in _REFUSED_5XX), 0.0), refused


def _codes(change: Snapshot, name: str, first: str, **labels: str) -> float:
    return sum(
        change.total(name, code=code, **labels) for code in change.values_of(name, "code") if code.startswith(first)
    )


def _by(change: Snapshot, label: str, whose: Mapping[str, str]) -> dict[str, Part]:
    """Return the endpoint's revisions, or its methods."""
    found = {}
    for value in change.values_of(REQUESTS, label):
        labels = {**whose, label: value}
        requests = change.total(REQUESTS, **labels)
        if value and requests > 0:
            found[value] = Part(
                requests=requests,
                errors=_codes(change, REQUESTS, "5", **labels),
                time_s=change.distribution(DURATION, **labels).sum,
            )
    return found


def _replicas(change: Snapshot, whose: Mapping[str, str]) -> dict[str, Part]:
    found = {}
    name = REPLICA_REQUESTS
    names = {replica for each in (name, STALLED) for replica in change.values_of(each, "replica")}
    for revision in {each for metric in (name, STALLED) for each in change.values_of(metric, "revision")}:
        for replica in names:
            labels = {**whose, "revision": revision, "replica": replica}
            requests, stalled_s = change.total(name, **labels), change.total(STALLED, **labels)
            if requests > 0 or stalled_s > 0:  # who stands still ends nothing
                found[replica] = Part(
                    requests=requests,
                    errors=_codes(change, name, "5", **labels),
                    time_s=change.distribution(REPLICA_DURATION, **labels).sum,
                    group=revision,
                    stalled_s=stalled_s,
                )
    return found


def _nodes(replicas: Mapping[str, Part], places: Mapping[str, str]) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for replica, part in replicas.items():
        node = places.get(replica)
        if node is not None:
            so_far = found.get(node, Part())
            found[node] = Part(
                so_far.requests + part.requests, so_far.errors + part.errors, so_far.time_s + part.time_s
            )
    return found


def _tenants(change: Snapshot, whose: Mapping[str, str]) -> dict[str, Part]:
    name = TENANT_REQUESTS
    found = {}
    for tenant in change.values_of(name, "tenant"):
        requests = change.total(name, tenant=tenant, **whose)
        if requests > 0:
            found[tenant] = Part(
                requests=requests,
                errors=_codes(change, name, "5", tenant=tenant, **whose),
                tokens=sum(
                    change.total(TENANT_TOKENS, tenant=tenant, kind=kind, **whose) for kind in ("input", "output")
                ),
            )
    return found


def _busiest(parts: dict[str, Part]) -> dict[str, Part]:
    kept = sorted(parts, key=lambda name: -parts[name].requests)[:PARTS_MAX]
    return {name: parts[name] for name in kept}


def _signals(change: Snapshot, whose: Mapping[str, str], site: Site) -> Signals:
    def mean(values: Iterable[float]) -> float | None:
        seen = list(values)
        return sum(seen) / len(seen) if seen else None

    def gauges(name: str) -> list[float]:
        return [each.value for each in change.matching(name, **whose)]

    def of_nodes(name: str) -> list[float]:
        return [change.total(name, node=node) for node in nodes if change.matching(name, node=node)]

    nodes = sorted({*site.places.values()})
    all_bytes, free_bytes = sum(of_nodes(NODE_MEMORY)), sum(of_nodes(NODE_FREE))
    used_of, all_of = _gpus(change, GPU_USED, site), _gpus(change, GPU_BYTES, site)
    ready, wanted = gauges(READY), gauges(WANTED)
    # Nobody counts before somebody asks: a stretch without a request of anyone tells nothing, not zero.
    is_watched = bool(change.metrics)
    counted = {field: change.total(name, **_replicas_of(name, whose)) for field, name in COUNTED.items()}
    return Signals(
        cpu_ratio=mean(of_nodes(NODE_CPU)),
        cpu_pressure_ratio=mean(of_nodes(NODE_PRESSURE)),
        memory_ratio=1 - free_bytes / all_bytes if all_bytes > 0 else None,
        gpu_memory_ratio=max((used / all_of[gpu] for gpu, used in used_of.items() if all_of.get(gpu)), default=None),
        unwritable_ratio=mean(gauges(UNWRITABLE)),
        disk_short_ratio=max(of_nodes(DISK_SHORT), default=None),
        clock_stepped_s=_stepped(change, whose, nodes) if is_watched else None,
        clock_apart_s=max(of_nodes(APART), default=None),
        kv_ratio=mean(gauges(KV)),
        batch_rows=change.distribution(TOGETHER, **whose).mean,
        replicas_ready=sum(ready) if ready else None,
        replicas_wanted=sum(wanted) if wanted else None,
        dependency_errors=_remote_errors(change, whose, site.remote) if site.remote else None,
        drift=max(gauges(DRIFT), default=None),
        empty_outputs=change.total(EMPTY, **whose) if change.distribution(PROMPT, **whose).count else None,
        repeating_outputs=change.total(REPEATING, **whose)
        if change.distribution(PROMPT, **whose).count and not site.remote
        else None,
        memory_pressure_ratio=mean(of_nodes(NODE_STARVED)),
        memory_deaths=change.total(RESTARTS, reason="memory", **_replicas_of(RESTARTS, whose)) if is_watched else None,
        **(counted if is_watched else {}),
    )


def _stepped(change: Snapshot, whose: Mapping[str, str], nodes: Iterable[str]) -> float:
    """Return by how much the clock was set that was set most: of a node, or as a replica of the endpoint reads it."""
    seen = [change.total(NODE_STEPPED, node=node) for node in nodes]
    return max([*seen, *(each.value for each in change.matching(STEPPED, **whose))], default=0.0)


def _gpus(change: Snapshot, name: str, site: Site) -> dict[str, float]:
    """Return a gauge of the GPUs of the endpoint's nodes, as `node/number`."""
    nodes = {*site.places.values()}
    at = BY_NAME[name].labels.index("node"), BY_NAME[name].labels.index("gpu")
    seen = {f"{one.labels[at[0]]}/{one.labels[at[1]]}": one for one in change.matching(name)}
    return {gpu: one.value for gpu, one in list(seen.items())[:GPUS_MAX] if one.labels[at[0]] in nodes}


def _replicas_of(name: str, whose: Mapping[str, str]) -> dict[str, str]:
    return {**whose, "kind": "replica"} if "kind" in BY_NAME[name].labels else dict(whose)


def _remote_errors(change: Snapshot, whose: Mapping[str, str], remote: frozenset[str]) -> float:
    """Return the requests that failed at servers elsewhere."""
    return sum(_codes(change, REQUESTS, "5", revision=revision, **whose) for revision in sorted(remote))
