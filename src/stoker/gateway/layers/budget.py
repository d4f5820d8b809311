"""Whether the money for this request is there: in the budgets of its key, project and tags. Rules: core/wallet.py.

What it may cost at most is set aside before it runs; its usage record, written before its answer ends, says what it did
cost and to which leases. Twice in the stack: outside of the cache, for the little that a kept answer may cost, and for
each endpoint that may serve, because another one may be cheaper.
"""

import math
import time
from typing import TYPE_CHECKING

from stoker.core import pricing
from stoker.core.wallet import Hold
from stoker.gateway.budgets import Budgets, header
from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.types.errors import BudgetExceeded

if TYPE_CHECKING:
    from stoker.gateway.lane import Lane
    from stoker.gateway.usage.record import Bill


def budget_of_kept(budgets: Budgets, inner: Handler) -> Handler:
    """Find the budgets of the request, and room for what an answer costs that no engine makes, where any are kept."""

    def handle(exchange: Exchange) -> Work:
        lane, bill, key, wallet = exchange.lane, exchange.bill, exchange.key, budgets.wallet
        if not wallet or lane is None or bill is None or key is None:
            return inner(exchange)
        bill.purses = wallet.of(key.project, key.key, bill.tags)
        if not bill.purses or lane.route.cache is None:
            return inner(exchange)
        card = pricing.card_at(bill.prices(lane), time.time())
        return _held(budgets, inner, (exchange, bill, pricing.price(card, pricing.Work())))

    return handle


def budget(budgets: Budgets, inner: Handler) -> Handler:
    """Have the room for all that the request may cost at the endpoint that is to serve it."""

    def handle(exchange: Exchange) -> Work:
        lane, bill = exchange.lane, exchange.bill
        if lane is None or bill is None or not bill.purses:
            return inner(exchange)
        return _held(budgets, inner, (exchange, bill, _bound(exchange, lane, bill)))

    return handle


def _held(budgets: Budgets, inner: Handler, asked: "tuple[Exchange, Bill, int]") -> Work:
    exchange, bill, bound = asked
    is_first = bill.hold is None
    if bill.hold is not None:  # of an endpoint that did not answer, or of a kept answer that there was not
        bill.hold.spend(0)
        bill.hold = None
    if not bound:
        return inner(exchange)
    now_s = time.time()
    found = budgets.wallet.reserve(bill.purses, bound, now_s)
    if not isinstance(found, Hold):
        return _waited(budgets, inner, asked)
    bill.hold = found
    for purse in bill.purses:
        if purse.is_low:
            budgets.hurry()
    if is_first:
        exchange.extra += header(bill.purses, now_s)
    return inner(exchange)


async def _waited(budgets: Budgets, inner: Handler, asked: "tuple[Exchange, Bill, int]") -> None:
    exchange, bill, bound = asked
    left_s = exchange.deadline_s - time.monotonic() if exchange.deadline_s else math.inf  # it is set further in
    try:
        bill.hold = await budgets.wait(bill.purses, bound, left_s)
    except BudgetExceeded as exceeded:
        bill.is_too_dear = bill.is_too_dear or exceeded.falls_back
        raise
    if b"x-stoker-budget" not in exchange.extra:
        exchange.extra += header(bill.purses, time.time())
    await inner(exchange)


def _bound(exchange: Exchange, lane: "Lane", bill: "Bill") -> int:
    """Return the most that the request may cost at the endpoint of `lane`, by each price until its deadline."""
    prices = bill.prices(lane)
    if not prices:
        return 0
    left_s = exchange.deadline_s - time.monotonic()
    most = pricing.at_most(
        body_bytes=len(exchange.body), max_tokens=exchange.max_tokens, left_s=left_s, writes=lane.task == "chat"
    )
    if len(prices) == 1:
        return pricing.bound((prices[0].card,), most) if prices[0].from_s <= time.time() + left_s else 0
    now_s = time.time()
    cards = [pricing.card_at(prices, now_s)]
    cards += [each.card for each in prices if now_s < each.from_s <= now_s + left_s]
    return pricing.bound(cards, most)
