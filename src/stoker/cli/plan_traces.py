"""Which requests of a load leave a trace, and what their traces say: as much as gateways keep of one caller."""

import secrets
import time
from typing import Final

import msgspec
import numpy as np

from stoker.client.control import ControlClient
from stoker.client.load import Ask
from stoker.protocol import tracecontext
from stoker.sim.sizing.traced import Traced, traced

PER_S: Final = 15.0  # gateways keep 20 a second of a caller (core/tracing.py), and arrivals bunch
MOST: Final = 900  # of one load: one question returns 1,000
PATIENCE_S: Final = 5.0
EVERY_S: Final = 0.2


class Marked:
    """The requests of a load of `count` at `per_s` that are traced, drawn by seed."""

    def __init__(self, count: int, per_s: float, seed: int) -> None:
        share = min(1.0, PER_S / per_s, MOST / count)
        drawn = np.random.default_rng((seed, 16)).uniform(0.0, 1.0, count) < share
        prefix = secrets.token_hex(8)
        self._ids = {int(number): f"{prefix}{number:016x}" for number in np.flatnonzero(drawn)}

    def mark(self, number: int, ask: Ask) -> Ask:
        """Return the request with this number, asking for a trace where it is one of those."""
        trace = self._ids.get(number)
        if trace is None:
            return ask
        parent = tracecontext.write(trace, number + 1, is_sampled=True)
        return msgspec.structs.replace(ask, headers={**ask.headers, "traceparent": parent})

    def traces(self, control: ControlClient, project: str, name: str, sent: int) -> tuple[Traced, ...]:
        """Return what gateways kept, in the order of numbers, once all of the first `sent` requests are there."""
        numbers = {trace: number for number, trace in self._ids.items()}
        expected = sum(number < sent for number in self._ids)
        until_s = time.monotonic() + PATIENCE_S
        while True:
            kept = control.traces(endpoint=f"{project}/{name}", limit=1000)
            mine = {numbers[each.id]: each for each in kept if each.id in numbers}
            if len(mine) >= expected or time.monotonic() > until_s:
                return tuple(traced(number, mine[number]) for number in sorted(mine))
            time.sleep(EVERY_S)
