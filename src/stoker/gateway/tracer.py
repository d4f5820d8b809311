"""What is remembered of requests: ids at their beginning; at their end, for a few, a trace in the ring.

Nothing is built while a request runs: the layers stamp the exchange (phases.py) and note tries where there are several
(trail.py). A request that leaves no trace costs under a microsecond.
"""

import itertools
import secrets
import time
from typing import Final

import msgspec

from stoker.core import tracing
from stoker.core.tracing import Because, Cap
from stoker.gateway import trail
from stoker.gateway.access import AccessLog
from stoker.gateway.exchange import GONE, Exchange
from stoker.gateway.ring import Ring
from stoker.protocol import tracecontext
from stoker.telemetry.metrics import Registry
from stoker.types.traces import Trace, Try

_MASK: Final = (1 << 64) - 1
# 2^64 divided by the golden ratio: its multiples modulo 2^64 meet none twice and lie evenly (Knuth 6.4), so that
# ids made by counting can be sampled by their bits as random ones can.
_STRIDE: Final = 0x9E3779B97F4A7C15


class Tracer:
    """Begins and ends the trace of every request for inference.

    Args:
        ratio: the share of all requests that are traced, in 0–1.
        slow_s: what takes longer is slow; 0: what is slower than 99 in 100 of its endpoint.
        access: where a line is written for each; None: nowhere.
    """

    def __init__(self, registry: Registry, ratio: float, slow_s: float = 0.0, access: AccessLog | None = None) -> None:
        now_s = time.monotonic()
        self.ring = Ring()
        self._registry = registry
        self._prefix = secrets.token_hex(8)
        self._first = secrets.randbits(64)
        self._numbers = itertools.count(1)
        self.tune(ratio, slow_s)
        self.access = access
        self._caps = {
            "head": Cap(tracing.HEAD_PER_S, now_s),
            "caller": Cap(tracing.CALLER_PER_S, now_s),
            "tail": Cap(tracing.TAIL_PER_S, now_s),
            "refused": Cap(tracing.REFUSED_PER_S, now_s),
        }

    def tune(self, ratio: float, slow_s: float) -> None:
        """Trace that share from now on, and what takes longer."""
        self._at_least = tracing.threshold(ratio)
        self._slow_s = slow_s

    def begin(self, exchange: Exchange, parent: bytes | None) -> None:
        """Give the exchange its place in a trace: the caller's, if he names one that is valid, else a new one."""
        span = exchange.span = (self._first + next(self._numbers) * _STRIDE) & _MASK
        if parent is not None:
            caller = tracecontext.read(parent, exchange.request.headers.get(b"tracestate", b""))
            if caller is not None:
                exchange.caller = caller
                exchange.trace = caller.trace
                exchange.is_sampled = caller.is_sampled and self._caps["caller"].has(time.monotonic())
                return
        exchange.trace = self._prefix + span.to_bytes(8, "big").hex()  # half of what a format takes
        exchange.is_sampled = tracing.is_sampled(span, self._at_least)

    def end(self, exchange: Exchange) -> None:
        """Keep the exchange's trace, if it is one to keep. To be called once, when it has been answered."""
        if not exchange.trace:
            return
        now_s = time.monotonic()
        if self.access is not None:
            self.access.add(exchange, now_s)
        seconds, lane, status, is_slow = now_s - exchange.request.started_s, exchange.lane, exchange.status, False
        if lane is not None and status == 200:
            is_slow = lane.pace.observe(seconds)
        elif lane is not None and status == GONE:
            is_slow = lane.pace.is_over(seconds)
        if self._slow_s and (status in (200, GONE) or status >= 500):
            is_slow = seconds > self._slow_s
        is_bad = is_slow or status >= 500 or tracing.is_full(status, exchange.code)
        if is_bad or exchange.is_sampled or exchange.trail is not None:
            self._consider(exchange, now_s, is_slow=is_slow)

    def _consider(self, exchange: Exchange, now_s: float, *, is_slow: bool) -> None:
        trail.note_last(exchange, "cancelled", now_s)
        steps = exchange.trail or []
        because = tracing.tail(
            status=exchange.status,
            code=exchange.code,
            has_moved=any(each.endpoint != steps[0].endpoint for each in steps),
            is_migrated=exchange.cut is not None,
            is_hedged=any(each.kind == "hedge" for each in steps),
            tries=sum(each.kind != "hedge" for each in steps),
            is_slow=is_slow,
        )
        chosen = self._choose(exchange, because, now_s)
        if chosen:
            trace = _trace(exchange, steps, chosen, now_s, self._registry.process)
            self.ring.add(trace, is_slow=is_slow)
            _show(exchange, trace)
            self._count("stoker_traces_kept_total", chosen)

    def _choose(self, exchange: Exchange, because: Because, now_s: float) -> Because:
        """Return why the trace is kept, the first reason that has a place left; "" when it is not."""
        asked: list[tuple[str, Because]] = [("tail", because)] if because else []
        if exchange.is_sampled:
            # Who has no key takes no place from those who have one.
            is_callers = exchange.caller is not None and exchange.key is not None
            if is_callers or exchange.caller is None:
                asked.append(("caller", "caller") if is_callers else ("head", "sampled"))
        for cap, reason in asked:
            if reason == "refused" and not self._caps["refused"].has(now_s):
                continue
            if self._caps[cap].take(now_s):
                if reason == "refused":
                    self._caps["refused"].take(now_s)
                return reason
        if asked:
            self._count("stoker_traces_dropped_total", asked[0][1])
        return ""

    def _count(self, name: str, because: str) -> None:
        self._registry.counter(name, because=because).add()


def _show(exchange: Exchange, trace: Trace) -> None:
    """Have the histograms that counted the request name its trace."""
    if exchange.lane is None or not exchange.took_s:
        return
    first_s = exchange.first_byte_s - exchange.began_s if exchange.first_byte_s else 0.0
    meters = exchange.lane.meters.revision(exchange.revision, exchange.method)
    meters.show(exchange.took_s, first_s, trace.id, trace.span, trace.began_at_s + trace.seconds)


def _trace(exchange: Exchange, steps: list[Try], because: Because, now_s: float, gateway: str) -> Trace:
    began_s = exchange.request.started_s
    key, lane, caller, relay = exchange.key, exchange.lane, exchange.caller, exchange.relay
    endpoint = lane.route.endpoint if lane is not None else exchange.name[:128]
    served_by = exchange.served_by if exchange.served_by != endpoint else ""
    end = relay.end if relay is not None else None

    def since(at_s: float) -> float:
        return max(at_s - began_s, 0.0) if at_s else 0.0

    return Trace(
        id=exchange.trace,
        span=f"{exchange.span:016x}",
        parent=caller.span if caller is not None else "",
        state=caller.state if caller is not None else "",
        request=exchange.id,
        because=because,
        gateway=gateway,
        project=lane.route.project if lane is not None else exchange.project[:128],
        endpoint=endpoint,
        served_by=served_by,
        revision=exchange.revision or (steps[-1].revision if steps else ""),
        version=exchange.version,
        method=exchange.method,
        tenant=(key.limits.tenant or key.key) if key is not None else "",
        status=exchange.status,
        code=exchange.code,
        is_stream=exchange.stream,
        max_tokens=exchange.max_tokens,
        began_at_s=time.time() - (now_s - began_s),
        seconds=now_s - began_s,
        arrived_s=since(exchange.arrived_s),
        known_s=since(exchange.known_s),
        admitted_s=since(exchange.admitted_s),
        waited_s=exchange.waited_s,
        first_byte_s=since(exchange.first_byte_s),
        tries=tuple(
            msgspec.structs.replace(each, begin_s=since(each.begin_s), end_s=since(each.end_s)) for each in steps
        ),
        timings=end.timings if end is not None else None,
        usage=end.usage if end is not None else None,
    )
