"""Prometheus rules over the catalogue: what is asked often, computed once, and what somebody should be woken for."""

from typing import Any, Final

from stoker.core.alarms import BY_NAME
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
    """Return what is told to somebody (core/alarms.py); `page` wakes, `ticket` waits for the morning."""
    return [_alert(name, *asked) for name, asked in {**_of_endpoints(), **_of_replicas(), **_of_processes()}.items()]


def _alert(name: str, expression: str, who: str, shown: str = "$value") -> dict[str, Any]:
    alarm = BY_NAME[name]
    value = f"{{{{ {shown} }}}}"
    return {
        "alert": f"Stoker{name}",
        "expr": expression,
        "for": f"{alarm.holds_s / 60:.0f}m",
        "labels": {"severity": alarm.severity},
        "annotations": {
            "summary": alarm.summary.format(who=f"{{{{ $labels.{who} }}}}", value=value),
            "description": alarm.do,
        },
    }


_Alerts = dict[str, tuple[str, ...]]  # by alarm: expression, the label of whose it is, how the value is shown
_SHARE: Final = "$value | humanizePercentage"


def _of_endpoints() -> _Alerts:
    deserted = f"{_gauge('stoker_replicas')} > 0 unless {_gauge('stoker_replicas_ready')} > 0"
    return {
        "EndpointDown": (deserted, "endpoint"),
        "EndpointFails": ("stoker:errors:ratio_rate5m > 0.05", "endpoint", _SHARE),
        "EndpointRefuses": ("stoker:refused:ratio_rate5m > 0.05", "endpoint", _SHARE),
        "ScalingAtMaximum": (f"{_gauge('stoker_scaling_at_maximum')} > 0", "endpoint"),
        "BreakerOpen": (f"{_gauge('stoker_breaker_state')} == 2", "endpoint"),
        "Drifted": (f"{_gauge('stoker_drifted')} > 0", "endpoint"),
    }


def _of_replicas() -> _Alerts:
    return {
        "RequestsQuarantined": (f"{_more('stoker_quarantined_total', '10m')} > 0", "endpoint"),
        "ProcessesRestart": (f"{_more('stoker_restarts_total', '15m')} > 3", "endpoint"),
        "ReplicasEjected": (f"{_more('stoker_ejections_total', '15m')} > 2", "endpoint"),
        "FilesRefused": (f"{_gauge('stoker_replica_unwritable')} > 0", "endpoint"),
        "KeyValueCacheFull": (f"{_gauge('stoker_kv_cache_usage_ratio')} > 0.95", "endpoint"),
    }


def _of_processes() -> _Alerts:
    lag = quantile(0.99, "stoker_event_loop_lag_seconds", ("process",), window=_WINDOW, chosen=False)
    expiry = f"{gauge('stoker_tls_certificate_expiry_timestamp_seconds', chosen=False)} - time() < 7 * 86400"
    memory = f"{select('stoker_node_memory_free_bytes')} / {select('stoker_node_memory_bytes')} < 0.05"
    lost = "increase(" + select("stoker_notices_total", 'outcome="lost"') + "[1h])"
    return {
        "LoopBlocked": (f"{lag} > 0.25", "process"),
        "ControlFails": (f"{_more('stoker_loop_errors_total', '10m', ())} > 3", "process"),
        "SettingsUnread": (f"{select('stoker_settings_unread')} > 0", "process"),
        "ControlGone": (f"absent({select('stoker_loop_seconds', suffix='_count')})", "process"),
        "CertificateExpires": (expiry, "process"),
        "DescriptorsShort": (f"{select('process_open_fds')} / {select('process_max_fds')} > 0.8", "process"),
        "NodeMemoryShort": (memory, "node", _SHARE),
        "NodeDiskShort": (
            f"{select('stoker_node_disk_free_bytes')} < {1 << 30}",
            "node",
            "$value | humanize1024",
        ),
        "ClockStepped": (f"{_more('stoker_node_clock_stepped_seconds_total', '15m', ('node',))} > 1", "node"),
        "NodeGone": (f"{select('stoker_node_ready')} < 0.5", "node"),
        "NodeCertificateExpires": (f"{select('stoker_node_certificate_left_ratio')} < 0.25", "node"),
        "ClockApart": (f"{select('stoker_node_clock_apart_seconds')} > 2", "node"),
        "NoticesLost": (f"sum({lost}) > 0", "process"),
        "UsageLost": (f"{_more('stoker_usage_records_lost_total', '15m', ('process',))} > 0", "process"),
        "UsageBroken": (f"{_more('stoker_usage_journal_broken_total', '15m', ('process',))} > 0", "process"),
        "AuditFails": (f"{_more('stoker_audit_failures_total', '10m', ())} > 0", "process"),
        "AuditBroken": (f"{select('stoker_audit_problems')} > 0", "process"),
        "IdentityProviderDown": (f"{select('stoker_identity_provider_failing')} > 0", "provider"),
        "HistoryFails": (f"{_more('stoker_history_failures_total', '10m', ())} > 0", "process"),
    }


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
