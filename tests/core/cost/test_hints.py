"""What would make pools, engines and fallbacks cost less: only what was measured is said, and it adds up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.cost import hints
from stoker.core.cost.hints import HOURS_OF_MONTH, Hint, Other, Own, Pool, Size, packed
from stoker.core.pricing import Work
from stoker.types.costs import MachinePrice, Reserved
from stoker.types.engines import EngineChoice, EngineMeasurement
from stoker.types.prices import Card

GIBI = 1 << 30
DAY = 24 * 3600 // hints.STEP_S  # looks
NODE = Size(4.0, 8 * GIBI)
PRICE = MachinePrice(node_hour="1.00", reserved=Reserved(4, "0.60"))
ON_DEMAND = MachinePrice(node_hour="1.00")


def said(hint: Hint | None) -> Hint:
    assert hint is not None
    assert hint.saves_micro_usd > 0
    assert hint.because
    assert hint.assuming
    return hint


def test_a_commitment_is_for_as_many_nodes_as_are_there_often_enough_to_pay() -> None:
    # Two nodes always, a third for half of the time: at 60 % of the price the third does not pay.
    hint = said(hints.reserved(Pool("p", PRICE, (NODE,) * 3, there=(2, 3) * DAY)))
    assert hint.change == "reserved.nodes 4 → 2"
    # 4 × 0.60 now; then 2 × 0.60 and half of one at 1.00.
    assert hint.saves_micro_usd == pytest.approx((2.4 - 1.7) * 1e6 * HOURS_OF_MONTH, abs=1)
    assert "2.5 nodes were there on average in 48 h, 2 to 3" in hint.because
    more = said(hints.reserved(Pool("p", PRICE, (NODE,) * 9, there=(9,) * DAY)))
    assert more.change == "reserved.nodes 4 → 9"
    assert said(hints.reserved(Pool("p", PRICE, (), there=(0,) * DAY))).change == "reserved.nodes 4 → none"


def test_without_a_price_of_commitments_or_a_day_of_hours_nothing_is_said_of_them() -> None:
    assert hints.reserved(Pool("p", ON_DEMAND, (NODE,), there=(1,) * 600)) is None
    assert hints.reserved(Pool("p", PRICE, (NODE,), there=(1,) * (DAY - 1))) is None


@given(
    st.lists(st.integers(0, 12), min_size=9, max_size=20).map(lambda each: each * 32),
    st.integers(1, 12),
    st.integers(1, 100),
)
def test_no_other_commitment_would_have_cost_less_in_those_hours(there: list[int], now: int, cents: int) -> None:
    price = MachinePrice(node_hour="1.00", reserved=Reserved(now, f"{cents / 100:.2f}"))

    def cost(count: int) -> int:
        return sum(count * cents + max(each - count, 0) * 100 for each in there)

    hint = hints.reserved(Pool("p", price, (), there=tuple(there)))
    least = min(cost(count) for count in range(13))
    if hint is None:
        assert (cost(now) - least) * hints.WORTH_SHARE <= cost(now) + 1
    else:
        then = int(hint.change.rpartition(" ")[2].replace("none", "0"))
        assert cost(then) == least
        saved = (cost(now) - least) * 10_000 * HOURS_OF_MONTH / len(there)
        assert hint.saves_micro_usd == pytest.approx(saved, abs=1)


def test_replicas_that_fit_on_fewer_nodes_are_told_and_reserved_ones_are_kept() -> None:
    replicas = (Size(1.0, GIBI),) * 5
    hint = said(hints.fewer(Pool("p", ON_DEMAND, (NODE,) * 4, replicas)))
    assert (hint.change, hint.saves_micro_usd) == ("nodes 4 → 2", 2 * HOURS_OF_MONTH * 1_000_000)
    held = MachinePrice(node_hour="1.00", reserved=Reserved(3, "0.60"))
    assert said(hints.fewer(Pool("p", held, (NODE,) * 4, replicas))).change == "nodes 4 → 3"
    assert hints.fewer(Pool("p", ON_DEMAND, (NODE,) * 4, replicas, is_whole=False)) is None
    assert hints.fewer(Pool("p", MachinePrice(), (NODE,) * 4, replicas)) is None  # no price, no saving


def test_a_pool_of_cheaper_nodes_is_named_when_every_replica_fits_one_of_its_nodes() -> None:
    small = Pool("small", MachinePrice(node_hour="0.20"), (Size(2.0, 4 * GIBI),))
    big = Pool("big", ON_DEMAND, (NODE, NODE), (Size(1.0, GIBI),) * 6)
    hint = said(hints.elsewhere(big, small))
    assert "3 nodes as pool small has" in hint.change
    assert hint.saves_micro_usd == (2_000_000 - 600_000) * HOURS_OF_MONTH
    wide = Pool("big", ON_DEMAND, (NODE, NODE), (Size(3.0, GIBI),))
    assert hints.elsewhere(wide, small) is None
    needs_gpu = Pool("big", ON_DEMAND, (NODE, NODE), (Size(1.0, GIBI, 0.5),))
    assert hints.elsewhere(needs_gpu, small) is None
    assert [each.about for each in hints.pools([big, small])] == ["big"]


sizes = st.builds(Size, st.floats(0.25, 4.0), st.integers(1, 8 * GIBI))


@given(st.lists(sizes, max_size=12), st.integers(0, 12))
def test_what_is_packed_has_the_room_it_needs(replicas: list[Size], count: int) -> None:
    found = packed(replicas, [NODE] * count)
    least = max(
        sum(each.cores for each in replicas) / NODE.cores,
        sum(each.memory_bytes for each in replicas) / NODE.memory_bytes,
    )
    if found is not None:
        assert least - 1e-6 <= found <= min(count, len(replicas))
    else:
        assert count < len(replicas)


def row(engine: str, tokens_per_s: float, first_token_s: float = 0.1, error: str = "") -> EngineMeasurement:
    return EngineMeasurement(engine, "", error, 1.0, first_token_s, 1.0, tokens_per_s, slots=4, answer_tokens=100)


@pytest.mark.parametrize(
    ("under_s", "change"),
    [
        ({}, "engine a → c"),
        ({"latency": 3.0}, "engine a → c"),
        ({"ttft": 0.2}, "engine a → b"),  # c's first token comes too late
        ({"latency": 1.5}, ""),  # 4 answers of 100 tokens take 2 s with the fastest
    ],
)
def test_the_engine_with_the_most_tokens_that_keeps_the_promises_is_cheaper(
    under_s: dict[str, float], change: str
) -> None:
    rows = (row("a", 100.0), row("b", 150.0), row("c", 200.0, first_token_s=0.5), row("d", 900.0, error="it broke"))
    hint = hints.engine("p/e", EngineChoice("a", "latency", "", rows), under_s, 3_000_000)
    assert (hint.change if hint is not None else "") == change
    if change.endswith("c"):
        assert said(hint).saves_micro_usd == 1_500_000


def test_a_tie_between_engines_is_no_advice() -> None:
    choice = EngineChoice("a", "latency", "", (row("a", 100.0), row("b", 109.0)))
    assert hints.engine("p/e", choice, {}, 3_000_000) is None
    assert hints.engine("p/e", EngineChoice("a", "latency", ""), {}, 3_000_000) is None


REMOTE = Other("p/api", Card(input=1_000_000_000, output=2_000_000_000))  # $1 and $2 a million
WORK = Work(input_tokens=1000, output_tokens=500)  # $0.002


def own(**more: object) -> Own:
    known = {"requests": 1000, "sent": 0, "mean": WORK, "spent_micro_usd": 1_000_000, "idle_ratio": 0.9, **more}
    return Own("p/own", 73 * 3600, **known)  # type: ignore[arg-type]


def test_what_is_paid_for_elsewhere_while_own_replicas_idle_is_told() -> None:
    assert said(hints.idle_own(own(sent=200), REMOTE)).saves_micro_usd == 200 * 2000 * 10
    assert hints.idle_own(own(sent=200, idle_ratio=0.2), REMOTE) is None
    assert hints.idle_own(own(sent=10), REMOTE) is None


def test_a_load_that_somebody_else_answers_for_less_is_told_unless_that_is_too_slow() -> None:
    hint = said(hints.rented(own(spent_micro_usd=20_000_000), REMOTE))
    assert hint.saves_micro_usd == (20_000_000 - 1000 * 2000) * 10
    assert "its latency was not measured" in hint.because
    assert hints.rented(own(), REMOTE) is None  # $1 here, $2 there
    slow = Other("p/api", REMOTE.card, p95_s=3.0)
    assert hints.rented(own(spent_micro_usd=20_000_000, under_s=2.0), slow) is None
    assert "its p95 was 3 s" in said(hints.rented(own(spent_micro_usd=20_000_000, under_s=4.0), slow)).because
