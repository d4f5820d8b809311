"""Limits over many gateways: whatever is lost, late or restarted, all together never hold more than the limit."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stoker.core import shares

GATEWAYS = 3
NAMES = ("a", "b")


@dataclass
class Gateway:
    """One gateway as it really is, and its question on the way."""

    index: int
    began_s: float
    holder: shares.Holder = field(default_factory=lambda: shares.Holder(GATEWAYS))

    def ask(
        self, teller: shares.Teller, asked: dict[str, float], way_s: float, now_s: float
    ) -> tuple[shares.Answer, float]:
        """Return the answer and when its question left, `way_s` before it was heard."""
        held = self.holder.held(now_s - way_s)
        return teller.answer(shares.Question(self.index, self.holder.is_new, held, asked), now_s), now_s - way_s


class Platform(RuleBasedStateMachine):
    """Gateways that ask, lose answers, stop and start anew; a control that starts anew."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.teller = shares.Teller(GATEWAYS, self.now_s)
        self.gateways = [Gateway(index, self.now_s) for index in range(GATEWAYS)]

    @rule(
        index=st.integers(0, GATEWAYS - 1),
        asked=st.dictionaries(st.sampled_from(NAMES), st.floats(0.1, 1000), max_size=2),
        way_s=st.floats(0, 5),
        is_lost=st.booleans(),
    )
    def ask(self, index: int, asked: dict[str, float], way_s: float, is_lost: bool) -> None:
        gateway = self.gateways[index]
        given, left_s = gateway.ask(self.teller, asked, min(way_s, self.now_s - gateway.began_s), self.now_s)
        if not is_lost:
            gateway.holder.take(given, left_s)

    @rule(index=st.integers(0, GATEWAYS - 1), rounds=st.integers(1, 3))
    def traffic_goes_to_one(self, index: int, rounds: int) -> None:
        for _ in range(rounds):
            for gateway in self.gateways:
                asked = {"a": 100.0} if gateway.index == index else {}
                gateway.holder.take(*gateway.ask(self.teller, asked, 0.0, self.now_s))

    @rule(passed_s=st.sampled_from([0.1, 1.0, 5.0, 7.5, 8.5, 10.5, 30.0]))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s
        for gateway in self.gateways:
            if gateway.holder.is_new and self.now_s - gateway.began_s >= shares.GIVE_UP_S:
                gateway.holder.give_up()

    @rule(index=st.integers(0, GATEWAYS - 1))
    def restart_gateway(self, index: int) -> None:
        self.gateways[index] = Gateway(index, self.now_s)

    @rule()
    def restart_control(self) -> None:
        self.teller = shares.Teller(GATEWAYS, self.now_s)

    @invariant()
    def all_together_stay_within_the_limit(self) -> None:
        for name in NAMES:
            held = [gateway.holder.share(name, self.now_s) for gateway in self.gateways]
            assert sum(held) <= 1.0 + 1e-6, (name, held)
            assert min(held) >= 0.0


Platform.TestCase.settings = settings(max_examples=80, stateful_step_count=30)
TestTheSumOfShares = Platform.TestCase


def _rounds(count: int, asked: list[dict[str, float]]) -> list[float]:
    teller = shares.Teller(GATEWAYS, 0.0)
    gateways = [Gateway(index, 0.0) for index in range(GATEWAYS)]
    for turn in range(count):
        now_s = 20.0 + turn
        for gateway, mine in zip(gateways, asked, strict=True):
            given, left_s = gateway.ask(teller, mine, 0.0, now_s)
            gateway.holder.take(given, left_s)
    return [gateway.holder.share("a", 20.0 + count) for gateway in gateways]


def test_a_gateway_that_has_all_the_traffic_gets_nearly_all_of_the_limit_in_a_few_seconds() -> None:
    held = _rounds(4, [{"a": 100.0}, {}, {}])
    assert held[0] > 0.9
    assert all(share > 0.02 for share in held[1:])


def test_shares_follow_the_traffic() -> None:
    held = _rounds(6, [{"a": 60.0}, {"a": 30.0}, {"a": 10.0}])
    assert held[0] > held[1] > held[2]
    assert sum(held) > 0.99


def test_a_key_that_nobody_uses_any_more_is_forgotten() -> None:
    teller = shares.Teller(GATEWAYS, 0.0)
    gateways = [Gateway(index, 0.0) for index in range(GATEWAYS)]
    for turn in range(8):
        for gateway in gateways:
            asked = {"a": 5.0} if turn == 0 and gateway.index == 0 else {}
            given, left_s = gateway.ask(teller, asked, 0.0, 20.0 + turn)
            gateway.holder.take(given, left_s)
    assert all(gateway.holder.held(28.0) == {} for gateway in gateways)


def test_one_gateway_alone_needs_nobody() -> None:
    assert shares.Holder(1).share("a", 0.0) == 1.0


def test_without_control_each_falls_back_to_its_even_share() -> None:
    held = shares.Holder(GATEWAYS)
    held.take(shares.Answer({"a": 0.9}, is_complete=True), asked_s=0.0)
    assert held.share("a", shares.LEASE_S - 0.1) == 0.9
    assert held.share("a", shares.LEASE_S) == shares.even(GATEWAYS)


def _uneven() -> tuple[list[Gateway], float]:
    """Return gateways of which the first holds nearly all of "a", as the others know."""
    teller = shares.Teller(GATEWAYS, 0.0)
    gateways = [Gateway(index, 0.0) for index in range(GATEWAYS)]
    for turn in range(4):
        for gateway in gateways:
            asked = {"a": 100.0} if gateway.index == 0 else {}
            gateway.holder.take(*gateway.ask(teller, asked, 0.0, 20.0 + turn))
    assert gateways[0].holder.share("a", 24.0) > 0.9
    return gateways, 24.0


def _sum(gateways: list[Gateway], now_s: float) -> float:
    return sum(gateway.holder.share("a", now_s) for gateway in gateways)


def test_a_new_gateway_and_a_new_control_together_grant_nothing_that_another_holds() -> None:
    gateways, now_s = _uneven()
    control = shares.Teller(GATEWAYS, now_s)
    gateways[1] = Gateway(1, now_s)
    gateways[1].holder.take(*gateways[1].ask(control, {}, 0.0, now_s))
    assert _sum(gateways, now_s) <= 1.0 + 1e-6
    gateways[2].holder.take(*gateways[2].ask(control, {"a": 500.0}, 0.0, now_s))
    assert _sum(gateways, now_s) <= 1.0 + 1e-6


def test_a_question_that_was_long_on_its_way_does_not_bring_back_what_was_given_to_others() -> None:
    gateways, now_s = _uneven()
    teller = shares.Teller(GATEWAYS, -100.0)
    first, second, third = gateways
    for gateway in gateways:  # this control knows who holds what
        gateway.holder.take(*gateway.ask(teller, {"a": 100.0} if gateway is first else {}, 0.0, now_s))
    later_s = now_s + shares.FORGET_S + 0.5
    for gateway in (second, third, second):
        gateway.holder.take(*gateway.ask(teller, {"a": 100.0} if gateway is second else {}, 0.0, later_s))
    assert second.holder.share("a", later_s) > 0.5
    # The first one's question left while its lease still ran, and arrives now.
    first.holder.take(*first.ask(teller, {"a": 500.0}, 4.0, later_s))
    assert _sum(gateways, later_s) <= 1.0 + 1e-6
