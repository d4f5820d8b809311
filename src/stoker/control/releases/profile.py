"""Time and memory of a replica of the new revision beside one that serves: one request at a time, in turns."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from stoker.control.releases.ask import Fleet, ask
from stoker.control.releases.needs import Need
from stoker.core.gate import golden, profile
from stoker.core.gate.golden import BadGolden
from stoker.core.gate.profile import Measured
from stoker.protocol.link import Link
from stoker.types.errors import Draining, ReplicaLost
from stoker.types.releases import GateResult, ProfileGate

WARM_UP: Final = 5  # requests to either that are not counted
SECONDS_MAX: Final = 120.0  # then what was measured until then is judged
BODIES_MAX: Final = 50  # different requests


async def judge(
    need: Need, gate: ProfileGate, data: bytes, fleet: Fleet, told: Callable[[int, int], None]
) -> GateResult:
    """Return how long a replica takes and what it holds, beside one that serves. Raises ReplicaLost when it goes.

    data: examples to send; without any, the simplest request that the model takes.
    """
    began_s = time.perf_counter()
    mine = fleet.ready(need.revision.revision)
    if mine is None:
        raise ReplicaLost(f"no replica of {need.revision.revision} is ready")
    theirs = fleet.ready(need.parent.revision) if need.parent is not None else None
    bodies = _bodies(need, data)
    new: list[float] = []
    old: list[float] = []
    here = await fleet.link(mine.name)
    there = None
    try:
        if theirs is not None:
            with suppress(ReplicaLost):
                there = await fleet.link(theirs.name)
        failed = await _measure(here, there, bodies, gate.requests, (new, old), told)
    finally:
        for link in (here, there):
            if link is not None:
                link.close()
    seconds = time.perf_counter() - began_s
    if failed:
        return GateResult("profile", "failed", f"a request was not answered: {failed}", seconds=seconds)
    known = Measured(tuple(old), fleet.memory_bytes(theirs.name)) if theirs is not None and old else None
    found = profile.judge(gate, Measured(tuple(new), fleet.memory_bytes(mine.name)), known)
    return GateResult(
        "profile", "passed" if found.is_passed else "failed", found.because, numbers=found.numbers, seconds=seconds
    )


async def _measure(
    here: Link,
    there: Link | None,
    bodies: Sequence[tuple[str, bytes]],
    requests: int,
    found: tuple[list[float], list[float]],
    told: Callable[[int, int], None],
) -> str:
    """Measure both in turns; return why the new one did not answer, "" when it did. Raises ReplicaLost when it goes."""
    end_s = time.monotonic() + SECONDS_MAX
    for at in range(WARM_UP + requests):
        method, body = bodies[at % len(bodies)]
        answer = await ask(here, method, body)
        if answer.problem:
            return answer.problem
        if at >= WARM_UP:
            found[0].append(answer.seconds)
        if there is not None:
            try:
                old = await ask(there, method, body)
            except (ReplicaLost, Draining):
                there = None
            else:
                if at >= WARM_UP and not old.problem:
                    found[1].append(old.seconds)
        told(at, WARM_UP + requests)
        if time.monotonic() > end_s:
            break
    return ""


def _bodies(need: Need, data: bytes) -> list[tuple[str, bytes]]:
    task, signature = need.revision.config.task, need.version.manifest.signature
    with suppress(BadGolden):
        if data:
            return [golden.request(each, task, signature) for each in golden.read(data)[:BODIES_MAX]]
    return [golden.simplest(task, signature)]
