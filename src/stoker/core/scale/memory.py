"""What a scaling decision remembers of those before it: bounded, and stored so that a restart forgets nothing."""

import msgspec


class Memory(msgspec.Struct, frozen=True):
    """Of one endpoint. Times are on the clock of `decide`'s now_s."""

    desired: int | None = None  # the last decision
    at_s: float = 0.0
