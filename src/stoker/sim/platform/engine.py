"""What a simulated replica asks of an engine, whatever its kind."""

from collections.abc import Callable
from typing import Protocol

from stoker.sim.platform.request import Request

Done = Callable[[Request], None]
Dropped = Callable[[Request], None]


class Engine(Protocol):
    """The work of one replica. What it was given ends by `done` (or `dropped`), unless the engine is stopped before."""

    slots: int  # how many requests it works on, or clears at once, as it tells gateways

    def submit(self, request: Request) -> None:
        """Take a request."""
        ...

    def stop(self) -> list[Request]:
        """Stop for good, and return what it had."""
        ...
