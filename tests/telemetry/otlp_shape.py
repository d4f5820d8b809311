"""The shape of an OTLP trace export, as opentelemetry-proto and its JSON mapping have it; nothing else fits."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

TraceId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
SpanId = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
Number = Annotated[str, Meta(pattern="^-?[0-9]+$")]
Nano = Annotated[str, Meta(pattern="^[0-9]{19}$")]


class Shape(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    pass


class Value(Shape):
    string_value: str = ""
    int_value: Number = "0"
    double_value: float = 0.0
    bool_value: bool = False


class Attribute(Shape):
    key: Annotated[str, Meta(min_length=1)]
    value: Value


class Status(Shape):
    code: Literal[0, 1, 2]
    message: str = ""


class Span(Shape):
    trace_id: TraceId
    span_id: SpanId
    name: Annotated[str, Meta(min_length=1)]
    kind: Annotated[int, Meta(ge=1, le=5)]
    start_time_unix_nano: Nano
    end_time_unix_nano: Nano
    attributes: list[Attribute]
    flags: int
    parent_span_id: SpanId | msgspec.UnsetType = msgspec.UNSET
    trace_state: str = ""
    status: Status | msgspec.UnsetType = msgspec.UNSET


class Scope(Shape):
    name: str
    version: str


class ScopeSpans(Shape):
    scope: Scope
    spans: list[Span]


class Resource(Shape):
    attributes: list[Attribute]


class ResourceSpans(Shape):
    resource: Resource
    scope_spans: list[ScopeSpans]


class ExportTraceServiceRequest(Shape):
    resource_spans: list[ResourceSpans]
