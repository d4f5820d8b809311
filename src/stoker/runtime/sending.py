"""How answers leave the replica: small ones at once, large ones at the reader's pace, without holding up the loop."""

import asyncio
from typing import Any

from stoker.protocol.frames import INLINE_MAX, EndHead
from stoker.protocol.link import Exchange


class Sender:
    """Sends whole answers. Those over INLINE_MAX are each a task; there are never more of them than open exchanges."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def is_idle(self) -> bool:
        """Nothing is on its way."""
        return not self._tasks

    def end(self, exchange: Exchange, head: EndHead, body: bytes) -> None:
        """Close `exchange` well with `body`, whatever its size."""
        if len(body) <= INLINE_MAX:
            exchange.end(head, body)
            return
        task = self._loop.create_task(exchange.finish(head, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
