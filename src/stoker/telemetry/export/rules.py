"""Prometheus rules over the catalogue: what is asked often, computed once, and what somebody should be woken for."""

from typing import Any, Final

from stoker.telemetry.export import promql
from stoker.telemetry.export.promql import By, gauge, quantile, select

_WHO: Final = ("project", "endpoint")
_WINDOW: Final = "5m"


def groups() -> dict[str, Any]:
    """Return the rules file."""
    return {
        "groups": [
            {"name": "stoker-recording", "interval": "30s", "rules": recording()},
            {"name": "stoker-alerts", "rules": alerts()},
        ]
    }


def recording() -> list[dict[str, Any]]:
    """Return what is computed once."""
    requests = _rate("stoker_requests_total")
    found = {
        "stoker:requests:rate5m": requests,
        "stoker:errors:ratio_rate5m": f"{_rate('stoker_requests_total', _WHO, _OURS)} / {requests}",
        "stoker:request_duration_seconds:p50_5m": _quantile(0.5, "stoker_request_duration_seconds"),
        "stoker:request_duration_seconds:p99_5m": _quantile(0.99, "stoker_request_duration_seconds"),
        "stoker:time_to_first_token_seconds:p95_5m": _quantile(0.95, "stoker_time_to_first_token_seconds"),
        "stoker:inter_token_latency_seconds:p95_5m": _quantile(0.95, "stoker_inter_token_latency_seconds"),
        "stoker:tokens:rate5m": _rate("stoker_tokens_total", (*_WHO, "kind")),
        "stoker:refused:ratio_rate5m": f"{_rate('stoker_refused_total', _WHO, _SHED)} / {requests}",
        "stoker:phase_seconds:mean5m": promql.mean(
            "stoker_request_phase_seconds", (*_WHO, "phase"), window=_WINDOW, chosen=False
        ),
    }
    return [{"record": name, "expr": expression} for name, expression in found.items()]


def alerts() -> list[dict[str, Any]]:
    """Return what is told to somebody; `page` wakes, `ticket` waits for the morning."""
    found = (*_of_endpoints(), *_of_replicas(), *_of_processes())
    return [
        {
            "alert": f"Stoker{name}",
            "expr": expression,
            "for": for_,
            "labels": {"severity": severity},
            "annotations": {"summary": summary},
        }
        for name, expression, for_, severity, summary in found
    ]


_Alert = tuple[str, str, str, str, str]  # name, expression, for, severity, summary


def _of_endpoints() -> tuple[_Alert, ...]:
    fails = "{{ $labels.endpoint }} answers {{ $value | humanizePercentage }} of requests with an error of ours"
    refuses = "{{ $labels.endpoint }} refuses {{ $value | humanizePercentage }} of requests: it is full"
    deserted = f"{_gauge('stoker_replicas')} > 0 unless {_gauge('stoker_replicas_ready')} > 0"
    broken = f"{_gauge('stoker_breaker_state')} == 2"
    return (
        ("EndpointFails", "stoker:errors:ratio_rate5m > 0.05", "5m", "page", fails),
        ("EndpointHasNoReplica", deserted, "2m", "page", "no replica of {{ $labels.endpoint }} can serve"),
        ("EndpointRefuses", "stoker:refused:ratio_rate5m > 0.05", "10m", "ticket", refuses),
        ("BreakerOpen", broken, "1m", "page", "{{ $labels.endpoint }} fails, and is asked no more for a while"),
    )


def _of_replicas() -> tuple[_Alert, ...]:
    killed = f"{_more('stoker_quarantined_total', '10m')} > 0"
    restarted = f"{_more('stoker_restarts_total', '15m')} > 3"
    ejected = f"{_more('stoker_ejections_total', '15m')} > 2"
    full = f"{_gauge('stoker_kv_cache_usage_ratio')} > 0.95"
    out = "replicas of {{ $labels.endpoint }} were taken out of rotation {{ $value }} times in 15 minutes"
    return (
        ("RequestsQuarantined", killed, "0m", "ticket", "requests for {{ $labels.endpoint }} kill its replicas"),
        ("ProcessesRestart", restarted, "0m", "ticket", "processes of {{ $labels.endpoint }} die again and again"),
        ("ReplicasEjected", ejected, "0m", "ticket", out),
        ("KeyValueCacheFull", full, "10m", "ticket", "the key-value cache of {{ $labels.endpoint }} is full"),
    )


def _of_processes() -> tuple[_Alert, ...]:
    lag = quantile(0.99, "stoker_event_loop_lag_seconds", ("process",), window=_WINDOW, chosen=False)
    failing = f"{_more('stoker_loop_errors_total', '10m', ())} > 3"
    gone = f"absent({select('stoker_loop_seconds', suffix='_count')})"
    expiry = f"{gauge('stoker_tls_certificate_expiry_timestamp_seconds', chosen=False)} - time() < 7 * 86400"
    fds = f"{select('process_open_fds')} / {select('process_max_fds')} > 0.8"
    memory = f"{select('stoker_node_memory_free_bytes')} / {select('stoker_node_memory_bytes')} < 0.05"
    return (
        ("LoopBlocked", f"{lag} > 0.25", "5m", "ticket", "something holds up the loop of {{ $labels.process }}"),
        ("ControlFails", failing, "0m", "page", "control's loop fails"),
        ("ControlGone", gone, "5m", "page", "control is not there; what runs goes on, nothing is repaired"),
        ("CertificateExpires", expiry, "0m", "ticket", "the certificate that clients are shown ends within a week"),
        ("DescriptorsShort", fds, "10m", "ticket", "{{ $labels.process }} has most of its file descriptors open"),
        ("NodeMemoryShort", memory, "5m", "ticket", "{{ $labels.node }} has a twentieth of its memory left"),
    )


_OURS: Final = 'code=~"5.."'
_SHED: Final = 'reason=~"queue_full|shed|out_of_time"'


def _rate(name: str, by: By = _WHO, where: str = "") -> str:
    return promql.rate(name, by, where, window=_WINDOW, chosen=False)


def _quantile(q: float, name: str) -> str:
    return quantile(q, name, _WHO, window=_WINDOW, chosen=False)


def _gauge(name: str) -> str:
    return gauge(name, _WHO, chosen=False)


def _more(name: str, window: str, by: By = _WHO) -> str:
    grouping = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouping} (increase({select(name)}[{window}]))"
