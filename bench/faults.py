"""One of four replicas hung, ten times slower, or dying again and again: what requests see of it, against before.

A real gateway before replicas without a model (20 ms a request, 16 at a time), because what is measured is how soon
the sick one is left out.
"""

import asyncio
import signal
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from bench.figures import Figure, percentile
from bench.report import Section
from bench.rounds import say
from tests.gateway import rig as rigs
from tests.gateway.rig import Rig, client, keep_alive

FAULTS: Final = ("hung", "slow", "dying")
CONNECTIONS: Final = 16
BODY: Final = b"slow:0.02"
HEALTHY_S, GRACE_S, SICK_S, DEATH_EVERY_S = 4.0, 2.0, 8.0, 5.0


class Seen(msgspec.Struct, frozen=True):
    """What one fault did. Times of requests that began while all were well, and GRACE_S after the fault or later."""

    before_s: list[float]
    after_s: list[float]
    worst_s: float
    failed: int


def measure() -> Section:
    """Return the figures."""
    figures: list[Figure] = []
    rows = [["one of four", "p99 before ms", f"p99 {GRACE_S:g} s after ms", "longest ms", "requests", "failed"]]
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as folder, rigs.rig(Path(folder), replicas=4) as rig:
            seen = asyncio.run(run(rig, fault))
        before_s, after_s = percentile(seen.before_s, 0.99), percentile(seen.after_s, 0.99)
        rows.append(
            [
                fault,
                f"{before_s * 1e3:.1f}",
                f"{after_s * 1e3:.1f}",
                f"{seen.worst_s * 1e3:.0f}",
                str(len(seen.before_s) + len(seen.after_s)),
                str(seen.failed),
            ]
        )
        say("  " + "   ".join(rows[-1]))
        figures.append(Figure(f"p99 with one of four {fault}", after_s / before_s, "×", 1.5, "at most"))
        figures.append(Figure(f"failed requests, one {fault}", seen.failed, "", 0, "at most"))
    return Section("One sick replica of four", figures, {"": rows})


async def run(rig: Rig, fault: str) -> Seen:
    """Put load on `rig`, make one replica sick, and return what the requests saw."""
    taken: list[tuple[float, float, int]] = []
    stop = asyncio.Event()

    async def ask() -> None:
        async with client(rig) as one:
            while not stop.is_set():
                began_s = time.monotonic()
                answer = await one.request("POST", "/v2/models/digits/infer", BODY)
                taken.append((began_s, time.monotonic() - began_s, answer.status))

    tasks = [asyncio.create_task(ask()) for _ in range(CONNECTIONS)]
    await asyncio.sleep(1)  # warm
    well_s = time.monotonic()
    await asyncio.sleep(HEALTHY_S)
    ill_s = time.monotonic()
    if fault == "hung":
        rig.kill("r0", signal.SIGSTOP)
    elif fault == "slow":
        rig.kill("r0")
        await asyncio.to_thread(rig.start_replica, "r0", "--pace", "10")
    else:
        tasks.append(keep_alive(rig, "r0", stop))
    ends_s = ill_s + SICK_S
    while time.monotonic() < ends_s:
        if fault == "dying":
            rig.kill("r0")
        await asyncio.sleep(min(DEATH_EVERY_S, max(ends_s - time.monotonic(), 0.0)))
    stop.set()
    await asyncio.gather(*tasks)
    return Seen(
        [took_s for began_s, took_s, _ in taken if well_s <= began_s < ill_s - 0.1],
        [took_s for began_s, took_s, _ in taken if began_s >= ill_s + GRACE_S],
        max(took_s for _, took_s, _ in taken),
        sum(status != 200 for _, _, status in taken),
    )
