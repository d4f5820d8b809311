"""The usage record of a request that ends: what it took, what that costs, and what is to be known of it besides.

On the path of every request, just before its answer's last byte: 4 µs, of which the write is 2.
"""

import time
from typing import TYPE_CHECKING, Final, Protocol

from stoker.core import pricing
from stoker.core.pricing import Work
from stoker.core.purse import Purse
from stoker.gateway.exchange import GONE, Exchange
from stoker.gateway.usage.journal import Journal
from stoker.protocol.usage import encode
from stoker.types.prices import DatedCard, format_dollars
from stoker.types.usage import Charge, Flag, Tags, UsageRecord

if TYPE_CHECKING:
    from stoker.gateway.lane import Lane

REQUEST_ID_MAX: Final = 128
FAILED, CANCELLED, CACHED, RETRIED, HEDGED, SHADOWED, CANARY, MOVED, STREAM, ESTIMATED = map(int, tuple(Flag)[:10])


class Hold(Protocol):
    """What is set aside of budgets for a request that runs."""

    def spend(self, nano_usd: int, requests: int = 0, tokens: int = 0) -> tuple[Charge, ...]:
        """Give the rest back and return who pays for what it took. Called once, when the request ends."""


class Bill:
    """What is noted of a request while it runs, for its record. asked: the endpoint that was; hold: whose budgets pay.

    purses: this gateway's part of those budgets. pieces, bytes_out: of the answer's body that left; pieces of streams
    only.
    """

    __slots__ = ("asked", "bytes_out", "hold", "is_hedged", "is_too_dear", "journal", "pieces", "purses", "tags")

    def __init__(self, journal: Journal, asked: "Lane", tags: Tags) -> None:
        self.journal = journal
        self.asked = asked
        self.tags = tags
        self.hold: Hold | None = None
        self.purses: tuple[Purse, ...] = ()
        self.bytes_out = self.pieces = 0
        self.is_too_dear = False  # at the price of the endpoint that was asked; the one that serves says the price
        self.is_hedged = False  # a second replica was asked beside the first

    def record(self, exchange: Exchange) -> bytes:
        """Write the record of `exchange`, which ends now; return what it cost in dollars, b"" where it has no price."""
        asked, lane, key, usage = self.asked, exchange.lane, exchange.key, exchange.usage
        assert lane is not None
        assert key is not None
        now_s = time.time()
        status, flags, compute_us = exchange.status, self._flags(exchange, lane), _compute_us(exchange)
        input_tokens, output_tokens = usage.input_tokens, usage.output_tokens
        if flags & ESTIMATED:
            input_tokens, output_tokens = self._made(exchange, lane)
        prices = self.prices(lane)
        price = 0
        if prices and (status == 200 or (status == GONE and flags & ESTIMATED)):
            work = Work(input_tokens, usage.cached_tokens, output_tokens, compute_us)
            price = pricing.price(pricing.card_at(prices, now_s), work)
        charges: tuple[Charge, ...] = ()
        if self.hold is not None:  # an error counts for no quota of requests; what was made for who left, does
            served = int(status in (200, GONE))
            charges = self.hold.spend(price, served, (input_tokens + output_tokens) * served)
        served_by = lane.route.endpoint if lane is not asked else ""
        record = UsageRecord(
            int(now_s * 1000), exchange.id[:REQUEST_ID_MAX], asked.route.project, asked.route.endpoint, served_by,
            exchange.revision, key.key, key.limits.tenant or key.key, self.tags, exchange.method, status, flags,
            input_tokens, output_tokens, usage.cached_tokens, usage.rows, compute_us, len(exchange.body),
            self.bytes_out, exchange.sends, price, charges,
        )  # fmt: skip
        self.journal.append(encode(record), must=bool(price or charges))
        if price:
            asked.meters.paid(price)
        return format_dollars(price).encode() if prices else b""

    def prices(self, lane: "Lane") -> tuple[DatedCard, ...]:
        """Return what it costs where `lane` serves it: by the endpoint that was asked, if that has a price."""
        own = () if self.is_too_dear else self.asked.route.prices
        return own or lane.route.prices

    def _flags(self, exchange: Exchange, lane: "Lane") -> int:
        status = exchange.status
        flags = STREAM if exchange.stream else 0
        if status != 200:
            flags |= CANCELLED if status == GONE else FAILED
            if self.pieces and exchange.stream and not exchange.usage.input_tokens:
                flags |= ESTIMATED
        elif exchange.relay is None:
            flags |= CACHED
        if exchange.tries:
            flags |= RETRIED
        if self.is_hedged:
            flags |= HEDGED
        if exchange.is_copied:
            flags |= SHADOWED
        if lane is not self.asked:
            flags |= MOVED
        if lane.arms is not None and exchange.revision == lane.arms.rollout.canary:
            flags |= CANARY
        return flags

    def _made(self, exchange: Exchange, lane: "Lane") -> tuple[int, int]:
        """Return the tokens of a stream that was cut: of its prompt as learned, of its answer one a piece.

        Never more than the request could have cost: see pricing.at_most.
        """
        size, limit = len(exchange.body), exchange.max_tokens or pricing.OUTPUT_TOKENS_MAX
        guess = int(lane.expectation.tokens(size, 0, writes=False))
        return min(guess, size + pricing.TEMPLATE_TOKENS_MAX), min(self.pieces, limit)


def must_pay(lane: "Lane") -> bool:
    """Return whether requests of `lane` may have a price, so that none may run unrecorded."""
    return bool(lane.route.prices) or lane.is_chained


def _compute_us(exchange: Exchange) -> int:
    """Return the request's share of the engine's time: of a batch, by its rows; never more than its deadline left."""
    end = exchange.relay.end if exchange.relay is not None else None
    if end is None:
        return 0
    timings, rows = end.timings, end.usage.rows
    share = rows / timings.batch_rows if 0 < rows < timings.batch_rows else 1.0
    return int(min(timings.compute_s * share, exchange.deadline_s - exchange.request.started_s) * 1e6)
