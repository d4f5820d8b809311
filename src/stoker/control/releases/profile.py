"""Time and memory of a replica of the new revision beside one that serves: one request at a time, in turns."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from stoker.control.releases import kept
from stoker.control.releases.ask import Answer, Fleet, ask
from stoker.control.releases.kept import Asking
from stoker.control.releases.needs import Need
from stoker.core.gate import golden, profile
from stoker.core.gate.golden import BadGolden
from stoker.core.gate.profile import Judgement, Measured
from stoker.protocol.link import Link
from stoker.types.errors import Draining, ReplicaLost
from stoker.types.ids import RevisionId
from stoker.types.releases import GateResult, GateState, ProfileGate
from stoker.types.samples import SampleRecord

ROUNDS: Final = 3  # that must all show a difference
PAUSE_S: Final = 2.0  # between two of them
WARM_UP: Final = 5  # requests to either that are not counted
SECONDS_MAX: Final = 120.0  # of a round; then what was measured until then is judged
SWAP_SECONDS_MAX: Final = 20.0  # of a round while requests wait
SAMPLES_MAX: Final = 200  # that are looked at, the newest
BODIES_MAX: Final = 50  # different requests
TOKENS_MAX: Final = 32  # of an answer to a kept request; how much somebody wanted is no matter of speed


class Sides(NamedTuple):
    """The revision that is judged, and the one that serves; or what was measured of that before it went, by round."""

    new: RevisionId
    serving: RevisionId | None = None
    noted: tuple[Measured, ...] | None = None


class Bodies(NamedTuple):
    """What is sent. said: what it is, in words. is_kept: what was kept has been hidden in, and may fit nothing now."""

    calls: tuple[Asking, ...]
    said: str
    is_kept: bool = False


async def judge(sides: Sides, gate: ProfileGate, bodies: Bodies, fleet: Fleet, pause_s: float = PAUSE_S) -> GateResult:
    """Return how long a replica takes and what it holds, beside one that serves. Raises ReplicaLost when it goes.

    A difference is believed when ROUNDS of measuring, `pause_s` apart, show it each: the requests of one moment are no
    independent witnesses where the machine was busy with one of the two processes just then.
    """
    began_s = time.perf_counter()
    found, rounds = await _round(sides, gate, bodies, fleet), 1
    while isinstance(found, Judgement) and not found.is_passed and rounds < ROUNDS:
        await asyncio.sleep(pause_s)
        found, rounds = await _round(sides, gate, bodies, fleet, rounds), rounds + 1
    seconds = time.perf_counter() - began_s
    if isinstance(found, str):
        return GateResult("profile", "failed", f"a request was not answered: {found}", seconds=seconds)
    state: GateState = "passed" if found.is_passed else "failed"
    again = f" ({rounds} times measured)" if rounds > 1 else ""
    because = f"{found.because}{again}; asked {bodies.said}"
    return GateResult("profile", state, because, numbers=found.numbers, seconds=seconds)


async def alone(
    revision: RevisionId, gate: ProfileGate, bodies: Bodies, fleet: Fleet, pause_s: float = PAUSE_S
) -> tuple[tuple[Measured, ...], Bodies]:
    """Return the times of as many rounds of a revision that is about to go, and what of `bodies` it answers.

    Nothing is measured of one that is not ready, goes meanwhile, or does not answer.
    """
    rounds: list[Measured] = []
    replica = fleet.ready(revision)
    while replica is not None and len(rounds) < ROUNDS:
        if rounds:
            await asyncio.sleep(pause_s)
        try:
            link = await fleet.link(replica.name)
        except ReplicaLost:
            break
        measuring = Measuring(link, None, bodies)
        try:
            if await measuring.run(gate.requests):
                break
        except (ReplicaLost, Draining):
            break
        finally:
            link.close()
        bodies = measuring.answered(bodies)
        rounds.append(Measured(tuple(measuring.new), fleet.memory_bytes(replica.name)))
    return (tuple(rounds), bodies) if len(rounds) == ROUNDS else ((), bodies)


async def _round(sides: Sides, gate: ProfileGate, bodies: Bodies, fleet: Fleet, at: int = 0) -> Judgement | str:
    """Return what measuring both once says, or why a request was not answered. at: the round, of those noted."""
    mine = fleet.ready(sides.new)
    if mine is None:
        raise ReplicaLost(f"no replica of {sides.new} is ready")
    theirs = fleet.ready(sides.serving) if sides.serving is not None else None
    here = await fleet.link(mine.name)
    there = None
    try:
        if theirs is not None:
            with suppress(ReplicaLost):
                there = await fleet.link(theirs.name)
        measuring = Measuring(here, there, bodies)
        failed = await measuring.run(gate.requests, SECONDS_MAX if sides.noted is None else SWAP_SECONDS_MAX)
    finally:
        for link in (here, there):
            if link is not None:
                link.close()
    if failed:
        return failed
    old = measuring.old
    known = Measured(tuple(old), fleet.memory_bytes(theirs.name)) if theirs is not None and old else None
    if sides.noted:
        known = sides.noted[at]
    return profile.judge(gate, Measured(tuple(measuring.new), fleet.memory_bytes(mine.name)), known)


class Measuring:
    """Asks both replicas in turns. `new`, `old`: seconds of what each answered."""

    def __init__(self, here: Link, there: Link | None, bodies: Bodies) -> None:
        self.new: list[float] = []
        self.old: list[float] = []
        self._here = here
        self._there = there
        self._left = list(bodies.calls)
        self._is_kept = bodies.is_kept

    def answered(self, bodies: Bodies) -> Bodies:
        """Return what of `bodies` was answered, which is what the next one must answer."""
        return Bodies(tuple(self._left), bodies.said)

    async def run(self, requests: int, seconds_max: float = SECONDS_MAX) -> str:
        """Return why the new one did not answer, "" when it did. Raises ReplicaLost when it goes."""
        end_s = time.monotonic() + seconds_max
        at = 0
        while at < WARM_UP + requests:
            call = self._left[at % len(self._left)]
            answer, old = await ask(self._here, *call), await self._theirs(call)
            if answer.problem:
                if not self._is_kept or (old is not None and not old.problem):
                    return answer.problem
                self._left.remove(call)  # neither answers it: it was kept in a way that cannot be asked again
                if not self._left:
                    return f"none of the kept requests, the last: {answer.problem}"
                continue
            if at >= WARM_UP:
                self.new.append(answer.seconds)
                if old is not None and not old.problem:
                    self.old.append(old.seconds)
            at += 1
            if time.monotonic() > end_s:
                break
        return ""

    async def _theirs(self, call: Asking) -> Answer | None:
        if self._there is None:
            return None
        try:
            return await ask(self._there, *call)
        except (ReplicaLost, Draining):
            self._there = None
            return None


def chosen(need: Need, samples: Sequence[SampleRecord], data: bytes) -> Bodies:
    """Return what is sent: kept requests of the endpoint, else the examples in `data`, else the simplest request."""
    task, signature = need.revision.config.task, need.seen
    found = [call for each in samples if (call := kept.shortened(each, task, TOKENS_MAX)) is not None]
    calls = tuple(dict.fromkeys(found))[:BODIES_MAX]
    if calls:
        return Bodies(calls, f"{len(calls)} kept request{'s' if len(calls) > 1 else ''}", is_kept=True)
    with suppress(BadGolden):
        if data:
            calls = tuple(golden.request(each, task, signature) for each in golden.read(data)[:BODIES_MAX])
            return Bodies(calls, f"{len(calls)} of its examples")
    return Bodies((golden.simplest(task, signature),), "the simplest request, for there are no others")
