"""A second event loop for a model's own coroutines, so that code which forgets to await stalls only itself.

Pieces cross to the replica's loop in bunches: one wake-up for all that came since the last, at most AHEAD_MAX ahead
of the reader.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Future
from typing import Any, Final

AHEAD_MAX: Final = 64  # pieces the model may be ahead of the client
CLOSE_TIMEOUT_S: Final = 5.0


class SideLoop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(_serve(started),), name="model-loop", daemon=True)
        self._thread.start()
        self._loop, self._stop = started.result()

    async def iterate(self, source: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """Yield what `source` yields over there. Closing this closes it; what it raises is raised here."""
        stream = _Stream(asyncio.get_running_loop(), self._loop)
        pump: Future[None] = asyncio.run_coroutine_threadsafe(stream.pump(source), self._loop)
        try:
            while True:
                for piece in await stream.take():
                    yield piece
                if stream.is_over:
                    break
            await asyncio.wrap_future(pump)
        finally:
            pump.cancel()
            await stream.ended()  # only then is the slot free: the model's own clean-up is still its work

    def close(self) -> None:
        """Cancel what runs over there and stop; code that does not let itself be stopped is left behind."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CLOSE_TIMEOUT_S)


async def _serve(started: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
    stop = asyncio.Event()
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()


class _Stream:
    """What is on its way from the model's loop (there) to the replica's (here)."""

    def __init__(self, here: asyncio.AbstractEventLoop, there: asyncio.AbstractEventLoop) -> None:
        self._here = here
        self._there = there
        self._lock = threading.Lock()
        self._pieces: list[Any] = []
        self._is_closed = False
        self._has_some = asyncio.Event()  # of here
        self._has_room = asyncio.Event()  # of there
        self._has_room.set()

    @property
    def is_over(self) -> bool:
        with self._lock:
            return self._is_closed and not self._pieces

    async def pump(self, source: AsyncIterator[Any]) -> None:
        try:
            async for piece in source:
                await self._has_room.wait()
                self._put(piece)
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
            with self._lock:
                self._is_closed = True
            self._here.call_soon_threadsafe(self._has_some.set)

    async def ended(self) -> None:
        """Wait until the source over there is closed; code that does not let itself be stopped is left behind."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                while not self.is_over:
                    await self.take()

    def _put(self, piece: Any) -> None:
        with self._lock:
            self._pieces.append(piece)
            count = len(self._pieces)
        if count >= AHEAD_MAX:
            self._has_room.clear()
        if count == 1:
            self._here.call_soon_threadsafe(self._has_some.set)

    async def take(self) -> list[Any]:
        await self._has_some.wait()
        with self._lock:
            pieces, self._pieces = self._pieces, []
            if not self._is_closed:
                self._has_some.clear()
        if len(pieces) >= AHEAD_MAX:
            self._there.call_soon_threadsafe(self._has_room.set)
        return pieces
