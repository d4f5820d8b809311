"""Kept traces as OTLP says them: one ExportTraceServiceRequest in JSON.

Source: opentelemetry-proto 1.x, trace/v1; JSON as its specification maps it: ids are hex, 64-bit numbers are strings.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from stoker.telemetry.spans import Span, Value, spans
from stoker.types.traces import Trace

_KINDS: Final = {"internal": 1, "server": 2, "client": 3}
_ERROR: Final = 2
_SAMPLED: Final = 1  # whatever is kept here is recorded; the lowest byte of flags is W3C's
_HAS_REMOTE: Final = 0x100  # it is known whether the parent is of another process …
_IS_REMOTE: Final = 0x200  # … and it is


def encode(traces: Iterable[Trace], version: str, host: str) -> bytes:
    """Return the request's body, a resource for each gateway. `version` is stoker's, `host` the machine's name."""
    by_gateway: dict[str, list[dict[str, Any]]] = {}
    for trace in traces:
        by_gateway.setdefault(trace.gateway, []).extend(_span(trace, each) for each in spans(trace))
    return msgspec.json.encode(
        {
            "resourceSpans": [
                {
                    "resource": {
                        "attributes": _attributes(
                            {
                                "service.name": "stoker",
                                "service.instance.id": gateway,
                                "service.version": version,
                                "host.name": host,
                            }
                        )
                    },
                    "scopeSpans": [{"scope": {"name": "stoker", "version": version}, "spans": made}],
                }
                for gateway, made in by_gateway.items()
            ]
        }
    )


def _span(trace: Trace, span: Span) -> dict[str, Any]:
    is_root = span.depth == 0
    made: dict[str, Any] = {
        "traceId": trace.id,
        "spanId": span.id,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": _nano(trace.began_at_s + span.begin_s),
        "endTimeUnixNano": _nano(trace.began_at_s + max(span.end_s, span.begin_s)),
        "attributes": _attributes(span.attributes),
        "flags": _SAMPLED | _HAS_REMOTE | (_IS_REMOTE if is_root and span.parent else 0),
    }
    if span.parent:
        made["parentSpanId"] = span.parent
    if is_root and trace.state:
        made["traceState"] = trace.state
    if span.error:
        made["status"] = {"code": _ERROR, "message": span.error}
    return made


def _attributes(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in found.items()]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}


def _nano(seconds: float) -> str:
    return str(round(seconds * 1e6) * 1000)  # a microsecond is what a float has here
