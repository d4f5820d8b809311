"""How this gateway comes by its share of each limit: it asks control once a second, and goes on without it."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

import msgspec

from stoker.core import shares
from stoker.core.shares import Answer, Question
from stoker.gateway.quotas import Quotas
from stoker.protocol import unixhttp
from stoker.types.errors import Unavailable

ASK_EVERY_S: Final = 1.0
ASK_TIMEOUT_S: Final = 2.0

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Answer).decode


class Asker:
    """Asks for gateway `index`. Only needed where there are several."""

    def __init__(self, socket: Path, quotas: Quotas, index: int) -> None:
        self._socket = socket
        self._quotas = quotas
        self._index = index

    async def run(self) -> None:
        """Ask until cancelled."""
        began_s = time.monotonic()
        while True:
            try:
                await self._ask()
            except (Unavailable, ValueError, msgspec.DecodeError) as down:
                _log.debug("no answer about shares", extra={"reason": str(down)})
            holder = self._quotas.holder
            if holder.is_new and time.monotonic() - began_s >= shares.GIVE_UP_S:
                _log.warning("control does not answer: limits are held at even shares")
                holder.give_up()
            await asyncio.sleep(ASK_EVERY_S)

    async def _ask(self) -> None:
        holder, asked_s = self._quotas.holder, time.monotonic()
        quotas = self._quotas
        held, asked = quotas.held(asked_s), quotas.asked()
        question = Question(self._index, holder.is_new, held, asked, quotas.limits(held, asked))
        status, data = await unixhttp.request(
            str(self._socket),
            "POST",
            "/internal/v1/shares",
            body=msgspec.json.encode(question),
            timeout_s=ASK_TIMEOUT_S,
        )
        if status != 200:
            raise ValueError(f"control answered {status}")
        holder.take(_decode(data), asked_s)
