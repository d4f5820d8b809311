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
from stoker.core.wallet import Hold, Short, Wallet, ends, narrowest, tightest
from stoker.protocol import unixhttp
from stoker.types.budgets import ENDLESS_S, Answer
from stoker.types.errors import BudgetExceeded, QuotaExceeded, Unavailable
from stoker.types.prices import NANO_PER_USD, format_dollars

ASK_EVERY_S: Final = 1.0
ASK_AGAIN_S: Final = 0.05  # after the last question, when one is in a hurry
LOOK_S: Final = 0.25  # whether to wait on, without news
TIMEOUT_S: Final = 1.0
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

    # ---- a request

    def hurry(self) -> None:
        """Ask at once rather than with the next regular question."""
        self._hurry.set()

    async def wait(self, purses: Sequence[Purse], bounds: Bounds, left_s: float) -> Hold:
        """Return room for `bounds` in every one of `purses`, once there is.

        Raises BudgetExceeded or QuotaExceeded when nobody has it, Unavailable when control is not there to say.
        """
        began_s = time.monotonic()
        self._waiting += 1
        try:
            while True:
                now_s = time.time()
                found = self.wallet.reserve(purses, bounds[0], now_s, bounds[1], bounds[2])
                if isinstance(found, Hold):
                    return found
                waited_s = time.monotonic() - began_s
                is_over = waited_s >= left_s or self._waiting > WAITING_MAX
                what = ends(found, now_s, waited_s, is_over=is_over)
                if what == "refused":
                    raise exceeded(found, bounds)
                if what == "unheard":
                    raise _unheard(found)
                self.hurry()
                news = self._news
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_S, left_s - waited_s)):
                        await news.wait()
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
                self._news.set()
                self._news = asyncio.Event()
                if self.wallet.is_called:
                    self.hurry()
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
        told=_told(short.purse, retry_s, now_s),
    )


def _told(purse: Purse, reset_s: float | None, now_s: float) -> str:
    """Return what the header of a refusal says of the budget that refused: with its limit and when it begins anew."""
    left = purse.left(now_s) / NANO_PER_USD
    reset = "" if reset_s is None else f";reset={int(max(reset_s, 1.0))}"
    return f"{purse.terms.name};limit={format_dollars(purse.terms.amount)};left={left:.6f}{reset}"


def _unheard(short: Short) -> Unavailable:
    return Unavailable(
        f"nothing is left here of what was leased of budget {short.purse.terms.name!r}, and control does not answer",
        retry_after_s=ASK_EVERY_S,
    )
