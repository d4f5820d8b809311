"""Sessions and known prompts: who owns them, when the owner has too much, and how much is remembered."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import affinity
from stoker.core.affinity import Known

numbers = st.integers(0, 2**64 - 1)
loads = st.lists(st.floats(0, 100), min_size=2, max_size=12)


@given(numbers, st.lists(numbers, min_size=2, max_size=12, unique=True), st.data(), st.floats(0, 20))
def test_a_session_goes_to_a_replica_there_is_and_moves_only_from_an_overloaded_one(
    session: int, nodes: list[int], data: st.DataObject, spill: float
) -> None:
    load = data.draw(st.lists(st.floats(0, 100), min_size=len(nodes), max_size=len(nodes)))
    chosen, why = affinity.by_session(session, nodes, load, spill)
    owner, _ = affinity.by_session(session, nodes, [0.0] * len(nodes), spill)
    limit = affinity.bound(load, spill)
    assert 0 <= chosen < len(nodes)
    assert load[chosen] <= limit
    assert (why == "session") == (chosen == owner) == (load[owner] <= limit)
    rest = [node for node, its in zip(nodes, load, strict=True) if its <= limit]  # as if the overloaded were not there
    assert nodes[chosen] == rest[affinity.by_session(session, rest, [0.0] * len(rest), spill)[0]]


def test_a_replica_more_moves_its_share_of_the_sessions_and_no_other() -> None:
    nodes = [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(1, 10)]
    idle = [0.0] * 10
    before = [affinity.by_session(session, nodes, idle[:9], 2.0)[0] for session in range(20_000)]
    after = [affinity.by_session(session, [*nodes, 77], idle, 2.0)[0] for session in range(20_000)]
    moved = [there for here, there in zip(before, after, strict=True) if here != there]
    assert set(moved) == {9}
    assert 0.08 < len(moved) / 20_000 < 0.12
    share = [before.count(index) / 20_000 for index in range(9)]
    assert 0.09 < min(share) <= max(share) < 0.14


@given(numbers, st.lists(numbers, min_size=3, max_size=8, unique=True), st.randoms(use_true_random=False))
def test_the_order_of_replicas_does_not_matter(session: int, nodes: list[int], order: object) -> None:
    idle = [0.0] * len(nodes)
    owner = nodes[affinity.by_session(session, nodes, idle, 2.0)[0]]
    order.shuffle(nodes)  # type: ignore[attr-defined]
    assert nodes[affinity.by_session(session, nodes, idle, 2.0)[0]] == owner


@given(st.data(), st.integers(2, 10), st.integers(1, 40), st.floats(0, 20))
def test_the_longest_known_prefix_wins_unless_its_owner_is_overloaded(
    data: st.DataObject, count: int, total: int, spill: float
) -> None:
    matched = data.draw(st.lists(st.integers(0, total), min_size=count, max_size=count))
    load = data.draw(st.lists(st.floats(0, 100), min_size=count, max_size=count))
    prices = data.draw(st.lists(st.floats(0, 10), min_size=count, max_size=count))
    chosen, why = affinity.by_prefix(matched, total, load, prices, spill, affinity.EXPLORE_RATIO)
    limit = affinity.bound(load, spill)
    assert why != "explore"
    if why == "affinity":
        assert matched[chosen] == max(matched) > 0
        equal = [index for index in range(count) if matched[index] == max(matched) and load[index] <= limit]
        assert prices[chosen] == min(prices[index] for index in equal)
    if chosen >= 0:
        assert load[chosen] <= limit
        assert matched[chosen] >= affinity.MATCH_MIN_RATIO * total
    if why == "overloaded_owner":
        assert all(load[index] > limit for index in range(count) if matched[index] == max(matched))
    if why == "two_choices":
        assert chosen == -1
        assert max(matched) < max(1, affinity.MATCH_MIN_RATIO * total)


@given(st.data(), st.integers(2, 10), st.integers(1, 40), st.floats(0, 20))
def test_one_in_a_hundred_with_a_known_prefix_goes_where_less_of_it_is_known(
    data: st.DataObject, count: int, total: int, spill: float
) -> None:
    matched = data.draw(st.lists(st.integers(0, total), min_size=count, max_size=count))
    load = data.draw(st.lists(st.floats(0, 100), min_size=count, max_size=count))
    prices = data.draw(st.lists(st.floats(0, 10), min_size=count, max_size=count))
    usual, why = affinity.by_prefix(matched, total, load, prices, spill, 1.0)
    draws = [(number + 0.5) / 1000 for number in range(1000)]
    others = [
        found
        for draw in draws
        if (found := affinity.by_prefix(matched, total, load, prices, spill, draw)) != (usual, why)
    ]
    if not others:
        knows_less = [at for at in range(count) if usual >= 0 and matched[at] < matched[usual]]
        assert all(load[at] > affinity.bound(load, spill) for at in knows_less)
        return
    assert len(others) == affinity.EXPLORE_RATIO * 1000
    ((chosen, reason),) = set(others)
    assert reason == "explore"
    assert matched[chosen] < matched[usual]
    assert load[chosen] <= affinity.bound(load, spill)


@given(loads, st.floats(0, 50))
def test_somebody_always_fits_the_bound(load: list[float], spill: float) -> None:
    assert min(load) <= affinity.bound(load, spill)


chains = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 12), st.floats(0, 60)), min_size=1, max_size=40
)


@given(chains, st.integers(1, 30))
def test_never_over_its_bound_and_what_is_known_of_a_prompt_is_its_beginning(
    steps: list[tuple[int, int, int, float]], entries_max: int
) -> None:
    known, now_s = Known(entries_max), 0.0
    for system, user, length, passed_s in steps:
        now_s += passed_s
        chain = _chain(system, user, length)
        known.learn(chain, now_s)
        assert len(known) <= entries_max
        assert known.matched(chain, now_s) == min(length, entries_max)
        for other in (_chain(one, two, 12) for one in range(4) for two in range(4)):
            flags = [known.matched([block], now_s) == 1 for block in other]
            assert flags == sorted(flags, reverse=True)
            assert known.matched(other, now_s) == sum(flags)
        known.sweep(now_s)
    known.sweep(now_s + affinity.TTL_S + 1)
    assert len(known) == 0


def test_what_was_sent_long_ago_is_not_known_any_more() -> None:
    known = Known()
    known.learn([1, 2, 3], 0.0)
    known.learn([1, 2], 100.0)
    assert known.matched([1, 2, 3], affinity.TTL_S) == 3
    assert known.matched([1, 2, 3], affinity.TTL_S + 1) == 2
    known.clear()
    assert known.matched([1, 2, 3], 0.0) == 0


def _chain(system: int, user: int, length: int) -> list[int]:
    """Return blocks of which the first four are the system's own, the others the conversation's."""
    return [hash((system, at) if at < 4 else (system, user, at)) for at in range(length)]


def test_what_decides_follows_the_task_unless_the_manifest_says_it() -> None:
    assert affinity.kind("auto", "chat") == "prefix"
    assert affinity.kind("auto", "predict") == affinity.kind("none", "chat") == "none"
    assert affinity.kind("session", "predict") == "session"
