"""When keys were used last: control notes who calls it, and asks each gateway once a minute for the keys it saw."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.store import keys
from stoker.store.engine import Database
from stoker.types.errors import ReplicaLost, StokerError

EVERY_S: Final = 60.0
ASK_TIMEOUT_S: Final = 2.0

_log = logging.getLogger(__name__)
_decode: Final = msgspec.json.Decoder(list[str]).decode


class KeyUse:
    """What this process knows of it. A minute of it is lost with the process, and nothing else."""

    def __init__(self, database: Database, address: Callable[[str], str], gateways: int) -> None:
        self._database = database
        self._names = {name: address(name) for name in (f"gateway-{index}" for index in range(gateways))}
        self._seen: dict[str, float] = {}  # at most keys.KEYS_MAX: only good keys come here

    def add(self, key_id: str, at_s: float) -> None:
        """Note that a key was used."""
        self._seen[key_id] = at_s

    async def run(self) -> None:
        """Ask and write every EVERY_S; returns only by cancellation."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.settle(time.time())
            except (OSError, StokerError):
                _log.exception("when keys were used could not be kept; it is tried again")

    async def settle(self, now_s: float) -> None:
        """Ask every gateway now, and write what is known."""
        for found in await asyncio.gather(*(self._ask(name) for name in self._names)):
            self._seen.update(dict.fromkeys(found, now_s))
        seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            await self._database.writing(lambda connection: keys.used(connection, seen))
        except BaseException:
            self._seen = {**seen, **self._seen}
            raise

    async def _ask(self, name: str) -> list[str]:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                link = await connect(self._names[name], timeout_s=ASK_TIMEOUT_S)
                try:
                    _, answer = await link.call(RequestHead(method="keys"), b"", kind=Kind.CALL).answer()
                finally:
                    link.close()
            return _decode(answer)
        except (ReplicaLost, TimeoutError):
            return []  # it starts, or is gone
        except (StokerError, msgspec.DecodeError) as odd:
            _log.warning("a gateway did not say which keys it saw", extra={"worker": name, "reason": str(odd)})
            return []
