"""Whether the money for this request is there, and its quotas of requests and tokens: in the budgets of its key, its
project, its tags and the platform. Rules: core/wallet.py.

What it may cost at most is set aside before it runs; its usage record, written before its answer ends, says what it did
cost and to which leases. Twice in the stack: outside of the cache, for the little that a kept answer may cost, and for
each endpoint that may serve, because another one may be cheaper.
"""

import math
import time
from typing import TYPE_CHECKING, Final

from stoker.core import pricing
from stoker.core.pricing import Work as Most
from stoker.core.wallet import Hold
from stoker.gateway.budgets import Bounds, Budgets, header
from stoker.gateway.exchange import BUDGET_HEADER, Exchange, Handler, Work
from stoker.types.budgets import UNITS
from stoker.types.errors import BudgetExceeded, QuotaExceeded, UsageJournalFull
from stoker.types.prices import DatedCard

if TYPE_CHECKING:
    from stoker.gateway.lane import Lane
    from stoker.gateway.usage.record import Bill

REQUESTS: Final = UNITS.index("requests")
TOKENS: Final = UNITS.index("tokens")


def budget_of_kept(budgets: Budgets, inner: Handler) -> Handler:
    """Find the budgets of the request, and room for what an answer costs that no engine makes, where any are kept."""

    def handle(exchange: Exchange) -> Work:
        lane, bill, key, wallet = exchange.lane, exchange.bill, exchange.key, budgets.wallet
        if not wallet or lane is None or bill is None or key is None:
            return inner(exchange)
        bill.purses = wallet.of(key.project, key.key, bill.tags)
        if not bill.purses:
            return inner(exchange)
        if bill.journal.is_full and any(purse.unit for purse in bill.purses):  # of money, the usage layer asks
            raise UsageJournalFull(
                "usage cannot be written down, and this request has a quota: the disk or STOKER_USAGE_JOURNAL_MAX is "
                "full",
                retry_after_s=5.0,
            )
        if lane.route.cache is None:
            return inner(exchange)
        card = pricing.card_at(bill.prices(lane), time.time())
        kept = (pricing.price(card, pricing.Work()), _requests(bill), 0)  # no engine makes tokens for it
        return _held(budgets, inner, (exchange, bill, kept))

    return handle


def budget(budgets: Budgets, inner: Handler) -> Handler:
    """Have the room for all that the request may cost at the endpoint that is to serve it."""

    def handle(exchange: Exchange) -> Work:
        lane, bill = exchange.lane, exchange.bill
        if lane is None or bill is None or not bill.purses:
            return inner(exchange)
        return _held(budgets, inner, (exchange, bill, _bounds(exchange, lane, bill)))

    return handle


def _held(budgets: Budgets, inner: Handler, asked: "tuple[Exchange, Bill, Bounds]") -> Work:
    exchange, bill, bounds = asked
    is_first = bill.hold is None
    if bill.hold is not None:  # of an endpoint that did not answer, or of a kept answer that there was not
        bill.hold.spend(0)
        bill.hold = None
    if not any(bounds):
        return inner(exchange)
    now_s = time.time()
    found = budgets.wallet.reserve(bill.purses, bounds[0], now_s, bounds[1], bounds[2])
    if not isinstance(found, Hold):
        return _waited(budgets, inner, asked)
    bill.hold = found
    for purse in bill.purses:
        if purse.is_low:
            budgets.hurry()
    if is_first:
        exchange.extra += header(bill.purses, now_s)
    return inner(exchange)


async def _waited(budgets: Budgets, inner: Handler, asked: "tuple[Exchange, Bill, Bounds]") -> None:
    exchange, bill, bounds = asked
    left_s = exchange.deadline_s - time.monotonic() if exchange.deadline_s else math.inf  # it is set further in
    try:
        bill.hold = await budgets.wait(bill.purses, bounds, left_s)
    except BudgetExceeded as exceeded:
        bill.is_too_dear = bill.is_too_dear or exceeded.falls_back
        if isinstance(exceeded, QuotaExceeded):
            exchange.extra += header(bill.purses, time.time())
        else:  # its own header says it, in the place of one from when there still was room
            lines = exchange.extra.splitlines(keepends=True)
            exchange.extra = b"".join(line for line in lines if not line.startswith(BUDGET_HEADER))
        raise
    if b"x-stoker-budget" not in exchange.extra and b"x-stoker-quota" not in exchange.extra:
        exchange.extra += header(bill.purses, time.time())
    await inner(exchange)


def _requests(bill: "Bill") -> int:
    """Return the requests that it counts for: one, where any of its budgets is of requests."""
    for purse in bill.purses:
        if purse.unit == REQUESTS:
            return 1
    return 0


def _bounds(exchange: Exchange, lane: "Lane", bill: "Bill") -> Bounds:
    """Return the most that the request may take at the endpoint of `lane`, of what its budgets are of."""
    left_s = exchange.deadline_s - time.monotonic()
    most = pricing.at_most(
        body_bytes=len(exchange.body), max_tokens=exchange.max_tokens, left_s=left_s, writes=lane.task == "chat"
    )
    requests = tokens = 0
    for purse in bill.purses:
        if purse.unit == REQUESTS:
            requests = 1
        elif purse.unit == TOKENS and lane.task != "predict":
            tokens = most.input_tokens + most.output_tokens
    return _cost(bill.prices(lane), most, left_s), requests, tokens


def _cost(prices: tuple[DatedCard, ...], most: Most, left_s: float) -> int:
    """Return the most that a request may cost, by each price until its deadline."""
    if not prices:
        return 0
    if len(prices) == 1:
        return pricing.bound((prices[0].card,), most) if prices[0].from_s <= time.time() + left_s else 0
    now_s = time.time()
    cards = [pricing.card_at(prices, now_s)]
    cards += [each.card for each in prices if now_s < each.from_s <= now_s + left_s]
    return pricing.bound(cards, most)
