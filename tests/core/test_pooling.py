"""Who sleeps so that who waits fits: tables, then a pool on virtual time whose promises hold for any arrivals."""

import random
from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core import pooling
from stoker.core.capacity import Capacity, Demand, Held
from stoker.core.pooling import FORCED_COLD_STARTS, Member, Scene, Standing, Turn, pool
from stoker.types.ids import NodeName

NODE = NodeName("n")
NOW_S = 1_000_000.0


def member(name: str, running: int = 1, rate: float = 0.0, **more: object) -> Member:
    waits_s = more.pop("waits_s", 0.0)
    return msgspec.convert(
        {
            "demand": Demand(1.0, more.pop("gib", 1) * (1 << 30), f"p.{name}-1", f"p.{name}"),  # type: ignore[operator]
            "wanted": 1,
            "running": running,
            "can_sleep": True,
            "standing": Standing(waits_s, "", 4.0, rate * 300.0, 300.0),  # type: ignore[arg-type]
            "cold_start_s": 4.0,
            "loaded_s": NOW_S - 100.0 if running else 0.0,
            "used_s": NOW_S - 50.0,
            **more,
        },
        Member,
        from_attributes=True,
    )


def waiting(name: str, since_s: float = 0.5, **more: object) -> Member:
    return member(name, running=0, waiting=1, waits_s=NOW_S - since_s, **more)


def decide(members: Sequence[Member], gib: int = 1, leaving: tuple[Held, ...] = ()) -> dict[str, Turn]:
    held = tuple(Held(NODE, each.demand) for each in members for _ in range(each.running)) + leaving
    found = pool(Scene(tuple(members), (Capacity(NODE, 100.0, gib << 30),), held, leaving), NOW_S)
    return {name.removeprefix("p."): turn for name, turn in found.items()}


def test_the_least_valuable_idle_one_goes_and_both_sides_say_why() -> None:
    found = decide([member("a", rate=0.5), member("b", rate=0.1), waiting("c", rate=0.2)], gib=2)
    assert [found[name].count for name in "abc"] == [1, 0, 1]
    assert found["b"].because == (
        "asleep so that c fits: 0.1 requests/s x 4 s against 0.2 requests/s x 4 s and 0 s of waiting"
    )
    assert "takes the room of b (0.1 requests/s x 4 s)" in found["c"].because


def test_of_equals_the_least_recently_used_goes() -> None:
    found = decide([member("a", used_s=NOW_S - 9.0), member("b", used_s=NOW_S - 90.0), waiting("c")], gib=2)
    assert [found[name].count for name in "abc"] == [1, 0, 1]


@pytest.mark.parametrize(
    "resident",
    [
        member("a", in_flight=1),
        member("a", waiting=1),
        member("a", can_sleep=False),
        member("a", is_known=False),
        member("a", rate=5.0),
    ],
)
def test_nobody_goes_who_works_may_not_or_is_wanted_far_more(resident: Member) -> None:
    assert decide([resident, waiting("c", rate=0.1)])["a"].count == 1


def test_who_has_waited_a_start_comes_in_also_for_one_that_is_more_wanted() -> None:
    assert decide([member("a", rate=5.0), waiting("c", since_s=4.0, rate=0.1)])["c"].count == 1


def test_who_was_there_a_moment_ago_is_not_loaded_again_within_its_start_and_nobody_waits_behind_it() -> None:
    went = waiting("b", since_s=3.0)
    went = msgspec.structs.replace(went, standing=msgspec.structs.replace(went.standing, loaded_s=NOW_S - 3.9))
    found = decide([member("a"), went, waiting("c", since_s=0.5)])
    assert [found[name].count for name in "abc"] == [0, 0, 1]
    assert found["b"].because == "waits: it is not loaded twice within its start of 4 s"
    went = msgspec.structs.replace(went, standing=msgspec.structs.replace(went.standing, loaded_s=NOW_S - 4.0))
    assert decide([member("a"), went])["b"].count == 1


def test_a_busy_one_goes_after_its_turn_and_not_before() -> None:
    had = member("a", in_flight=3, loaded_s=NOW_S - 8.0)
    assert decide([had, waiting("c", since_s=8.0)])["a"].count == 0
    assert decide([msgspec.structs.replace(had, loaded_s=NOW_S - 7.0), waiting("c", since_s=8.0)])["a"].count == 1


def test_nobody_goes_where_it_would_not_be_enough() -> None:
    found = decide([member("a", gib=1), member("b", gib=3, can_sleep=False), waiting("c", gib=2, since_s=50.0)], gib=4)
    assert found["a"].count == 1
    assert found["c"] == Turn(1), "the loop says that it has no capacity"


def test_only_as_many_go_as_are_needed() -> None:
    found = decide([member("a", gib=1), member("b", gib=2, rate=0.1), waiting("c", gib=2, rate=0.1)], gib=3)
    assert [found[name].count for name in "abc"] == [1, 0, 1]


def test_what_leaves_makes_room_so_that_no_second_one_goes() -> None:
    gone = member("b", running=0, wanted=0)
    found = decide([member("a"), gone, waiting("c")], gib=2, leaving=(Held(NODE, gone.demand),))
    assert [found[name].count for name in "abc"] == [1, 0, 1]


def test_who_waits_longest_is_first_and_the_next_is_told_so() -> None:
    found = decide([member("a"), waiting("b", since_s=1.0), waiting("c", since_s=2.0)])
    assert [found[name].count for name in "abc"] == [0, 0, 1]
    assert found["b"].because.startswith(
        "waits for room: needs 1.0 GiB memory, largest free is 0 B on node n; its turn is"
    )


def test_one_that_was_put_to_sleep_stays_so_until_somebody_asks() -> None:
    slept = member("a", running=0)
    slept = msgspec.structs.replace(slept, standing=Standing(out="p.c"))
    assert decide([slept])["a"] == Turn(0, "asleep: makes room for c; the next request wakes it", out="p.c")
    assert decide([msgspec.structs.replace(slept, waiting=1)])["a"].count == 1


def test_one_that_does_not_start_goes_first() -> None:
    found = decide([member("a"), member("b", rate=9.0, loaded_s=float("inf"), is_failing=True), waiting("c")], gib=2)
    assert [found[name].count for name in "abc"] == [1, 0, 1]


def test_who_waits_at_the_first_look_has_arrived() -> None:
    seen = pooling.noted(Standing(), arrived=0, waiting=3, is_asked=True, cold_start_s=0.0, loaded_s=0.0, now_s=NOW_S)
    assert seen.rate == pytest.approx(3 / 60)
    again = pooling.noted(seen, arrived=1, waiting=4, is_asked=True, cold_start_s=0.0, loaded_s=0.0, now_s=NOW_S + 1.0)
    assert again.arrivals == pytest.approx(4.0, rel=0.01), "nobody counts twice"


def test_a_start_that_was_never_measured_is_said_to_be_a_guess() -> None:
    never = msgspec.structs.replace(waiting("c"), standing=Standing(NOW_S - 1.0, arrivals=1.0))
    assert "against 0.0167 requests/s x about 4 s" in decide([member("a"), never])["a"].because


class Pool:
    """So many models of one size on virtual time, looked at every half second; `fit` of them have room."""

    STEP_S, LEAVES_S = 0.5, 1.0

    def __init__(self, cold_s: Sequence[float], fit: int) -> None:
        self.cold_s, self.fit, self.now_s = cold_s, fit, NOW_S
        self.names = range(len(cold_s))
        self.standing = [Standing(cold_start_s=each) for each in cold_s]
        self.began: dict[int, float] = {}  # a start, by model
        self.leaves: dict[int, float] = {}  # when what leaves has left
        self.used, self.works = [0.0] * len(cold_s), [0.0] * len(cold_s)
        self.queue: list[list[float]] = [[] for _ in cold_s]
        self.waits: list[float] = []
        self.starts: list[list[float]] = [[] for _ in cold_s]

    def step(self, arrived: Sequence[int], service_s: float) -> None:
        self.now_s += self.STEP_S
        self.leaves = {each: at_s for each, at_s in self.leaves.items() if at_s > self.now_s}
        for each in self.names:
            self.queue[each] += [self.now_s] * arrived[each]
            if arrived[each]:
                self.used[each] = self.now_s
            if each in self.began and self.now_s >= self.began[each] + self.cold_s[each]:
                self.waits += [self.now_s - at_s for at_s in self.queue[each]]
                if self.queue[each]:
                    self.works[each] = self.now_s + service_s
                self.queue[each] = []
            waiting = len(self.queue[each])
            self.standing[each] = pooling.noted(
                self.standing[each],
                arrived=arrived[each],
                waiting=waiting,
                is_asked=bool(waiting) and each not in self.began,
                cold_start_s=0.0,
                loaded_s=self.ready_s(each) if self.ready_s(each) <= self.now_s else 0.0,
                now_s=self.now_s,
            )
        self.decide()

    def decide(self) -> None:
        demands = [Demand(0.1, 1 << 30, f"p.{each:02}-1", f"p.{each:02}") for each in self.names]
        leaving = tuple(Held(NODE, demands[each]) for each in self.leaves)
        held = tuple(Held(NODE, demands[each]) for each in self.began) + leaving
        assert len(held) <= self.fit, "memory is overcommitted"
        members = tuple(self.member(each, demands[each]) for each in self.names)
        scene = Scene(members, (Capacity(NODE, 100.0, self.fit << 30),), held, leaving)
        found = pool(scene, self.now_s)
        assert found == pool(msgspec.structs.replace(scene, members=members[::-1]), self.now_s), "order matters"
        for member in members:
            self.check_that_it_may_go(member, found)
        for each in self.names:
            turn = found[f"p.{each:02}"]
            self.standing[each] = msgspec.structs.replace(self.standing[each], out=turn.out)
            if not turn.count and each in self.began:
                del self.began[each]
                self.leaves[each] = max(self.now_s + self.LEAVES_S, self.works[each])
        for each in self.names:  # the loop starts what fits
            is_free = len(self.began) + len(self.leaves) < self.fit and each not in self.leaves
            if found[f"p.{each:02}"].count and each not in self.began and is_free:
                self.began[each] = self.now_s
                self.starts[each].append(self.now_s)

    def check_that_it_may_go(self, member: Member, found: dict[str, Turn]) -> None:
        """Who works goes only after its turn, for one that has waited two starts of its own, and it says so."""
        turn = found[member.name]
        if turn.count or not member.running:
            return
        comer = int(turn.out.removeprefix("p."))
        age_s, waited_s = self.now_s - member.loaded_s, self.now_s - self.standing[comer].waits_s
        assert f"{member.words} against" in turn.because
        if not member.is_idle:
            assert age_s >= pooling.turn_s(member), turn
            assert waited_s >= FORCED_COLD_STARTS * self.cold_s[comer], turn
            assert f"after a turn of {age_s:.0f} s" in turn.because

    def ready_s(self, each: int) -> float:
        """Return when the replica that is there is ready, inf: there is none."""
        return self.began.get(each, float("inf")) + self.cold_s[each]

    def member(self, each: int, demand: Demand) -> Member:
        ready_s = self.ready_s(each)
        return Member(
            demand=demand,
            wanted=int(bool(self.queue[each]) or each in self.began),
            running=int(each in self.began),
            can_sleep=True,
            standing=self.standing[each],
            waiting=len(self.queue[each]),
            in_flight=int(self.works[each] > self.now_s),
            cold_start_s=self.cold_s[each],
            loaded_s=ready_s if ready_s <= self.now_s else float("inf"),
            used_s=self.used[each],
        )

    def again_s(self) -> float:
        """Return the least time between two starts of one model, in its cold starts."""
        pairs = [(b - a) / self.cold_s[at] for at, mine in enumerate(self.starts) for a, b in pairwise(mine)]
        return min(pairs, default=float("inf"))


def bound_s(cold_s: Sequence[float], fit: int, service_s: float) -> float:
    """Return the longest that anybody waits: the rounds before it, and what may happen before it is at the limit."""
    slowest_s = max(cold_s)
    turn_s = max(pooling.TURN_COLD_STARTS * slowest_s, pooling.TURN_MIN_S)
    round_s = slowest_s + turn_s + service_s + Pool.LEAVES_S + 4 * Pool.STEP_S
    return (1 + FORCED_COLD_STARTS) * slowest_s + (ceil(len(cold_s) / fit) + 1) * round_s


@settings(max_examples=40, deadline=None)
@given(
    cold_s=st.lists(st.sampled_from((1.0, 2.0, 4.0, 9.0)), min_size=2, max_size=8),
    fit=st.integers(1, 3),
    rate=st.sampled_from((0.02, 0.2, 2.0)),
    service_s=st.sampled_from((0.0, 0.4, 3.0)),
    seed=st.integers(0, 1 << 16),
)
def test_none_is_loaded_twice_within_its_start_and_everybody_has_a_turn_in_time(
    cold_s: list[float], fit: int, rate: float, service_s: float, seed: int
) -> None:
    draw, scene = random.Random(seed), Pool(cold_s, fit)
    for _ in range(400):
        scene.step([int(draw.random() < rate * Pool.STEP_S) for _ in cold_s], service_s)
        assert all(scene.now_s - each[0] <= bound_s(cold_s, fit, service_s) for each in scene.queue if each)
    assert scene.again_s() >= 2.0, "one to be ready, and one until it may be loaded again"
    assert max(scene.waits, default=0.0) <= bound_s(cold_s, fit, service_s)


@pytest.mark.parametrize("shape", ["zipf", "uniform"])
def test_ten_models_of_which_three_fit_are_all_answered_without_thrash(shape: str) -> None:
    draw, scene = random.Random(7), Pool([2.0] * 10, 3)
    weights = [1.0 / (at + 1) if shape == "zipf" else 1.0 for at in range(10)]
    for _ in range(1200):
        scene.step([int(draw.random() < 0.5 * Pool.STEP_S * each / sum(weights)) for each in weights], 0.4)
    for _ in range(200):
        scene.step([0] * 10, 0.4)
    assert not any(scene.queue)
    assert scene.again_s() >= 2.0, "one to be ready, and one until it may be loaded again"
    assert sorted(scene.waits)[len(scene.waits) // 2] <= 6.0
