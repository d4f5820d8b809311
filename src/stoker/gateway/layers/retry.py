"""Another try elsewhere: before the first byte, when the failed one cannot have been answered, within the budget; or,
of a stream that was cut, for what is missing (migration.py).

Inside of meter and admit: a retry is the same request. What runs in a replica that dies is suspected (suspicion.py).
"""

import asyncio
import random
import time
from typing import Final

from stoker.core.retry import BUSY_WAIT_S, TRIES_MAX, is_worth_waiting
from stoker.gateway import trail
from stoker.gateway.exchange import Exchange, Handler, TryFailed
from stoker.gateway.fleet import suspicion
from stoker.gateway.protocols import migration
from stoker.gateway.usage.waste import waste_try
from stoker.types.errors import Busy, StokerError

BACKOFF_S: Final = 0.01  # doubled with each try that was no death; a lane needs a moment to see that a replica is gone


def retry(inner: Handler) -> Handler:
    """Try until it is answered, or may not be tried again."""

    async def handle(exchange: Exchange) -> None:
        lane = exchange.lane
        assert lane is not None
        lane.budget.earn()
        while True:
            try:
                await inner(exchange)
            except TryFailed as failed:
                wait_s = may_go_on(exchange, failed)
                if wait_s is None:
                    return
            except StokerError as problem:
                if exchange.relay is not None and exchange.relay.problem is problem:
                    suspicion.clear(lane, exchange)  # the replica's own word: it outlived the request
                raise migration.reason(exchange, problem) from None
            else:
                suspicion.clear(lane, exchange)
                return
            if wait_s:
                await asyncio.sleep(wait_s)

    return handle


def may_go_on(exchange: Exchange, failed: TryFailed) -> float | None:
    """Prepare the next try after `failed`; return the seconds until it, None when the exchange has ended.

    Raises what the client is told when there is no next try.
    """
    lane = exchange.lane
    assert lane is not None
    wait_s = 0.0
    exchange.tries += 1
    now_s = time.monotonic()
    trail.note(exchange, failed.problem.code, now_s, failed.replica)
    if failed.was_death:
        suspicion.blame(lane, exchange, failed.replica)
    if exchange.is_started:
        if not migration.begin(exchange, failed.problem):
            return None
    elif exchange.can_move and lane.is_deserted():
        raise failed.problem from None
    elif exchange.tries >= TRIES_MAX:
        lane.meters.retry_denied("tries")
        raise failed.problem from None
    elif isinstance(failed.problem, Busy):
        wait_s = lane.choice.again_s(exchange, failed.replica, failed.problem.retry_after_s or BUSY_WAIT_S, now_s)
        if exchange.can_spill or not is_worth_waiting(wait_s, exchange.deadline_s - now_s):
            lane.meters.retry_denied("wait")
            raise failed.problem from None
    is_first_move = exchange.tries == 1 and not failed.replica.is_open
    if not is_first_move and not lane.budget.spend(now_s):
        lane.meters.retry_denied("budget")
        raise failed.problem from None
    if not exchange.is_started:
        lane.meters.retry(failed.problem.code)
        waste_try(exchange, failed, now_s)
    exchange.avoid = failed.replica
    if exchange.sent_s >= exchange.routed_s:  # this try was sent
        lane.admission.lost(now_s - exchange.sent_s)
    return 0.0 if failed.was_death else wait_s + BACKOFF_S * 2**exchange.tries * random.uniform(0.5, 1)
