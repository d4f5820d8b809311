"""A trace as spans, made when somebody looks: the request, what it waited for, each try, and a replica's own account.

The gateway knows when a try began and ended, and the replica how long its queue, batch and engine took, not when by the
gateway's clock. So its phases are put in their order in the middle of the try: what is left before and after them is
the way there and back, taken as equally long. With a stream they begin so that the first token meets the first byte.

Attributes follow OpenTelemetry's GenAI conventions where they have a word (semantic-conventions-genai, development).
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from stoker.types.replica import Timings
from stoker.types.traces import Trace, Try

Value = str | int | float | bool
Kind = Literal["server", "client", "internal"]

PHASES_AT: Final = 1024  # span numbers: of the request 0, of tries their own, of phases from here on
VISIBLE_S: Final = 1e-6
OPERATIONS: Final = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
_MASK: Final = (1 << 64) - 1


class Span(msgspec.Struct, frozen=True):
    """A part of a request. Times are seconds from the request's beginning. `depth`: in the tree, 0 is the root."""

    id: str
    parent: str
    name: str
    kind: Kind
    begin_s: float
    end_s: float
    depth: int
    attributes: dict[str, Value]
    error: str = ""


def spans(trace: Trace) -> list[Span]:
    """Return the spans of `trace`, parents first, then in time."""
    made = [_request(trace)]
    for name, begin_s, end_s in _waits(trace):
        made.append(_inner(trace, made[0], len(made), name, begin_s, end_s))
    for each in trace.tries:
        own = _try(trace, each)
        made.append(own)
        if each.outcome == "ok" and trace.timings is not None:
            for name, begin_s, end_s in _phases(trace, each, trace.timings):
                made.append(_inner(trace, own, len(made), name, begin_s, end_s))
    return made


def _request(trace: Trace) -> Span:
    operation = OPERATIONS.get(trace.method)
    name = f"{operation or 'model.predict'} {trace.endpoint}".strip()
    found: dict[str, Value | None] = {
        "stoker.request.id": trace.request,
        "stoker.project": trace.project,
        "stoker.endpoint": trace.endpoint,
        "stoker.served_by": trace.served_by,
        "stoker.revision": trace.revision,
        "stoker.tenant": trace.tenant,
        "stoker.gateway": trace.gateway,
        "stoker.kept_because": trace.because,
        "http.response.status_code": trace.status or None,
        "error.type": trace.code,
    }
    usage = trace.usage
    if operation is not None:
        found["gen_ai.operation.name"] = operation
        found["gen_ai.provider.name"] = "stoker"
        found["gen_ai.request.model"] = trace.endpoint
        found["gen_ai.response.model"] = trace.served_by or trace.endpoint
        found["gen_ai.request.max_tokens"] = trace.max_tokens or None
        found["gen_ai.request.stream"] = trace.is_stream or None
        found["gen_ai.response.time_to_first_chunk"] = trace.first_byte_s or None
        if usage is not None:
            found["gen_ai.usage.input_tokens"] = usage.input_tokens
            found["gen_ai.usage.output_tokens"] = usage.output_tokens
            found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens or None
    elif usage is not None:
        found["stoker.rows"] = usage.rows or None
    return Span(
        trace.span, trace.parent, name, "server", 0.0, trace.seconds, 0, _said(found), _error(trace.status, trace.code)
    )


def _try(trace: Trace, each: Try) -> Span:
    found: dict[str, Value | None] = {
        "stoker.try": each.kind,
        "stoker.outcome": each.outcome,
        "stoker.endpoint": each.endpoint,
        "stoker.replica": each.replica,
        "stoker.revision": each.revision,
    }
    is_failed = each.outcome not in ("ok", "lost", "cancelled")
    if is_failed:
        found["error.type"] = each.outcome
    name = f"{each.kind} {each.replica}" if each.replica else f"{each.kind} {each.endpoint}"
    error = each.outcome if is_failed else ""
    number = each.number or PHASES_AT // 2 + trace.tries.index(each)
    return Span(_id(trace, number), trace.span, name, "client", each.begin_s, each.end_s, 1, _said(found), error)


def _waits(trace: Trace) -> Iterator[tuple[str, float, float]]:
    """Yield what the request went through before its last try was sent."""
    known_s = trace.known_s or trace.arrived_s
    yield from _shown("receive", 0.0, trace.arrived_s, 0.001)  # a body that came with its head is no wait
    yield from _shown("auth", trace.arrived_s, known_s)
    yield from _shown("admit", known_s, trace.admitted_s)
    if trace.waited_s:
        ends_s = max((each.begin_s for each in trace.tries if each.number and each.kind != "hedge"), default=0.0)
        ends_s = ends_s or trace.seconds
        yield from _shown("queue", max(ends_s - trace.waited_s, 0.0), ends_s)


def _phases(trace: Trace, own: Try, timings: Timings) -> Iterator[tuple[str, float, float]]:
    """Yield the replica's account of a try, in its order and within it."""
    parts = [("replica.queue", timings.queue_s), ("replica.batch_wait", timings.batch_wait_s)]
    if timings.prefill_s or timings.decode_s:
        parts += [("replica.prefill", timings.prefill_s), ("replica.decode", timings.decode_s)]
    else:
        parts.append(("replica.compute", timings.compute_s))
    spare_s = max(own.end_s - own.begin_s - sum(seconds for _, seconds in parts), 0.0)
    at_s = own.begin_s + spare_s / 2
    if trace.first_byte_s > own.begin_s and timings.prefill_s:
        before_s = timings.queue_s + timings.batch_wait_s + timings.prefill_s
        at_s = min(max(trace.first_byte_s - before_s, own.begin_s), own.begin_s + spare_s)
    for name, seconds in parts:
        yield from _shown(name, at_s, min(at_s + seconds, own.end_s))
        at_s += seconds


def _shown(name: str, begin_s: float, end_s: float, least_s: float = VISIBLE_S) -> Iterator[tuple[str, float, float]]:
    if end_s - begin_s >= least_s:
        yield name, begin_s, end_s


def _inner(trace: Trace, parent: Span, number: int, name: str, begin_s: float, end_s: float) -> Span:
    return Span(_id(trace, PHASES_AT + number), parent.id, name, "internal", begin_s, end_s, parent.depth + 1, {})


def _id(trace: Trace, number: int) -> str:
    return f"{(int(trace.span, 16) + number) & _MASK:016x}"


def _error(status: int, code: str) -> str:
    return code or str(status) if status >= 500 else ""


def _said(found: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in found.items() if value is not None and value != ""}
