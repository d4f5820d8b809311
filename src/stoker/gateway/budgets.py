"""This gateway's leases of budgets, and how it comes by them: it asks control, at once when one runs out.

The wallet (core/wallet.py) answers every request from memory. A request waits here only where control may have, or get
back from other gateways, what is not in the wallet.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from stoker.core.purse import Purse
from stoker.core.wallet import Hold, Short, Wallet, narrowest, tightest
from stoker.protocol import unixhttp
from stoker.types.budgets import ENDLESS_S, Answer
from stoker.types.errors import BudgetExceeded, QuotaExceeded, Unavailable
from stoker.types.prices import NANO_PER_USD, format_dollars

ASK_EVERY_S: Final = 1.0
ASK_AGAIN_S: Final = 0.05  # after the last question, when one is in a hurry
TIMEOUT_S: Final = 1.0
WAIT_S: Final = 2.0  # for what other gateways have to give back first; they ask every second
WAITING_MAX: Final = 1000  # requests
WARN_AT: Final = 0.8  # of a quota
Bounds = tuple[int, int, int]  # the most that a request may take, by unit as types/budgets.UNITS has them

_log: Final = logging.getLogger(__name__)
_decode: Final = msgspec.json.Decoder(Answer).decode


class Budgets:
    """Asks control for the leases of `wallet`; requests wait for its answers."""

    def __init__(self, wallet: Wallet, socket: Path) -> None:
        self.wallet = wallet
        self._socket = str(socket)
        self._hurry = asyncio.Event()
        self._news = asyncio.Event()  # set, and made anew, with each answer
        self._waiting = 0
        self._heard_s = float("-inf")  # when an answer came; monotonic

    # ---- a request

    def hurry(self) -> None:
        """Ask at once rather than with the next regular question."""
        self._hurry.set()

    async def wait(self, purses: Sequence[Purse], bounds: Bounds, left_s: float) -> Hold:
        """Return room for `bounds` in every one of `purses`, once there is.

        Raises BudgetExceeded or QuotaExceeded when nobody has it, Unavailable when control is not there to say.
        """
        began_s = time.monotonic()
        until_s = began_s + min(WAIT_S, left_s)
        self._waiting += 1
        try:
            while True:
                found = self.wallet.reserve(purses, bounds[0], time.time(), bounds[1], bounds[2])
                if isinstance(found, Hold):
                    return found
                rest_s = until_s - time.monotonic()
                is_over = rest_s <= 0 or self._waiting > WAITING_MAX
                if found.why == "gone" or (is_over and self._heard_s >= began_s):
                    raise exceeded(found, bounds)
                if is_over:
                    raise _unheard(found)
                self.hurry()
                news = self._news
                try:
                    async with asyncio.timeout(rest_s):
                        await news.wait()
                except TimeoutError:
                    continue
        finally:
            self._waiting -= 1

    # ---- control

    async def run(self) -> None:
        """Ask until cancelled. What is held then is given back with the end of the usage journal."""
        while True:
            if self.wallet:
                await self._try()
            await asyncio.sleep(ASK_AGAIN_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_EVERY_S - ASK_AGAIN_S):
                    await self._hurry.wait()
            self._hurry.clear()

    async def _try(self) -> None:
        question = self.wallet.question(time.time())
        try:
            status, data = await unixhttp.request(
                self._socket,
                "POST",
                "/internal/v1/budgets",
                body=msgspec.json.encode(question),
                timeout_s=TIMEOUT_S,
            )
            if status != 200:
                raise ValueError(f"control answered {status}")
            if self.wallet.take(_decode(data), time.time()):
                self._heard_s = time.monotonic()
                self._news.set()
                self._news = asyncio.Event()
        except (Unavailable, ValueError, msgspec.MsgspecError) as down:
            _log.debug("no answer about budgets", extra={"reason": str(down)})


def header(purses: Sequence[Purse], now_s: float) -> bytes:
    """Return the header lines that tell of the budget with the least room, and of the quota: name and what is left.

    Of a quota also its limit, when it begins anew, and, from WARN_AT on, how much of it is used.
    """
    found, lines = tightest(purses, now_s), b""
    if found is not None:
        lines = b"x-stoker-budget: %b;left=%.6f\r\n" % (found[0].told, found[1] / NANO_PER_USD)
    quota = narrowest(purses, now_s)
    return lines if quota is None else lines + _quota_lines(quota[0], quota[1], now_s)


def _quota_lines(purse: Purse, left: int, now_s: float) -> bytes:
    terms, pocket = purse.terms, purse.current(now_s)
    ends_at_s = ENDLESS_S if pocket is None else pocket.ends_at_s
    reset = b"" if ends_at_s >= ENDLESS_S else b";reset=%d" % max(ends_at_s - now_s, 1.0)
    unit = terms.unit.encode()
    lines = b"x-stoker-quota: %b;unit=%b;limit=%d;left=%d%b\r\n" % (purse.told, unit, terms.amount, left, reset)
    used_ratio = 1.0 - left / max(terms.amount, 1)
    if used_ratio >= WARN_AT:
        lines += b"x-stoker-quota-warning: %b;unit=%b;used=%.2f\r\n" % (purse.told, unit, used_ratio)
    return lines


def exceeded(short: Short, bounds: Bounds) -> BudgetExceeded:
    """Return the refusal of a request that may take `bounds`."""
    terms, now_s = short.purse.terms, time.time()
    bound = bounds[short.purse.unit]
    pocket = short.purse.current(now_s)
    again, retry_s = "", None
    if pocket is not None and pocket.ends_at_s < ENDLESS_S:
        again = f"; it begins anew at {datetime.fromtimestamp(pocket.ends_at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
        retry_s = pocket.ends_at_s - now_s
    if terms.unit != "usd":
        more = "; a smaller max_tokens makes it fit sooner" if terms.unit == "tokens" else ""
        takes = f"which may take up to {bound} tokens" if terms.unit == "tokens" else "which is one"
        return QuotaExceeded(
            f"quota {terms.name!r} ({terms.amount} {terms.unit}) has no room for this request, {takes}{again}{more}",
            retry_after_s=retry_s,
        )
    return BudgetExceeded(
        f"budget {terms.name!r} (${format_dollars(terms.amount)}) has no room for this request, which may cost up to "
        f"${format_dollars(bound)}{again}; a smaller max_tokens makes it fit sooner",
        falls_back=terms.on_limit == "fallback",
        retry_after_s=retry_s,
    )


def _unheard(short: Short) -> Unavailable:
    return Unavailable(
        f"nothing is left here of what was leased of budget {short.purse.terms.name!r}, and control does not answer",
        retry_after_s=ASK_EVERY_S,
    )
