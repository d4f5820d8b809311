"""One endpoint's numbers of a stretch of time, from metrics as they are kept to the window that is compared.

The live platform and the simulator of faults come through here, so that what is learnt there holds here.
A metric that nobody counts (yet) leaves its field None: see core/diagnose/window.py.
"""

from collections.abc import Mapping
from math import sqrt
from typing import Final

from stoker.core.diagnose.onset import Point
from stoker.core.diagnose.window import PARTS_MAX, PHASES, Axis, Part, Phase, Signals, Spread, Window
from stoker.telemetry.histogram import RELATIVE_ERROR, Distribution, upper_bound
from stoker.telemetry.snapshot import Snapshot

# Refusals that tell of the platform. A caller's own limits, and what is wrong with his request, do not.
REFUSALS: Final = frozenset(
    ("busy", "queue_full", "shed", "out_of_time", "unavailable", "not_reachable", "draining", "deadline_exceeded")
)
_REFUSED_5XX: Final = frozenset(("unavailable", "not_reachable", "draining", "deadline_exceeded"))
SLOW_TIMES: Final = 1.2
# Phases that have a histogram of their own; the others are in stoker_phase_seconds.
_OWN: Final[dict[Phase, str]] = {
    "queue": "stoker_queue_wait_seconds",
    "replica_queue": "stoker_replica_queue_seconds",
    "compute": "stoker_replica_compute_seconds",
}


def window(
    change: Snapshot,
    project: str,
    endpoint: str,
    start_s: float,
    places: Mapping[str, str],
    slow_over_s: float | None = None,
) -> Window:
    """Return the window from `start_s` until the time of `change`.

    Args:
        change: what the counters and histograms gained in that time; gauges are means over it.
        places: node by replica.
        slow_over_s: what counts as slow; SLOW_TIMES the 99th percentile of the window itself when it is the baseline.
    """
    whose = {"project": project, "endpoint": endpoint}
    errors, refused = _failures(change, whose)
    replicas = _replicas(change, whose)
    latency = change.distribution("stoker_request_duration_seconds", **whose)
    limit_s = slow_over_s if slow_over_s is not None else SLOW_TIMES * (latency.quantile(0.99) or 0.0)
    parts: dict[Axis, dict[str, Part]] = {
        "replica": replicas,
        "node": _nodes(replicas, places),
        "tenant": _tenants(change, whose),
        "revision": _by(change, "revision", whose),
    }
    return Window(
        start_s=start_s,
        end_s=max(change.taken_at_s, start_s),
        requests=change.total("stoker_requests_total", **whose),
        errors=errors,
        refused=refused,
        abandoned=change.total("stoker_cancelled_total", **whose),
        latency=spread(latency),
        slow=(latency.share_over(limit_s) or 0.0) * latency.count,
        slow_over_s=limit_s,
        phases=_phases(change, whose),
        prompt_tokens=_tokens(change, "input", whose),
        output_tokens=_tokens(change, "output", whose),
        rows=_rows(change, whose),
        methods=_by(change, "method", whose),
        parts={axis: _busiest(found) for axis, found in parts.items() if found},
        signals=_signals(change, whose, set(places.values())),
    )


def point(change: Snapshot, project: str, endpoint: str, start_s: float) -> Point:
    """Return one step of the series in which the onset is looked for."""
    whose = {"project": project, "endpoint": endpoint}
    requests = change.total("stoker_requests_total", **whose)
    failed, refused = _failures(change, whose)
    unserved = failed + sum(refused.values()) + change.total("stoker_cancelled_total", **whose)
    latency = change.distribution("stoker_request_duration_seconds", **whose)
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


def _tokens(change: Snapshot, kind: str, whose: Mapping[str, str]) -> Spread | None:
    """Return the sizes of prompts or answers; only their mean where nothing but the total is counted."""
    seen = change.distribution(f"stoker_request_{kind}_tokens", **whose)
    if seen.buckets:
        return spread(seen)
    total = change.total("stoker_tokens_total", kind=kind, **whose)
    answered = change.total("stoker_requests_total", code="200", **whose)
    return Spread(answered, total) if total > 0 else None


def _rows(change: Snapshot, whose: Mapping[str, str]) -> Spread | None:
    rows, requests = change.total("stoker_rows_total", **whose), change.total("stoker_requests_total", **whose)
    return Spread(requests, rows) if rows > 0 else None


def _phases(change: Snapshot, whose: Mapping[str, str]) -> dict[Phase, Spread]:
    found: dict[Phase, Spread] = {}
    for phase in PHASES:
        seen = change.distribution("stoker_phase_seconds", phase=phase, **whose)
        if not seen.buckets and phase in _OWN:
            seen = change.distribution(_OWN[phase], **whose)
        if seen.buckets:
            found[phase] = spread(seen)
    if "prefill" in found or "decode" in found:
        found.pop("compute", None)  # the same seconds once more
    return found


def _failures(change: Snapshot, whose: Mapping[str, str]) -> tuple[float, dict[str, float]]:
    """Return the errors of requests that were let in, and the refusals by reason."""
    refused = {
        reason: count
        for reason in change.values_of("stoker_refused_total", "reason")
        if reason in REFUSALS and (count := change.total("stoker_refused_total", reason=reason, **whose)) > 0
    }
    failed = _codes(change, "stoker_requests_total", "5", **whose)
    return max(failed - sum(refused.get(code, 0.0) for code in _REFUSED_5XX), 0.0), refused


def _codes(change: Snapshot, name: str, first: str, **labels: str) -> float:
    return sum(
        change.total(name, code=code, **labels) for code in change.values_of(name, "code") if code.startswith(first)
    )


def _by(change: Snapshot, label: str, whose: Mapping[str, str]) -> dict[str, Part]:
    """Return the endpoint's revisions, or its methods."""
    found = {}
    for value in change.values_of("stoker_requests_total", label):
        labels = {**whose, label: value}
        requests = change.total("stoker_requests_total", **labels)
        if value and requests > 0:
            found[value] = Part(
                requests=requests,
                errors=_codes(change, "stoker_requests_total", "5", **labels),
                time_s=change.distribution("stoker_request_duration_seconds", **labels).sum,
            )
    return found


def _replicas(change: Snapshot, whose: Mapping[str, str]) -> dict[str, Part]:
    found = {}
    name = "stoker_replica_requests_total"
    for revision in change.values_of(name, "revision"):
        for replica in change.values_of(name, "replica"):
            labels = {**whose, "revision": revision, "replica": replica}
            requests = change.total(name, **labels)
            if requests > 0:
                found[replica] = Part(
                    requests=requests,
                    errors=_codes(change, name, "5", **labels),
                    time_s=change.distribution("stoker_replica_duration_seconds", **labels).sum,
                    group=revision,
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
    name = "stoker_tenant_requests_total"
    found = {}
    for tenant in change.values_of(name, "tenant"):
        requests = change.total(name, tenant=tenant, **whose)
        if requests > 0:
            found[tenant] = Part(
                requests=requests,
                errors=_codes(change, name, "5", tenant=tenant, **whose),
                tokens=change.total("stoker_tenant_tokens_total", tenant=tenant, **whose),
            )
    return found


def _busiest(parts: dict[str, Part]) -> dict[str, Part]:
    kept = sorted(parts, key=lambda name: -parts[name].requests)[:PARTS_MAX]
    return {name: parts[name] for name in kept}


def _signals(change: Snapshot, whose: Mapping[str, str], nodes: set[str]) -> Signals:
    measured = {metric.name for metric in change.metrics}

    def count(name: str) -> float | None:
        return change.total(name, **whose) if name in measured else None

    def highest(name: str) -> float | None:
        return max((each.value for each in change.matching(name, **whose)), default=None)

    def of_nodes(name: str) -> float | None:
        seen = [change.total(name, node=node) for node in sorted(nodes) if change.matching(name, node=node)]
        return sum(seen) / len(seen) if seen else None

    rows = change.distribution("stoker_batch_rows", **whose)
    # Each gateway says how many replicas it may send to; the snapshot of one that was merged says their sum.
    ready = [each.value for each in change.matching("stoker_replicas_ready", **whose)]
    kv = [each.value for each in change.matching("stoker_kv_cache_usage_ratio", **whose)]
    return Signals(
        cpu_ratio=of_nodes("stoker_node_cpu_ratio"),
        cpu_pressure_ratio=of_nodes("stoker_node_cpu_pressure_ratio"),
        memory_ratio=of_nodes("stoker_node_memory_ratio"),
        kv_ratio=sum(kv) / len(kv) if kv else None,
        preemptions=count("stoker_preemptions_total"),
        batch_rows=rows.mean,
        replicas_ready=sum(ready) if ready else None,
        replicas_wanted=count("stoker_replicas_wanted"),
        starts=count("stoker_replica_starts_total"),
        restarts=count("stoker_replica_restarts_total"),
        ejections=count("stoker_ejections_total"),
        quarantined=count("stoker_quarantined_total"),
        cold_requests=count("stoker_cold_requests_total"),
        client_retries=count("stoker_client_retries_total"),
        retries=count("stoker_retries_total"),
        hedges=count("stoker_hedges_total"),
        fallbacks=count("stoker_fallbacks_total"),
        dependency_errors=count("stoker_dependency_errors_total"),
        drift=highest("stoker_drift_score"),
        empty_outputs=count("stoker_empty_outputs_total"),
        repeating_outputs=count("stoker_repeating_outputs_total"),
    )
