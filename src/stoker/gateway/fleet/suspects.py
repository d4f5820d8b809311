"""Those of one endpoint that wait to be tried alone: one at a time, counted, so that they can be bounded (trial.py)."""

import asyncio


class Suspects:
    """The turn to be tried, and who waits for it: how many, and how many bytes of bodies."""

    def __init__(self) -> None:
        self.count = 0
        self.size_bytes = 0
        self._turn = asyncio.Lock()

    @property
    def is_taken(self) -> bool:
        """Return whether somebody has the turn."""
        return self._turn.locked()

    async def take(self, size_bytes: int) -> None:
        """Wait for the turn with a body of `size_bytes`."""
        self.count += 1
        self.size_bytes += size_bytes
        try:
            await self._turn.acquire()
        finally:
            self.count -= 1
            self.size_bytes -= size_bytes

    def give_back(self) -> None:
        """Let the next one have it."""
        self._turn.release()
