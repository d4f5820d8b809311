"""What machines cost: rates, dates, commitments, and any cut of a window."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.cost import machines
from stoker.core.cost.machines import Present
from stoker.core.cost.money import HOUR_MS
from stoker.types.costs import MachinePrice, PoolPrices, Reserved

DAY_MS = 24 * HOUR_MS
JAN = 20_454 * DAY_MS  # 2026-01-01
DOLLARS = st.integers(0, 99_999_999).map(lambda micros: f"{micros // 10**6}.{micros % 10**6:06d}")
PRICES = st.builds(
    MachinePrice,
    since=st.sampled_from(["1970-01-01", "2026-01-01", "2026-01-02", "2026-01-03"]),
    node_hour=DOLLARS,
    gpu_hour=DOLLARS,
    reserved=st.none() | st.builds(Reserved, nodes=st.integers(1, 4), node_hour=DOLLARS),
)
WHEN = st.integers(JAN, JAN + 3 * DAY_MS)


@st.composite
def nodes(draw: st.DrawFn) -> list[Present]:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=5))
    found = []
    for name in names:
        moments = sorted(draw(st.lists(WHEN, unique=True, max_size=6)))
        spans = tuple(zip(moments[::2], moments[1::2], strict=False))
        found.append(Present(name, spans, gpus=draw(st.integers(0, 2))))
    return found


def _seen(present: list[Present], from_ms: int, to_ms: int) -> list[Present]:
    """Return the part of it that a window shows."""
    found = []
    for each in present:
        cut = ((max(begin, from_ms), min(end, to_ms)) for begin, end in each.spans)
        found.append(Present(each.node, tuple(span for span in cut if span[0] < span[1]), each.gpus))
    return found


@given(st.lists(PRICES, min_size=1, max_size=4), nodes(), st.lists(WHEN, min_size=2, max_size=8))
def test_windows_cost_together_what_the_whole_time_costs(
    prices: list[MachinePrice], present: list[Present], cuts: list[int]
) -> None:
    pool = PoolPrices(tuple(prices))
    cuts = sorted({*cuts, JAN, JAN + 3 * DAY_MS})
    parts = [machines.over(pool, _seen(present, *span), *span).total for span in pairwise(cuts)]
    assert sum(parts) == machines.over(pool, present, cuts[0], cuts[-1]).total


def test_a_day_of_two_nodes_of_which_one_is_reserved_and_one_has_gpus() -> None:
    price = MachinePrice(node_hour="1.00", gpu_hour="2.50", reserved=Reserved(1, "0.60"))
    present = [Present("b", ((JAN, JAN + DAY_MS),), gpus=2), Present("a", ((JAN, JAN + DAY_MS),))]
    cost = machines.over(PoolPrices((price,)), present, JAN, JAN + DAY_MS)
    assert [(each.node, each.machine, each.gpus) for each in cost.nodes] == [
        ("a", 14_400_000_000, ()),
        ("b", 24_000_000_000, (60_000_000_000, 60_000_000_000)),
    ]
    assert cost.reserved_unused == 0


def test_a_commitment_is_paid_while_its_machine_is_away() -> None:
    price = MachinePrice(node_hour="1.00", reserved=Reserved(2, "0.60"))
    cost = machines.over(PoolPrices((price,)), [Present("a", ((JAN, JAN + 6 * HOUR_MS),))], JAN, JAN + 24 * HOUR_MS)
    assert cost.nodes[0].machine == 3_600_000_000
    assert cost.reserved_unused == (18 * 2 + 6) * 600_000_000


def test_a_price_holds_from_its_day_on_and_before_the_first_nothing_costs() -> None:
    pool = PoolPrices(
        (MachinePrice(since="2026-01-02", node_hour="2"), MachinePrice(since="2026-01-03", node_hour="3"))
    )
    cost = machines.over(pool, [Present("a", ((JAN, JAN + 3 * DAY_MS),))], JAN, JAN + 3 * DAY_MS)
    assert cost.nodes[0].machine == (48 + 72) * 1_000_000_000
    assert machines.replica(PoolPrices((MachinePrice(replica_hour="0.5"),)), JAN, JAN + HOUR_MS // 2) == 250_000_000
