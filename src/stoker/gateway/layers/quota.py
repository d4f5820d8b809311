"""Whether the key may ask for this now: requests a second, tokens a minute and requests at once, of the key itself, of
its project and of the platform.

Tokens are taken before it is known what a request costs: what its prompt and its answer will be, as far as can be said.
When it has ended, the difference is given back or taken too. Nothing is given back for an answer that was begun and
abandoned: its tokens were made. A place is held by the coroutine that runs the request, so that there is no way to end
that keeps it; however many replicas work for a request (hedges, tries, copies), it is one.
"""

import time

from stoker.core.turns import BEHIND, PRESSES_S
from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.quotas import Holding, Quotas
from stoker.types.errors import Busy, StokerError


def quota(quotas: Quotas, inner: Handler) -> Handler:
    """Hold keys to their limits."""

    def handle(exchange: Exchange) -> Work:
        key = exchange.key
        assert key is not None
        if not quotas:
            return inner(exchange)
        holding = quotas.find(key)
        return inner(exchange) if holding is None else limited(exchange, holding)

    async def limited(exchange: Exchange, holding: Holding) -> None:
        lane, now_s = exchange.lane, time.monotonic()
        assert lane is not None
        tokens = 0.0
        if holding.counts_tokens and lane.task != "predict":
            tokens = lane.expectation.tokens(len(exchange.body), exchange.max_tokens, writes=lane.task == "chat")
        try:
            quotas.take(holding, tokens, now_s)
        except Busy:
            holding.presses_until_s = now_s + PRESSES_S
            exchange.extra += holding.headers(quotas, now_s)
            raise
        if now_s < holding.presses_until_s:
            exchange.turn = BEHIND
        was_worked_on = True  # also for who left, or ran out of time: an engine was busy for them
        try:
            exchange.extra += holding.headers(quotas, now_s)
            await inner(exchange)
        except StokerError:
            was_worked_on = exchange.is_started
            raise
        finally:
            holding.release()
            if holding.counts_tokens:
                _settle(exchange, holding, tokens, was_worked_on=was_worked_on)

    return handle


def _settle(exchange: Exchange, holding: Holding, reserved: float, *, was_worked_on: bool) -> None:
    usage, lane = exchange.usage, exchange.lane
    assert lane is not None
    cost = float(usage.input_tokens + usage.output_tokens)
    if cost > 0.0:
        lane.expectation.learn(len(exchange.body), usage.input_tokens, usage.output_tokens)
    elif was_worked_on and exchange.relay is not None:  # without one nothing was made: it waited, or was kept or shared
        return
    now_s = time.monotonic()
    for account in holding.accounts:
        if account.tokens is not None:
            account.tokens.take(cost - reserved, now_s)
