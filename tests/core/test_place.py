"""Which node gets a replica, and what is said when none can."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.capacity import MILLI, Capacity, Demand, Held, fits, milli, rooms
from stoker.core.place import Placement, choose
from stoker.core.shortage import NoRoom
from stoker.types.ids import NodeName

GIB = 1 << 30


def demand(
    cores: float = 1.0, memory_bytes: int = GIB, revision: str = "r", endpoint: str = "e", **more: object
) -> Demand:
    return Demand(cores, memory_bytes, revision, endpoint, **more)  # type: ignore[arg-type]


def node(name: str, cores: float = 4.0, memory_bytes: int = 8 * GIB, **more: object) -> Capacity:
    return Capacity(NodeName(name), cores, memory_bytes, **more)  # type: ignore[arg-type]


def held(on: str, what: Demand, replica: str = "", gpus: tuple[int, ...] = ()) -> Held:
    return Held(NodeName(on), what, gpus, replica)


def test_spreads_a_revision_over_nodes_before_it_fills_one() -> None:
    chosen = choose(demand(), [node("a", 16), node("b", 2)], [held("a", demand())])
    assert isinstance(chosen, Placement)
    assert chosen.node == "b"
    assert chosen.because == "node b has 2.0 cores and 8.0 GiB free, 0 of this revision"


def test_takes_the_tightest_fit_otherwise_so_that_large_holes_stay_whole() -> None:
    nodes = [node("a", 3), node("b", 2), node("c", 8)]
    chosen = choose(demand(2.0), nodes, [])
    assert isinstance(chosen, Placement)
    assert chosen.node == "b"
    assert chosen.because.endswith("the tightest fit of 3")
    assert isinstance(choose(demand(8.0), nodes, [held("b", demand(2.0))]), Placement)


def test_leaves_nodes_with_free_gpus_to_those_that_need_one() -> None:
    chosen = choose(demand(2.0), [node("a", 2, gpus=1), node("b", 8)], [])
    assert isinstance(chosen, Placement)
    assert chosen.node == "b"


def test_says_which_cores_are_missing() -> None:
    assert choose(demand(1.0), [node("local", 2.0)], [held("local", demand(cores=1.5))]) == NoRoom(
        "needs 1.0 core, largest free is 0.5 on node local"
    )


def test_says_which_memory_is_missing() -> None:
    nodes = [node("node-1", 2.0, 16 * GIB), node("node-2", 2.0, 10 * GIB)]
    found = choose(demand(1.0, 12 * GIB), nodes, [held("node-1", demand(1.0, 8 * GIB))])
    assert found == NoRoom("needs 12.0 GiB memory, largest free is 10.0 GiB on node node-2")


def test_says_what_never_fits_however_empty_the_nodes_are() -> None:
    found = choose(demand(1.0, 4 * GIB), [node("a", 2.0, 3 * GIB)], [held("a", demand(1.0, GIB))])
    assert found == NoRoom("needs 4.0 GiB memory, the most any node has is 3.0 GiB on node a", is_never=True)


def test_says_that_cores_and_memory_are_free_on_different_nodes() -> None:
    found = choose(demand(2.0, 4 * GIB), [node("a", 4.0, GIB), node("b", 1.0, 8 * GIB)], [])
    words = "needs 2.0 cores and 4.0 GiB memory on one node; node a has 4.0 cores and 1.0 GiB free"
    assert found == NoRoom(words, is_never=True)


def test_says_that_no_node_reports() -> None:
    assert choose(demand(), [], []) == NoRoom("no node reports; replicas start when one does")


def test_a_pool_takes_only_those_that_name_it() -> None:
    nodes = [node("a", pool="batch"), node("b", 2.0)]
    assert isinstance(found := choose(demand(), nodes, []), Placement)
    assert found.node == "b"
    assert isinstance(found := choose(demand(pool="batch"), nodes, []), Placement)
    assert found.node == "a"
    words = "needs 3.0 cores, the most any node has is 2.0 on node b in pool default"
    assert choose(demand(3.0), nodes, []) == NoRoom(words, is_never=True)


def test_names_the_pools_there_are_when_one_has_no_node() -> None:
    found = choose(demand(pool="big"), [node("a"), node("b"), node("c", pool="batch")], [])
    assert found == NoRoom("no node is in pool big; there is batch (1 node), default (2 nodes)", is_never=True)


def test_whole_gpus_have_one_holder_and_shares_fill_one_before_they_break_the_next() -> None:
    nodes = [node("a", gpus=3)]
    placed: list[Held] = []
    for wanted, gpus in ((0.5, (0,)), (1.0, (1,)), (0.4, (0,)), (0.2, (2,)), (0.1, (0,))):
        found = choose(demand(0.1, gpu=wanted), nodes, placed)
        assert isinstance(found, Placement)
        assert found.gpus == gpus
        placed.append(held("a", demand(0.1, gpu=wanted), gpus=found.gpus))
    assert choose(demand(0.1, gpu=1.0), nodes, placed) == NoRoom("needs 1 GPU, largest free is 0.0 on node a")
    assert choose(demand(0.1, gpu=0.9), nodes, placed) == NoRoom("needs 0.9 of a GPU, largest free is 0.8 on node a")
    never = choose(demand(0.1, gpu=4.0), nodes, placed)
    assert never == NoRoom("needs 4 GPUs, the most any node has is 3.0 on node a", is_never=True)


def test_required_spread_puts_no_two_of_a_revision_on_one_node_but_lets_the_next_revision_come() -> None:
    wanted = demand(spread="required")
    found = choose(wanted, [node("a")], [held("a", wanted)])
    assert found == NoRoom("has room on node a, but spread is required and a replica of it is there")
    assert isinstance(choose(demand(revision="r2", spread="required"), [node("a")], [held("a", wanted)]), Placement)


def test_endpoints_kept_apart_share_no_node_whichever_of_them_came_first() -> None:
    shy, other = demand(endpoint="shy", apart=("loud",)), demand(endpoint="loud")
    words = "has room on node a, but is kept apart from {} there"
    assert choose(shy, [node("a")], [held("a", other)]) == NoRoom(words.format("loud"))
    assert choose(other, [node("a")], [held("a", shy)]) == NoRoom(words.format("shy"))
    assert isinstance(choose(demand(endpoint="third"), [node("a")], [held("a", shy)]), Placement)


def test_tenths_of_cores_fill_a_core_exactly() -> None:
    full = [held("a", demand(0.1)) for _ in range(9)]
    assert isinstance(choose(demand(0.1), [node("a", 1.0, 100 * GIB)], full), Placement)
    full.append(held("a", demand(0.1)))
    assert isinstance(choose(demand(0.1), [node("a", 1.0, 100 * GIB)], full), NoRoom)


def test_overfull_nodes_have_nothing_free_rather_than_less_than_nothing() -> None:
    found = choose(demand(1.0), [node("a", 2.0)], [held("a", demand(3.0))])
    assert found == NoRoom("needs 1.0 core, largest free is 0.0 on node a")


DEMANDS = st.builds(
    Demand,
    st.floats(0.05, 4.0),
    st.integers(1, 4 * GIB),
    st.sampled_from(("r1", "r2", "r3")),
    st.sampled_from(("e1", "e2", "e3")),
    st.sampled_from((0.0, 0.0, 0.25, 0.5, 0.7, 1.0, 2.0)),
    st.sampled_from(("default", "default", "batch")),
    st.sampled_from(("preferred", "preferred", "required")),
    st.sampled_from(((), (), ("e3",))),
)
NODES = st.lists(
    st.builds(
        Capacity,
        st.sampled_from(("a", "b", "c", "d")),
        st.floats(0.1, 8.0),
        st.integers(1, 16 * GIB),
        st.sampled_from(("default", "default", "batch")),
        st.integers(0, 3),
    ),
    unique_by=lambda each: each.node,
    max_size=4,
)


def fill(nodes: list[Capacity], demands: list[Demand]) -> list[Held]:
    placed: list[Held] = []
    for at, wanted in enumerate(demands):
        found = choose(wanted, nodes, placed)
        if isinstance(found, Placement):
            placed.append(Held(found.node, wanted, found.gpus, f"replica-{at}"))
    return placed


@given(NODES, st.lists(DEMANDS, max_size=30), st.randoms(use_true_random=False))
def test_never_promises_more_than_there_is_and_keeps_apart_what_is_to_be(
    nodes: list[Capacity], demands: list[Demand], random: object
) -> None:
    placed = fill(nodes, demands)
    for each in nodes:
        mine = [item for item in placed if item.node == each.node]
        assert sum(milli(item.demand.cores) for item in mine) <= milli(each.cores)
        assert sum(item.demand.memory_bytes for item in mine) <= each.memory_bytes
        for index in range(each.gpus):
            shares = [min(milli(item.demand.gpu), MILLI) for item in mine if index in item.gpus]
            assert sum(shares) <= MILLI
            assert MILLI not in shares or len(shares) == 1
        for one in mine:
            assert one.demand.pool == each.pool
            assert len(one.gpus) == -(-milli(one.demand.gpu) // MILLI)
            assert all(index < each.gpus for index in one.gpus)
            for other in mine:
                assert one is other or other.demand.endpoint not in one.demand.apart
                is_alike = one is not other and one.demand.revision == other.demand.revision
                assert not is_alike or "required" not in (one.demand.spread, other.demand.spread) or _later(one, other)


def _later(one: Held, other: Held) -> bool:
    """Two of one revision have one spec but for a change of it: only the one that came last was held to its own."""
    last = max(one, other, key=lambda each: int(each.replica.removeprefix("replica-")))
    return last.demand.spread == "preferred"


@given(NODES, st.lists(DEMANDS, max_size=20), DEMANDS, st.randoms(use_true_random=False))
def test_does_not_depend_on_the_order_of_what_it_is_told(
    nodes: list[Capacity], demands: list[Demand], wanted: Demand, random: object
) -> None:
    placed = fill(nodes, demands)
    found = choose(wanted, nodes, placed)
    random.shuffle(nodes)  # type: ignore[attr-defined]
    random.shuffle(placed)  # type: ignore[attr-defined]
    assert choose(wanted, nodes, placed) == found


@given(NODES, st.lists(DEMANDS, max_size=10), DEMANDS)
def test_says_no_only_when_no_node_has_room_and_never_only_when_no_empty_one_has(
    nodes: list[Capacity], demands: list[Demand], wanted: Demand
) -> None:
    placed = fill(nodes, demands)
    found = choose(wanted, nodes, placed)
    assert isinstance(found, Placement) == any(fits(wanted, each) for each in rooms(wanted, nodes, placed))
    fits_alone = any(fits(wanted, each) for each in rooms(wanted, nodes, ()))
    assert isinstance(choose(wanted, nodes, ()), Placement) == fits_alone
    if isinstance(found, NoRoom):
        assert found.is_never == (bool(nodes) and not fits_alone)
