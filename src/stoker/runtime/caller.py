"""On whose behalf the engine works now: what log lines say of it, and what engines that call out pass on.

A context variable, because between the replica that knows the requests and the code that logs, or calls a server, lie
engines and models that need not know of either. Where one engine call serves several requests, its trace is nobody's.
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Final

from stoker.protocol import tracecontext
from stoker.protocol.frames import RequestHead

NAMED_MAX: Final = 8  # requests of one engine call that a log line names
_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})
_heads: Final[ContextVar[Sequence[RequestHead]]] = ContextVar("heads", default=())


def work_for(heads: Sequence[RequestHead]) -> None:
    """Let what this task logs and sends from now on belong to `heads`."""
    _heads.set(heads)


def begin(heads: Sequence[RequestHead]) -> Token[Sequence[RequestHead]]:
    """Let what is logged and sent belong to `heads` until `end`: for a thread or a loop that goes on to other work."""
    return _heads.set(heads)


def end(before: Token[Sequence[RequestHead]]) -> None:
    """Let it belong to whom it did when `begin` returned `before`."""
    _heads.reset(before)


def headers() -> Mapping[str, str]:
    """Return the headers that tell a server which trace its work belongs to."""
    heads = _heads.get()
    if len(heads) != 1:
        return _NOBODY
    found = {"traceparent": heads[0].trace, "tracestate": heads[0].trace_state}
    return {name: value for name, value in found.items() if value}


def about() -> Mapping[str, str]:
    """Return what a log line says of the requests that are worked for; of several, which they are."""
    heads = _heads.get()
    if len(heads) <= 1:
        return names(heads[0]) if heads else _NOBODY
    found = {"requests": " ".join(head.request for head in heads[:NAMED_MAX])}
    if len(heads) > NAMED_MAX:
        found["requests"] += f" and {len(heads) - NAMED_MAX} more"
    tenants = {head.tenant for head in heads}
    return {**found, "tenant": tenants.pop()} if len(tenants) == 1 and "" not in tenants else found


def names(head: RequestHead) -> dict[str, str]:
    """Return what a log line about a request carries, as `extra`."""
    found = {"request": head.request, "trace": tracecontext.trace_of(head.trace), "tenant": head.tenant}
    return {name: value for name, value in found.items() if value}
