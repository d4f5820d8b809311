"""Budgets are exact: settled + leased ≤ amount at every moment, whatever dies and whatever the network does."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import ledger
from stoker.core.ledger import Account, Lease
from stoker.core.purse import Pocket, Purse
from stoker.core.wallet import Hold, Short, Wallet, narrowest
from stoker.types.budgets import Answer, Asked, BudgetRoute, Granted, OnLimit
from tests.core.ledger_world import World

AMOUNT: Final = st.integers(0, 10_000)
LEASES: Final = st.lists(st.tuples(AMOUNT, AMOUNT), max_size=4).map(
    lambda pairs: tuple(Lease(f"g{at}", cap, charged) for at, (cap, charged) in enumerate(pairs))
)
ACCOUNTS: Final = st.builds(Account, st.just(1), st.just(0), AMOUNT, AMOUNT, LEASES)
ASKED: Final = st.builds(Asked, st.just(1), st.just(0.0), AMOUNT, AMOUNT, AMOUNT, AMOUNT, AMOUNT)
HOLDERS: Final = st.sampled_from(["g0", "g1", "g9"])


# ---- control's decisions


@given(ACCOUNTS, HOLDERS, ASKED, st.integers(1, 8))
def test_a_question_never_leads_over_the_amount(account: Account, holder: str, asked: Asked, gateways: int) -> None:
    after = ledger.heard(account, holder, asked, gateways)
    assert after.settled + after.leased <= max(account.amount, account.settled + account.leased)
    assert after.settled == account.settled
    assert all(after.of(each.holder) == each for each in account.leases if each.holder != holder)


@given(ACCOUNTS, HOLDERS, ASKED, st.integers(1, 8))
def test_a_cap_comes_down_to_what_its_gateway_says_but_not_under_what_was_charged(
    account: Account, holder: str, asked: Asked, gateways: int
) -> None:
    lease, after = account.of(holder), ledger.heard(account, holder, asked, gateways).of(holder)
    nothing = msgspec.structs.replace(asked, want=0, need=0, least=0)
    kept = ledger.heard(account, holder, nothing, gateways).of(holder)
    assert lease.charged <= kept.cap <= max(asked.cap, lease.charged) or kept.cap == lease.cap
    assert after.cap >= kept.cap


@given(ACCOUNTS, HOLDERS, AMOUNT)
def test_a_charge_within_its_lease_moves_the_sum_by_nothing_and_one_over_it_is_counted(
    account: Account, holder: str, amount: int
) -> None:
    after = ledger.charged(account, holder, amount)
    assert after.settled == account.settled + amount
    over = max(amount - account.of(holder).outstanding, 0)
    assert after.settled + after.leased == account.settled + account.leased + over


@given(ACCOUNTS, HOLDERS)
def test_the_end_of_a_journal_gives_back_what_its_lease_was_not_charged(account: Account, holder: str) -> None:
    after = ledger.ended(account, holder)
    assert after.left == account.left + account.of(holder).outstanding
    assert after.settled == account.settled


@given(st.integers(1, 100_000), AMOUNT, st.integers(1, 8))
def test_leases_are_halved_toward_the_end_and_a_request_that_fits_gets_through(
    left: int, need: int, gateways: int
) -> None:
    asked = Asked(1, 0.0, 0, 0, want=10**9, need=need, least=need)
    size = ledger.size(left, asked, gateways)
    assert size <= left
    assert size == (0 if need > left else max(need, left // (ledger.PART * gateways)))


def test_a_lowered_budget_leases_nothing_until_it_has_come_down_and_a_raised_one_does_at_once() -> None:
    account = Account(1, 0, 100, settled=60, leases=(Lease("g0", cap=90, charged=60),))
    asked = Asked(1, 0.0, cap=90, room=0, want=50, need=10, least=10)
    lowered = msgspec.structs.replace(account, amount=50)
    assert ledger.heard(lowered, "g0", asked, 1).of("g0").cap == 90
    raised = msgspec.structs.replace(account, amount=500)
    assert ledger.heard(raised, "g0", asked, 1).of("g0").cap == 140


def test_the_largest_fraction_that_is_spent_is_told() -> None:
    alerts = (1.0, 0.5, 0.8)
    assert [ledger.reached(alerts, 100, spent) for spent in (0, 49, 50, 80, 99, 120)] == [0.0, 0.0, 0.5, 0.8, 0.8, 1.0]
    assert ledger.reached(alerts, 0, 10) == 0.0


# ---- a gateway's wallet


def purse(budget: int, *, scope: str = "project", of: str = "p", on_limit: OnLimit = "refuse") -> BudgetRoute:
    return BudgetRoute(budget, f"b{budget}", "p", scope, of, 100, on_limit)  # type: ignore[arg-type]


def wallet(*routes: BudgetRoute, caps: dict[int, int]) -> Wallet:
    made = Wallet("g0")
    made.follow(routes)
    question = made.question(0.0)
    made.take(Answer(question.number, tuple(Granted(budget, 0, 100.0, cap, 0, 0) for budget, cap in caps.items())), 0.0)
    return made


def test_a_request_has_room_in_all_of_its_budgets_or_takes_none_of_any() -> None:
    made = wallet(purse(1), purse(2, scope="key", of="k"), purse(3, scope="tag", of="t=1"), caps={1: 100, 2: 100, 3: 5})
    both = made.of("p", "k", ())
    all_three = made.of("p", "k", (("t", "1"), ("t", "2")))
    assert [each.terms.budget for each in all_three] == [1, 2, 3]
    short = made.reserve(all_three, 10, 1.0)
    assert isinstance(short, Short)
    assert short.purse.terms.budget == 3
    assert isinstance(made.reserve(both, 100, 1.0), Hold)


def test_what_a_request_did_not_cost_is_free_again_and_what_it_cost_is_charged_to_the_lease_of_its_period() -> None:
    made = wallet(purse(1), caps={1: 100})
    hold = made.reserve(made.of("p", "k", ()), 80, 99.0)
    assert isinstance(hold, Hold)
    assert isinstance(made.reserve(made.of("p", "k", ()), 30, 99.5), Short)
    question = made.question(101.0)  # the period is over
    made.take(Answer(question.number, (Granted(1, 0, 100.0, 80, 0, 0), Granted(1, 100, 200.0, 50, 0, 0))), 101.0)
    assert [(each.budget, each.lease, each.amount) for each in hold.spend(60)] == [("1", "0@g0", 60)]
    later = made.reserve(made.of("p", "k", ()), 50, 101.0)
    assert isinstance(later, Hold)
    assert [each.lease for each in later.spend(1)] == ["100@g0"]
    old = next(each for each in made.question(102.0).asked if each.at_s == 0.0)
    assert old.cap == 60  # what the request did not need goes back


def test_a_budget_that_only_warns_lets_everything_through_and_charges_it() -> None:
    made = wallet(purse(1, on_limit="warn"), caps={1: 0})
    hold = made.reserve(made.of("p", "k", ()), 10**12, 1.0)
    assert isinstance(hold, Hold)
    assert [(each.lease, each.amount) for each in hold.spend(7)] == [("0@g0", 7)]
    assert made.question(2.0).asked == ()


def test_the_next_period_is_leased_before_it_begins() -> None:
    made = wallet(purse(1), caps={1: 100})
    made.reserve(made.of("p", "k", ()), 10, 50.0)
    question = made.question(60.0)
    assert [asked.at_s for asked in question.asked] == [100.0]
    made.take(Answer(question.number, (Granted(1, 100, 200.0, 40, 0, 0),)), 60.0)
    assert isinstance(made.reserve(made.of("p", "k", ()), 40, 100.0), Hold)  # control is silent from here on


def test_an_answer_counts_once_and_only_to_the_newest_question() -> None:
    made = wallet(purse(1), caps={1: 0})
    old, new = made.question(1.0), made.question(2.0)
    assert not made.take(Answer(old.number, (Granted(1, 0, 100.0, 50, 0, 0),)), 2.0)
    assert isinstance(made.reserve(made.of("p", "k", ()), 10, 2.0), Short)
    assert made.take(Answer(new.number, (Granted(1, 0, 100.0, 50, 0, 0),)), 2.0)
    assert not made.take(Answer(new.number, (Granted(1, 0, 100.0, 90, 0, 0),)), 2.0)
    assert isinstance(made.reserve(made.of("p", "k", ()), 60, 2.0), Short)


def test_a_clock_that_is_set_back_asks_for_no_forgotten_period() -> None:
    made = wallet(purse(1), caps={1: 100})
    hold = made.reserve(made.of("p", "k", ()), 100, 99.0)
    assert isinstance(hold, Hold)
    hold.spend(100)
    question = made.question(150.0)
    made.take(Answer(question.number, (Granted(1, 0, 100.0, 100, 0, 0), Granted(1, 100, 200.0, 9, 0, 0))), 150.0)
    made.reserve(made.of("p", "k", ()), 5, 90.0)
    assert all(asked.at_s >= 100.0 for asked in made.question(90.0).asked)


# ---- whole histories


@pytest.mark.parametrize("seed", range(24))
def test_no_history_overspends_or_loses_or_doubles_a_charge(seed: int) -> None:
    world = World(seed, changes=seed % 5 == 0, period="day" if seed % 2 else "total", lasts_s=12.0)
    seen = world.run()
    assert not seen.problems, f"seed {seed}: {seen.problems[0]}; {seen}"
    assert seen.answered > 100
    assert seen.stranded_max <= 1


@pytest.mark.parametrize("seed", range(4))
def test_without_faults_nobody_is_refused_while_there_is_room_anywhere(seed: int) -> None:
    seen = World(seed, chaos=False, period="total").run()
    assert not seen.problems
    assert seen.refused > 100
    assert seen.false == 0


def _takes_any_answer(self: Wallet, answer: Answer, now_s: float) -> bool:
    self._number, self._is_open = answer.number, True
    return _TAKE(self, answer, now_s)


def _says_less_than_it_keeps(self: Purse, pocket: Pocket, want: int, *, is_waited_for: bool) -> Asked:
    asked = _ASKED(self, pocket, want, is_waited_for=is_waited_for)
    return msgspec.structs.replace(asked, cap=asked.cap - max(asked.room, 0) // 2)


def _grants_more_than_it_notes(account: Account, holder: str, ends_at_s: float, living: Any) -> Granted:
    return msgspec.structs.replace(_GRANTED(account, holder, ends_at_s, living), cap=account.of(holder).cap + 40)


def _takes_half(self: Pocket) -> int:
    return self.cap - self.spent - self.reserved // 2


_TAKE, _ASKED, _GRANTED = Wallet.take, Purse._asked, ledger.granted


@pytest.mark.parametrize(
    ("where", "what", "broken"),
    [
        (Wallet, "take", _takes_any_answer),
        (World, "is_late", lambda world, question: False),
        (Purse, "_asked", _says_less_than_it_keeps),
        (ledger, "granted", _grants_more_than_it_notes),
        (ledger, "size", lambda left, asked, gateways: max(asked.want - asked.room, 0)),
        (ledger, "charged", lambda account, holder, amount: account),
        (ledger, "ended", lambda account, holder: account),
        (Pocket, "room", property(_takes_half)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_ledger_is_seen(
    where: Any, what: str, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, what, broken)
    histories = (World(seed, period="day", lasts_s=12.0).run() for seed in range(20))
    assert any(seen.problems for seen in histories)


def test_each_budget_takes_in_its_own_unit_and_has_room_with_all_or_none() -> None:
    wallet = Wallet("g0")
    routes = [
        BudgetRoute(1, "money", "p", "project", "p", 1000),
        BudgetRoute(2, "calls", "p", "key", "k", 3, unit="requests"),
        BudgetRoute(3, "words", "", "platform", "", 100, unit="tokens"),
    ]
    wallet.follow(routes)
    question = wallet.question(1.0)
    granted = tuple(Granted(each.budget, 0, 2.0**52, each.amount, 0, 0) for each in routes)
    assert wallet.take(Answer(question.number, granted), 1.0)
    purses = wallet.of("p", "k", ())
    assert [each.name for each in purses] == ["1", "2", "3"]
    hold = wallet.reserve(purses, 400, 1.0, requests=1, tokens=60)
    assert isinstance(hold, Hold)
    assert narrowest(purses, 1.0) is not None
    short = wallet.reserve(purses, 400, 1.0, requests=1, tokens=60)
    assert isinstance(short, Short)
    assert short.purse.terms.name == "words"
    assert [(each.budget, each.amount) for each in hold.spend(250, 1, 44)] == [("1", 250), ("2", 1), ("3", 44)]
    assert [purse.pockets[0].room for purse in purses] == [750, 2, 56]
    free = wallet.reserve(purses, 0, 1.0, requests=1)
    assert isinstance(free, Hold)
    assert [(each.budget, each.amount) for each in free.spend(0, 1)] == [("2", 1)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1), st.integers(0, 30), st.booleans()), max_size=30))
def test_no_unit_is_ever_over_its_lease_and_what_ends_is_free(asked: list[tuple[int, int, int, bool]]) -> None:
    wallet = Wallet("g0")
    units = (("usd", 120), ("requests", 6), ("tokens", 75))
    routes = [
        BudgetRoute(at, unit, "p", "project", "p", amount, unit=unit) for at, (unit, amount) in enumerate(units, 1)
    ]  # type: ignore[arg-type]
    wallet.follow(routes)
    question = wallet.question(1.0)
    wallet.take(
        Answer(question.number, tuple(Granted(each.budget, 0, 2.0**52, each.amount, 0, 0) for each in routes)), 1.0
    )
    purses = wallet.of("p", "k", ())
    holds = []
    for money, requests, tokens, ends in asked:
        if ends and holds:
            holds.pop().spend(0)
        found = wallet.reserve(purses, money, 1.0, requests, tokens)
        if isinstance(found, Hold):
            holds.append(found)
        assert all(purse.pockets[0].room >= 0 for purse in purses)
    for hold in holds:
        hold.spend(0)
    assert [purse.pockets[0].room for purse in purses] == [120, 6, 75]
