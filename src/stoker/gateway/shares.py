"""How this gateway comes by its share of each key's limit: it asks control once a second, and goes on without it."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from stoker.core import shares
from stoker.core.shares import Answer, Question
from stoker.gateway.quotas import Quotas

ASK_EVERY_S: Final = 1.0
ASK_TIMEOUT_S: Final = 2.0
ANSWER_MAX_BYTES: Final = 4 << 20

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
        timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
        while True:
            connector = aiohttp.UnixConnector(str(self._socket))
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                try:
                    while True:
                        await self._ask(session)
                        await asyncio.sleep(ASK_EVERY_S)
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError, msgspec.DecodeError) as down:
                    _log.debug("no answer about shares", extra={"reason": str(down) or type(down).__name__})
            holder = self._quotas.holder
            if holder.is_new and time.monotonic() - began_s >= shares.GIVE_UP_S:
                _log.warning("control does not answer: limits of keys are held at even shares")
                holder.give_up()
            await asyncio.sleep(ASK_EVERY_S)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        holder, asked_s = self._quotas.holder, time.monotonic()
        question = Question(self._index, holder.is_new, holder.held(asked_s), self._quotas.asked())
        url = "http://control/internal/v1/shares"
        async with session.post(url, data=msgspec.json.encode(question)) as answer:
            if answer.status != 200:
                raise ValueError(f"control answered {answer.status}")
            data = await answer.content.read(ANSWER_MAX_BYTES)
            while not answer.content.at_eof() and len(data) < ANSWER_MAX_BYTES:
                data += await answer.content.read(ANSWER_MAX_BYTES)
        holder.take(_decode(data), asked_s)
