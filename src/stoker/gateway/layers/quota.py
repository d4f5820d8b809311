"""Whether the key may ask for this now: its requests a second and its tokens a minute.

Tokens are taken before it is known what a request costs: what its prompt and its answer will be, as far as can be said.
When it has ended, the difference is given back or taken too. Nothing is given back for an answer that was begun and
abandoned: its tokens were made.
"""

import time

from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.quotas import Account, Quotas
from stoker.types.errors import RateLimited, StokerError


def quota(quotas: Quotas, inner: Handler) -> Handler:
    """Hold keys to their limits."""

    def handle(exchange: Exchange) -> Work:
        key = exchange.key
        assert key is not None
        if not quotas:
            return inner(exchange)
        now_s = time.monotonic()
        account = quotas.find(key, now_s)
        return inner(exchange) if account is None else limited(exchange, account, now_s)

    async def limited(exchange: Exchange, account: Account, now_s: float) -> None:
        lane = exchange.lane
        assert lane is not None
        account.asked += 1.0
        tokens = 0.0
        if account.tokens is not None and lane.task != "predict":
            tokens = lane.expectation.tokens(len(exchange.body), exchange.max_tokens, writes=lane.task == "chat")
        try:
            account.take(tokens, now_s)
        except RateLimited:
            exchange.extra += account.headers(now_s)
            raise
        exchange.extra += account.headers(now_s)
        was_worked_on = True  # also for who left, or ran out of time: an engine was busy for them
        try:
            await inner(exchange)
        except StokerError:
            was_worked_on = exchange.is_started
            raise
        finally:
            if account.tokens is not None:
                _settle(exchange, account, tokens, was_worked_on=was_worked_on)

    return handle


def _settle(exchange: Exchange, account: Account, reserved: float, *, was_worked_on: bool) -> None:
    usage, lane = exchange.usage, exchange.lane
    assert account.tokens is not None
    assert lane is not None
    cost = float(usage.input_tokens + usage.output_tokens)
    if cost > 0.0:
        lane.expectation.learn(len(exchange.body), usage.input_tokens, usage.output_tokens)
    elif was_worked_on and exchange.relay is not None:  # without one nothing was made: it waited, or was kept or shared
        return
    account.tokens.take(cost - reserved, time.monotonic())
