"""How often an agent looks around, and how long it is patient."""

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """Seconds; `strays_every` counts looks, because to read every environment costs more than every stat line."""

    look_every_s: float = 1.0
    ping_every_s: float = 1.0  # a process that is ready
    strays_every: int = 5
    term_grace_s: float = 3.0  # to close files after SIGTERM, also when the time to drain is over
