"""Another try elsewhere: before the first byte, when the failed one cannot have been answered, within the budget; or,
of a stream that was cut, for what is missing (migration.py).

Inside of meter and admit: a retry is the same request. What runs in a replica that dies is suspected (suspicion.py).
"""

import asyncio
import random
import time
from typing import Final

from stoker.core.retry import TRIES_MAX
from stoker.gateway import trail
from stoker.gateway.exchange import Exchange, Handler, TryFailed
from stoker.gateway.fleet import suspicion
from stoker.gateway.protocols import migration
from stoker.types.errors import StokerError

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
                if not may_go_on(exchange, failed):
                    return
                if not failed.was_death:
                    await asyncio.sleep(BACKOFF_S * 2**exchange.tries * random.uniform(0.5, 1))
            except StokerError as problem:
                if exchange.relay is not None and exchange.relay.problem is problem:
                    suspicion.clear(lane, exchange)  # the replica's own word: it outlived the request
                raise migration.reason(exchange, problem) from None
            else:
                suspicion.clear(lane, exchange)
                return

    return handle


def may_go_on(exchange: Exchange, failed: TryFailed) -> bool:
    """Prepare the next try after `failed`; False when the exchange has ended. Raises what the client is told."""
    lane = exchange.lane
    assert lane is not None
    exchange.tries += 1
    now_s = time.monotonic()
    trail.note(exchange, failed.problem.code, now_s, failed.replica)
    if failed.was_death:
        suspicion.blame(lane, exchange, failed.replica)
    if exchange.is_started:
        if not migration.begin(exchange, failed.problem):
            return False
    elif exchange.can_move and lane.is_deserted():
        raise failed.problem from None
    elif exchange.tries >= TRIES_MAX:
        lane.meters.retry_denied("tries")
        raise failed.problem from None
    is_first_move = exchange.tries == 1 and not failed.replica.is_open
    if not is_first_move and not lane.budget.spend(now_s):
        lane.meters.retry_denied("budget")
        raise failed.problem from None
    if not exchange.is_started:
        lane.meters.retry(failed.problem.code)
    exchange.avoid = failed.replica
    return True
