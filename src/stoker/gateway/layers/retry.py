"""Another try elsewhere, when the failed one cannot have been answered: before the first byte, and within the budget.

Inside of meter and admit: a retry is the same request. What runs in a replica that dies is suspected (suspicion.py).
"""

import asyncio
import random
import time
from typing import Final

from stoker.core.retry import TRIES_MAX
from stoker.gateway import suspicion
from stoker.gateway.exchange import Exchange, Handler, TryFailed
from stoker.types.errors import StokerError

BACKOFF_S: Final = 0.01  # doubled with each try that a living replica refused


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
                exchange.tries += 1
                if failed.was_death:
                    suspicion.blame(lane, exchange, failed.replica)
                may_retry = not exchange.is_started and exchange.tries < TRIES_MAX
                may_retry = may_retry and not (exchange.can_move and lane.is_deserted())
                if not may_retry or not lane.budget.spend(time.monotonic()):
                    raise failed.problem from None
                lane.meters.retry(failed.problem.code)
                exchange.avoid = failed.replica
                if not failed.was_death:
                    await asyncio.sleep(BACKOFF_S * 2**exchange.tries * random.uniform(0.5, 1))
            except StokerError as problem:
                if exchange.relay is not None and exchange.relay.problem is problem:
                    suspicion.clear(lane, exchange)  # the replica's own word: it outlived the request
                raise
            else:
                suspicion.clear(lane, exchange)
                return

    return handle
