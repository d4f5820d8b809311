"""Requests at once over many gateways: whole places, never more than the limit, and none kept from who needs it."""

import math
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stoker.core import places, shares

GATEWAYS = 3
LIMITS = {"one#": 1, "few#": 4, "many#": 100}


@given(st.integers(1, 200), st.lists(st.floats(0, 300), min_size=1, max_size=8), st.integers(0, 10**6))
def test_parts_sum_up_to_the_limit_and_who_needs_little_has_it(limit: int, needs: list[float], turn: int) -> None:
    given_ = places.split(limit, needs, turn)
    assert sum(given_) == limit
    assert min(given_) >= 0
    for need, got in zip(needs, given_, strict=True):
        if need <= limit // len(needs):
            assert got >= need - 1e-5
    if sum(map(math.ceil, needs)) <= limit:
        assert all(got >= need - 1e-5 for need, got in zip(needs, given_, strict=True))


@given(st.integers(1, 8), st.integers(2, 8))
def test_places_that_cannot_be_split_go_round(limit: int, gateways: int) -> None:
    if limit >= gateways:
        return
    needs = [5.0] * gateways
    had = [sum(places.split(limit, needs, turn)[at] for turn in range(gateways)) for at in range(gateways)]
    assert had == [limit] * gateways


def test_even_parts_sum_up_to_the_limit() -> None:
    for limit in range(1, 30):
        for gateways in range(1, 8):
            assert sum(places.even(limit, each, gateways) for each in range(gateways)) == limit


@dataclass
class Gateway:
    """One gateway as it really is: what it was told, and what runs in it."""

    index: int
    began_s: float
    holder: shares.Holder = field(init=False)
    running: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))

    def __post_init__(self) -> None:
        self.holder = shares.Holder(GATEWAYS, self.index)

    def begin(self, name: str, now_s: float) -> bool:
        if self.running[name] >= self.holder.places(name, LIMITS[name], now_s):
            self.refused[name] += 1
            return False
        self.running[name] += 1
        return True

    def question(self, now_s: float) -> shares.Question:
        running = {name: (self.running[name], limit) for name, limit in LIMITS.items()}
        needs = {name: float(self.running[name] + self.refused[name]) for name in LIMITS}
        self.refused = dict.fromkeys(LIMITS, 0)
        held = self.holder.held(now_s, running)
        asked = {name: need for name, need in needs.items() if need}
        return shares.Question(self.index, self.holder.is_new, held, asked, LIMITS)


class Platform(RuleBasedStateMachine):
    """Gateways with requests that run for long, answers that are lost, kills; and a control that starts anew.

    A gateway asks at least once in a lease, or is killed: where it is cut off from a control that lives for longer,
    what runs there may run beside what others were given (see core/shares.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.teller = shares.Teller(GATEWAYS, self.now_s)
        self.gateways = [Gateway(index, self.now_s) for index in range(GATEWAYS)]
        self.asked_s = [self.now_s] * GATEWAYS

    @rule(index=st.integers(0, GATEWAYS - 1), name=st.sampled_from(sorted(LIMITS)), count=st.integers(1, 9))
    def requests_come(self, index: int, name: str, count: int) -> None:
        for _ in range(count):
            self.gateways[index].begin(name, self.now_s)

    @rule(index=st.integers(0, GATEWAYS - 1), name=st.sampled_from(sorted(LIMITS)), count=st.integers(1, 9))
    def requests_end(self, index: int, name: str, count: int) -> None:
        gateway = self.gateways[index]
        gateway.running[name] = max(gateway.running[name] - count, 0)

    @rule(index=st.integers(0, GATEWAYS - 1), is_lost=st.booleans(), comes=st.integers(0, 5))
    def ask(self, index: int, is_lost: bool, comes: int) -> None:
        gateway, name = self.gateways[index], "few#"
        answer = self.teller.answer(gateway.question(self.now_s), self.now_s)
        self.asked_s[index] = self.now_s
        for _ in range(comes):  # while the answer is on its way
            gateway.begin(name, self.now_s)
        if not is_lost:
            gateway.holder.take(answer, self.now_s)

    @rule(index=st.integers(0, GATEWAYS - 1), name=st.sampled_from(sorted(LIMITS)), rounds=st.integers(1, 4))
    def all_requests_come_to_one(self, index: int, name: str, rounds: int) -> None:
        for _ in range(rounds):
            for gateway in self.gateways:
                for _ in range(LIMITS[name] if gateway.index == index else 0):
                    gateway.begin(name, self.now_s)
                self.ask(gateway.index, is_lost=False, comes=0)

    @rule(passed_s=st.sampled_from([0.1, 1.0, 4.0]))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s
        for gateway in self.gateways:
            if self.now_s - self.asked_s[gateway.index] >= shares.FORGET_S - 1.0:
                self.ask(gateway.index, is_lost=True, comes=0)
            if gateway.holder.is_new and self.now_s - gateway.began_s >= shares.GIVE_UP_S:
                gateway.holder.give_up()

    @rule(index=st.integers(0, GATEWAYS - 1))
    def kill_gateway(self, index: int) -> None:
        self.gateways[index] = Gateway(index, self.now_s)

    @rule()
    def restart_control(self) -> None:
        self.teller = shares.Teller(GATEWAYS, self.now_s)

    @invariant()
    def no_more_run_than_may(self) -> None:
        for name, limit in LIMITS.items():
            running = [gateway.running[name] for gateway in self.gateways]
            assert sum(running) <= limit, (name, running)


Platform.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestTheSumOfPlaces = Platform.TestCase


def _turns(count: int, needs: list[int], name: str) -> list[int]:
    teller = shares.Teller(GATEWAYS, 0.0)
    gateways = [Gateway(index, 0.0) for index in range(GATEWAYS)]
    for turn in range(count):
        now_s = 20.0 + turn
        for gateway, need in zip(gateways, needs, strict=True):
            gateway.running = dict.fromkeys(LIMITS, 0)
            for _ in range(need):
                gateway.begin(name, now_s)
            gateway.holder.take(teller.answer(gateway.question(now_s), now_s), now_s)
    return [gateway.holder.places(name, LIMITS[name], 20.0 + count) for gateway in gateways]


def test_a_gateway_with_all_the_requests_has_all_the_places_in_a_few_seconds() -> None:
    assert _turns(4, [4, 0, 0], "few#") == [4, 0, 0]
    assert _turns(4, [0, 1, 0], "one#") == [0, 1, 0]
    assert _turns(4, [200, 0, 0], "many#") == [100, 0, 0]


def test_what_nobody_needs_is_with_everybody() -> None:
    assert min(_turns(4, [10, 0, 0], "many#")) >= 30
    assert sum(_turns(4, [10, 0, 0], "many#")) == 100


def test_a_new_gateway_of_a_control_that_is_away_serves_again_after_a_while() -> None:
    holder = shares.Holder(2, 0)
    assert holder.places("few#", 4, 0.0) == 0
    holder.give_up()
    assert holder.places("few#", 4, 0.0) == 2
