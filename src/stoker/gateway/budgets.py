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
from stoker.core.wallet import Hold, Short, Wallet, ends, tightest
from stoker.protocol import unixhttp
from stoker.types.budgets import ENDLESS_S, Answer
from stoker.types.errors import BudgetExceeded, Unavailable
from stoker.types.prices import NANO_PER_USD, format_dollars

ASK_EVERY_S: Final = 1.0
ASK_AGAIN_S: Final = 0.05  # after the last question, when one is in a hurry
LOOK_S: Final = 0.25  # whether to wait on, without news
TIMEOUT_S: Final = 1.0
WAITING_MAX: Final = 1000  # requests

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

    async def wait(self, purses: Sequence[Purse], bound: int, left_s: float) -> Hold:
        """Return room for `bound` in every one of `purses`, once there is.

        Raises BudgetExceeded when nobody has it, Unavailable when control is not there to say.
        """
        began_s = time.monotonic()
        self._waiting += 1
        try:
            while True:
                now_s = time.time()
                found = self.wallet.reserve(purses, bound, now_s)
                if isinstance(found, Hold):
                    return found
                waited_s = time.monotonic() - began_s
                is_over = waited_s >= left_s or self._waiting > WAITING_MAX
                what = ends(found, now_s, waited_s, is_over=is_over)
                if what == "refused":
                    raise exceeded(found, bound)
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
    """Return the header line that tells of the budget with the least room: its name, what is left, and until when."""
    found = tightest(purses, now_s)
    if found is None:
        return b""
    return b"x-stoker-budget: %b;left=%.6f\r\n" % (found[0].told, found[1] / NANO_PER_USD)


def exceeded(short: Short, bound: int) -> BudgetExceeded:
    """Return the refusal of a request that may cost `bound`."""
    terms, now_s = short.purse.terms, time.time()
    pocket = short.purse.current(now_s)
    again, retry_s = "", None
    if pocket is not None and pocket.ends_at_s < ENDLESS_S:
        again = f"; it begins anew at {datetime.fromtimestamp(pocket.ends_at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
        retry_s = pocket.ends_at_s - now_s
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
