"""How the route table gets here: a long poll on control, and the last table on disk for when control is dead."""

import asyncio
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from stoker.protocol import unixhttp
from stoker.types.errors import Unavailable
from stoker.types.routes import RouteTable

WAIT_S: Final = 25.0
BACKOFF_MIN_S: Final = 0.05
BACKOFF_MAX_S: Final = 2.0
CATCH_UP_S: Final = 1.0  # a start waits no longer for a control that hangs

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(RouteTable).decode


def load(path: Path) -> RouteTable | None:
    """Return the table kept at `path`, or None when there is none that can be read."""
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as broken:
        _log.warning("the kept route table cannot be read", extra={"path": str(path), "reason": str(broken)})
        return None


def save(path: Path, data: bytes) -> None:
    """Keep `data` at `path`: written beside it, flushed, renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Watch:
    """Follows control. `apply` takes each table and says whether it was newer.

    Args:
        socket: control's API socket.
        path: where the last table is kept.
        name: of this gateway, by which control knows what it follows.
    """

    def __init__(self, socket: Path, path: Path, apply: Callable[[RouteTable], bool], name: str) -> None:
        self._socket = socket
        self._path = path
        self._apply = apply
        self._name = name
        self._version = -1

    async def start(self) -> None:
        """Begin with the table on disk, if there is one, and with control's where it answers in CATCH_UP_S.

        So a gateway whose port opens knows the keys that were made while it was gone.
        """
        table = load(self._path)
        if table is not None:
            self._apply(table)
            self._version = table.version
        try:
            await self._ask(wait_s=0.0, timeout_s=CATCH_UP_S)
        except (Unavailable, ValueError) as down:
            _log.info("begins with the kept route table", extra={"reason": str(down)})

    async def run(self) -> None:
        """Follow until cancelled; a control that is dead or wrong is asked again, later and later."""
        wait_s = BACKOFF_MIN_S
        is_lost = False
        while True:
            try:
                if not await self._ask(wait_s=WAIT_S, timeout_s=WAIT_S + 10):
                    await asyncio.sleep(BACKOFF_MAX_S)  # an old table again and again must not become a busy loop
                wait_s = BACKOFF_MIN_S
                if is_lost:
                    is_lost = False
                    _log.info("control answers again")
                continue
            except (Unavailable, ValueError) as down:
                if not is_lost:  # once, not with each try
                    is_lost = True
                    _log.warning("control does not answer", extra={"reason": str(down)})
            wait_s = min(wait_s * 2, BACKOFF_MAX_S)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))

    async def _ask(self, *, wait_s: float, timeout_s: float) -> bool:
        """Wait for one newer table; False when it is an old one. That it is followed is told with the next question.

        Raises Unavailable, and ValueError for an answer that is none.
        """
        path = f"/internal/v1/routes?after={self._version}&wait_s={wait_s:g}&gateway={self._name}"
        status, data = await unixhttp.request(str(self._socket), "GET", path, timeout_s=timeout_s)
        if status == 204:
            return True
        if status != 200:
            raise ValueError(f"control answered {status}")
        try:
            table = _decode(data)
        except msgspec.DecodeError as broken:
            raise ValueError(f"not a route table: {broken}") from broken
        if not self._apply(table):
            return False
        self._version = table.version
        try:
            await asyncio.to_thread(save, self._path, data)
        except OSError as full:  # serving goes on; only a restart without control would miss it
            _log.warning("the route table cannot be kept", extra={"path": str(self._path), "reason": str(full)})
        return True
