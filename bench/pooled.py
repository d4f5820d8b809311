"""A pool of models on virtual time: who is loaded when, by the rule that runs live or by plain LRU, on given arrivals.

All arrivals of a model that is there are answered at once and keep it busy for `service_s`; one that goes finishes what
it holds, and leaves in LEAVES_S. Rules see the pool every STEP_S.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf
from typing import Final

import msgspec

from stoker.core import pooling
from stoker.core.capacity import Capacity, Demand, Held
from stoker.core.pooling import Member, Scene, Standing
from stoker.types.ids import NodeName

STEP_S: Final = 0.25
LEAVES_S: Final = 1.0
NODE: Final = NodeName("node")


class Arrival(msgspec.Struct, frozen=True):
    """A request: when, for which model, and whether its answer is a stream."""

    at_s: float
    model: int
    is_stream: bool = False


class Start(msgspec.Struct, frozen=True):
    """A load of a model. ready_s: inf when it was gone before."""

    model: int
    began_s: float
    ready_s: float


class Found(msgspec.Struct, frozen=True):
    """What came of the arrivals: what each waited, and every load."""

    waits_s: list[float]
    starts: list[Start]


Rule = Callable[["Pool"], tuple[list[int], list[int]]]  # who goes, who comes


def again(starts: Sequence[Start]) -> list[float]:
    """Return, for every model that was loaded again, how long after it was ready the next load began, in its starts.

    Below 1 is thrash: it was loaded twice in the time that loading it takes. One that was never ready counts as 0.
    """
    found = []
    for model in {each.model for each in starts}:
        mine = sorted((each for each in starts if each.model == model), key=lambda each: each.began_s)
        for before, after in pairwise(mine):
            cold_s = before.ready_s - before.began_s
            found.append(max(after.began_s - before.ready_s, 0.0) / cold_s if cold_s not in (0.0, inf) else 0.0)
    return found


def thrash(starts: Sequence[Start]) -> int:
    """Return how many loads came within a start of the model after the one before."""
    return sum(each < 1.0 for each in again(starts))


class Pool:
    """Models of one size, of which `fit` have room."""

    def __init__(self, cold_s: Sequence[float], fit: int, service_s: float) -> None:
        self.cold_s, self.fit, self.service_s = cold_s, fit, service_s
        self.now_s = 0.0
        self.models = range(len(cold_s))
        self.began: dict[int, float] = {}
        self.leaves: dict[int, float] = {}  # when what leaves has left
        self.used, self.works = [0.0] * len(cold_s), [0.0] * len(cold_s)  # last asked for; busy until
        self.queue: list[list[float]] = [[] for _ in cold_s]
        self.arrived = [0] * len(cold_s)  # in this step
        self.standing = [Standing(cold_start_s=each) for each in cold_s]

    def run(self, arrivals: Sequence[Arrival], rule: Rule) -> Found:
        """Return what came of `arrivals`, in their order of time, once all are answered."""
        found, at = Found([], []), 0
        while at < len(arrivals) or any(self.queue):
            self.now_s += STEP_S
            self.arrived = [0] * len(self.models)
            while at < len(arrivals) and arrivals[at].at_s <= self.now_s:
                each = arrivals[at]
                self.queue[each.model].append(each.at_s)
                self.arrived[each.model] += 1
                self.used[each.model] = self.now_s
                at += 1
            self._answer(found)
            going, coming = rule(self)
            for each in going:
                del self.began[each]
                self.leaves[each] = max(self.now_s + LEAVES_S, self.works[each])
            for each in coming:
                self.began[each] = self.now_s
                found.starts.append(Start(each, self.now_s, self.now_s + self.cold_s[each]))
            assert len(self.began) + len(self.leaves) <= self.fit, "memory is overcommitted"
        return found

    def loaded_s(self, model: int) -> float:
        """Return since when it is ready, inf: it is not."""
        ready_s = self.began.get(model, inf) + self.cold_s[model]
        return ready_s if ready_s <= self.now_s else inf

    def waiting(self) -> list[int]:
        """Return who is asked for and neither there nor leaving, the longest waiting first."""
        mine = [each for each in self.models if self.queue[each] and each not in self.began and each not in self.leaves]
        return sorted(mine, key=lambda each: self.queue[each][0])

    @property
    def free(self) -> int:
        return self.fit - len(self.began) - len(self.leaves)

    def _answer(self, found: Found) -> None:
        self.leaves = {each: at_s for each, at_s in self.leaves.items() if at_s > self.now_s}
        for each in self.models:
            if self.queue[each] and self.loaded_s(each) < inf:
                ready_s = self.loaded_s(each)
                found.waits_s.extend(max(ready_s - at_s, 0.0) + self.service_s for at_s in self.queue[each])
                self.works[each] = self.now_s + self.service_s
                self.queue[each] = []


def lru(pool: Pool) -> tuple[list[int], list[int]]:
    """Return what plain LRU does: on a miss the least recently used of the idle goes at once."""
    waiting = pool.waiting()
    idle = [each for each in pool.began if pool.loaded_s(each) < inf and pool.works[each] <= pool.now_s]
    idle = sorted((each for each in idle if not pool.queue[each]), key=lambda each: pool.used[each])
    going = idle[: max(len(waiting) - pool.free - len(pool.leaves), 0)]
    return going, waiting[: pool.free]


def by_value(pool: Pool) -> tuple[list[int], list[int]]:
    """Return what stoker does: core/pooling.py."""
    for each in pool.models:
        pool.standing[each] = pooling.noted(
            pool.standing[each],
            arrived=pool.arrived[each],
            waiting=len(pool.queue[each]),
            is_asked=bool(pool.queue[each]) and each not in pool.began,
            cold_start_s=0.0,
            loaded_s=0.0 if pool.loaded_s(each) == inf else pool.loaded_s(each),
            now_s=pool.now_s,
        )
    demands = [Demand(0.1, 1 << 30, f"p.{each}-1", f"p.{each}") for each in pool.models]
    leaving = tuple(Held(NODE, demands[each]) for each in pool.leaves)
    held = tuple(Held(NODE, demands[each]) for each in pool.began) + leaving
    members = tuple(_member(pool, each, demands[each]) for each in pool.models)
    scene = Scene(members, (Capacity(NODE, 100.0, pool.fit << 30),), held, leaving)
    turns = pooling.pool(scene, pool.now_s)
    counts = {each: turns[f"p.{each}"] for each in pool.models}
    for each, turn in counts.items():
        pool.standing[each] = msgspec.structs.replace(pool.standing[each], out=turn.out)
    going = [each for each in pool.began if not counts[each].count]
    return going, [each for each in pool.waiting() if counts[each].count][: pool.free]


def _member(pool: Pool, model: int, demand: Demand) -> Member:
    return Member(
        demand=demand,
        wanted=int(bool(pool.queue[model]) or model in pool.began),
        running=int(model in pool.began),
        can_sleep=True,
        standing=pool.standing[model],
        waiting=len(pool.queue[model]),
        in_flight=int(pool.works[model] > pool.now_s),
        cold_start_s=pool.cold_s[model],
        loaded_s=pool.loaded_s(model),
        used_s=pool.used[model],
    )
