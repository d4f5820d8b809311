"""On whose behalf the engine works now: what log lines say of a request, and what engines that call out pass on.

A context variable, because between the replica that knows the request and the engine that calls a server lie engines
that need not know of traces. Where one engine call serves several requests, it is nobody's.
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

from stoker.protocol import tracecontext
from stoker.protocol.frames import RequestHead

_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})
_headers: Final[ContextVar[Mapping[str, str]]] = ContextVar("trace_headers", default=_NOBODY)


def work_for(heads: Sequence[RequestHead]) -> None:
    """Let what this task or thread sends from now on belong to the trace of `heads`, if it is one request."""
    _headers.set(_of(heads[0]) if len(heads) == 1 else _NOBODY)


def headers() -> Mapping[str, str]:
    """Return the headers that tell a server which trace its work belongs to."""
    return _headers.get()


def names(head: RequestHead) -> dict[str, str]:
    """Return what a log line about a request carries, as `extra`."""
    trace = tracecontext.trace_of(head.trace)
    return {"request": head.request, "trace": trace} if trace else {"request": head.request}


def _of(head: RequestHead) -> Mapping[str, str]:
    found = {"traceparent": head.trace, "tracestate": head.trace_state}
    return {name: value for name, value in found.items() if value}
