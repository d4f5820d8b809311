"""How an identity provider's new key becomes known at once: a gateway that sees a token signed by it tells control.

Control asks every provider each few minutes anyway, and publishers announce a key before they use it, so that a call
which is lost costs some refused tokens. Control bounds how often it asks.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

import msgspec

from stoker.protocol import unixhttp
from stoker.types.errors import Unavailable

PAUSE_S: Final = 2.0  # between two calls
TIMEOUT_S: Final = 15.0  # control asks the provider meanwhile

_log = logging.getLogger(__name__)


class Rekeys:
    """Tells control, over its API socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._names: set[str] = set()  # providers of the route table: at most as many as it has
        self._asked = asyncio.Event()

    def ask(self, provider: str) -> None:
        """Note that a token of a provider was signed by a key that is not known."""
        self._names.add(provider)
        self._asked.set()

    async def run(self) -> None:
        """Tell of it until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            names, self._names = sorted(self._names), set()
            body = msgspec.json.encode({"providers": names})
            try:
                await unixhttp.request(
                    str(self._socket), "POST", "/internal/v1/unknown-keys", body=body, timeout_s=TIMEOUT_S
                )
            except (Unavailable, ValueError) as down:
                _log.debug("control was not told of an unknown key", extra={"reason": str(down)})
            await asyncio.sleep(PAUSE_S)
