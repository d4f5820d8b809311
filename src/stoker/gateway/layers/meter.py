"""What is counted: every request of an endpoint, answered or refused, once, at its end.

Outside of deadline and admit, because a request that was refused for a full queue is a request too.
"""

import asyncio
import time
from typing import Final

from stoker.core import admit, attempts
from stoker.gateway.exchange import GONE, Exchange, Handler
from stoker.gateway.lane import Lane
from stoker.gateway.meters import RevisionMeters
from stoker.gateway.tally import TALLY_MAX
from stoker.gateway.tenants import Times
from stoker.protocol.frames import EndHead
from stoker.types.errors import DeadlineExceeded, EngineFailed, StokerError

RETRIED: Final = b"x-stainless-retry-count"  # the OpenAI and Anthropic libraries say how often they asked before


def meter(inner: Handler) -> Handler:
    """Observe status, duration, tokens and what the replica said of its own time."""

    async def handle(exchange: Exchange) -> None:
        status, code = EngineFailed.status, EngineFailed.code
        lane = exchange.lane
        assert lane is not None
        exchange.known_s = time.monotonic()
        is_repeat = exchange.request.headers.get(RETRIED, b"0") != b"0"
        if is_repeat:
            lane.meters.client_retry()
        try:
            await inner(exchange)
            status, code = exchange.status, ""
        except StokerError as problem:
            status, code = problem.status, problem.code
            refused(exchange, problem)
            raise
        except asyncio.CancelledError:
            status = exchange.cause.status if exchange.cause is not None else GONE
            if exchange.cause is None:
                lane.meters.cancelled.add(1)
            raise
        finally:
            observe(exchange, lane, status, time.monotonic(), code, is_repeat)

    return handle


def refused(exchange: Exchange, problem: StokerError) -> None:
    """Count a request that no replica saw, or that one dropped."""
    if exchange.lane is None:
        return
    if exchange.relay is None:
        exchange.lane.meters.refused(problem.code)
    elif problem is exchange.relay.problem and isinstance(problem, DeadlineExceeded):
        exchange.lane.meters.revision(exchange.revision, exchange.method).dropped()


def observe(exchange: Exchange, lane: Lane, status: int, now_s: float, code: str = "", is_repeat: bool = False) -> None:
    """Count the exchange as ended with `status` at the endpoint of `lane`.

    Where another endpoint answered (layers/fallback.py), its tokens, rows and engine time are counted there only.

    Args:
        code: of the error, "" for none.
        is_repeat: a client library sends again what it sent before.
    """
    known = lane.meters.revisions.get((exchange.revision, exchange.method))
    meters = known or lane.meters.revision(exchange.revision, exchange.method)
    relay, key, usage = exchange.relay, exchange.key, exchange.usage
    took_s = exchange.took_s = now_s - exchange.began_s
    end = relay.end if relay is not None else None
    tenant = "" if key is None else key.limits.tenant or key.key
    # Most are asked once, and answered well, whole, and by whom they asked: those are only noted (tally.py).
    if (
        status == 200
        and end is not None
        and end.usage is usage
        and not exchange.first_byte_s
        and not exchange.served_by
        and exchange.cut is None
        and not is_repeat
        and not lane.route.sheds
    ):
        timings, tally = end.timings, meters.tally
        tally.kinds.append((tenant, usage.rows, timings.batch_rows))
        tally.seconds.append(took_s)
        if usage.output_tokens or usage.input_tokens:
            tally.usages.append((tenant, usage))
        if timings.calls is not None:
            meters.engine_calls(timings.calls)
    else:
        is_promised = not lane.route.closed and not (lane.route.sheds and admit.is_sheddable(exchange.band))
        outcome = attempts.outcome(status, code, is_repeat=is_repeat, is_promised=is_promised)
        _count_ended(exchange, lane, meters, tenant, status, outcome)
        if end is None or not _count_answer(exchange, lane, meters, tenant, end, now_s):
            return
    phases = meters.phases
    phases.left -= 1
    if phases.left <= 0:
        phases.observe(exchange, end.timings, now_s)
        if len(meters.tally.seconds) >= TALLY_MAX:
            meters.tally.count()


def _count_ended(
    exchange: Exchange, lane: Lane, meters: RevisionMeters, tenant: str, status: int, outcome: attempts.Outcome | None
) -> None:
    """Count a request by itself: that it ended, how, and when. The same for all of them, whoever answered."""
    meters.code(status).add(1)
    if outcome is not None:
        lane.meters.attempt(exchange.revision, outcome)
        lane.meters.promised.attempt(tenant, outcome)
    if exchange.cut is not None:
        lane.meters.migration(exchange.cut.code, {200: "done", GONE: "gone"}.get(status, "failed"))
    meters.duration.observe(exchange.took_s)
    if tenant:
        usage = exchange.usage
        has_tokens = bool(usage.output_tokens or usage.input_tokens)
        lane.meters.tenants.of(tenant).ended(status, 1, (usage,) if has_tokens else ())
        times = lane.meters.promised.times(tenant)
        if times is not None:
            times.took(exchange.took_s)


def _count_answer(
    exchange: Exchange, lane: Lane, meters: RevisionMeters, tenant: str, end: EndHead, now_s: float
) -> bool:
    """Count what a replica said of an answer; return whether it is one of the endpoint that was asked."""
    usage, timings = end.usage, end.timings
    is_elsewhere = bool(exchange.served_by) and exchange.served_by != lane.route.endpoint
    if exchange.first_byte_s:
        times = lane.meters.promised.times(tenant)
        _stream(exchange, meters, times, 0 if is_elsewhere else usage.output_tokens, now_s)
    if is_elsewhere:
        return False
    if usage.rows:
        meters.rows.add(usage.rows)
    if usage.input_tokens or usage.output_tokens:
        meters.tokens((usage,))
    if timings.batch_rows:
        meters.batch_rows.observe(timings.batch_rows)
    if timings.calls is not None:
        meters.engine_calls(timings.calls)
    return True


def _stream(exchange: Exchange, meters: RevisionMeters, times: Times | None, tokens: int, now_s: float) -> None:
    """Count the times of an answer whose first byte has come; `tokens` after it, 0 if they are counted elsewhere."""
    first_s = exchange.first_byte_s - exchange.began_s
    meters.text.first_token.observe(first_s)
    if times is not None:
        times.began(first_s)
    if tokens > 1:
        each_s = (now_s - exchange.first_byte_s) / (tokens - 1)
        meters.text.per_token.observe(each_s)
        if times is not None:
            times.went_on(each_s)
