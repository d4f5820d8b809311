"""Where the request goes: to a place in a replica, now or when one is free; alone, if it is suspected.

Inside of retry, because each try chooses again. The place is held until the try has ended.
"""

import time

from stoker.gateway.exchange import Exchange, Handler
from stoker.gateway.fleet import suspicion
from stoker.gateway.fleet.trial import Trials


def route(trials: Trials, inner: Handler) -> Handler:
    """Choose, hold the place, release it."""

    async def handle(exchange: Exchange) -> None:
        lane = exchange.lane
        assert lane is not None
        exchange.routed_s = time.monotonic()
        if not exchange.admitted_s:
            exchange.admitted_s = exchange.routed_s
        exchange.waited_s = 0.0
        if lane.arms is not None:
            lane.arms.assign(exchange)
        needs_trial = bool(lane.book) and not exchange.is_proven and suspicion.is_suspect(lane, exchange)
        if needs_trial and await trials.run(exchange, inner):
            return
        if lane.admission or lane.take(exchange) is None:
            await lane.admission.wait(exchange, in_front=exchange.tries > 0)
        try:
            await inner(exchange)
        finally:
            lane.release(exchange)

    return handle
