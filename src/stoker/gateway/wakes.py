"""How a sleeping endpoint wakes at once: the first request that waits there has control look at the load.

Control looks every two seconds anyway and sees who waits, so that a call which is lost costs only that. However many
come together, one call is under way, and it names nobody: control asks every gateway.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from stoker.protocol import unixhttp
from stoker.types.errors import Unavailable

PAUSE_S: Final = 0.25  # between two calls
TIMEOUT_S: Final = 2.0

_log = logging.getLogger(__name__)


class Wakes:
    """Tells control of one machine, over its API socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._asked = asyncio.Event()

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits of whom control is yet to be told."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Note that somebody waits where nothing runs."""
        self._asked.set()

    async def run(self) -> None:
        """Tell of it until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await unixhttp.request(str(self._socket), "POST", "/internal/v1/wake", timeout_s=TIMEOUT_S)
            except (Unavailable, ValueError) as down:
                _log.debug("control was not told that somebody waits", extra={"reason": str(down)})
            await asyncio.sleep(PAUSE_S)
