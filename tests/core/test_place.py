"""Which node gets a replica, and what is said when none can."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.place import Capacity, Demand, Held, NoRoom, Placement, choose, milli
from stoker.types.ids import NodeName

GIB = 1 << 30


def demand(cores: float = 1.0, memory_bytes: int = GIB, revision: str = "r", endpoint: str = "e") -> Demand:
    return Demand(cores, memory_bytes, revision, endpoint)


def node(name: str, cores: float = 4.0, memory_bytes: int = 8 * GIB) -> Capacity:
    return Capacity(NodeName(name), cores, memory_bytes)


def test_spreads_a_revision_over_nodes_before_it_fills_one() -> None:
    held = [Held(NodeName("a"), demand())]
    chosen = choose(demand(), [node("a", 16), node("b", 2)], held)
    assert isinstance(chosen, Placement)
    assert chosen.node == "b"
    assert chosen.because == "node b has 2.0 cores and 8.0 GiB free, 0 of this revision"


def test_takes_the_node_with_most_free_cores_otherwise() -> None:
    chosen = choose(demand(), [node("a", 2), node("b", 3)], [])
    assert isinstance(chosen, Placement)
    assert chosen.node == "b"


def test_says_which_cores_are_missing() -> None:
    held = [Held(NodeName("local"), demand(cores=1.5))]
    assert choose(demand(1.0), [node("local", 2.0)], held) == NoRoom(
        "needs 1.0 core, largest free is 0.5 on node local"
    )


def test_says_which_memory_is_missing() -> None:
    found = choose(demand(1.0, 4 * GIB), [node("local", 2.0, 3 * GIB)], [])
    assert found == NoRoom("needs 4.0 GiB memory, largest free is 3.0 GiB on node local")


def test_says_that_cores_and_memory_are_free_on_different_nodes() -> None:
    found = choose(demand(2.0, 4 * GIB), [node("a", 4.0, GIB), node("b", 1.0, 8 * GIB)], [])
    assert found == NoRoom("needs 2.0 cores and 4.0 GiB memory on one node; node a has 4.0 cores and 1.0 GiB free")


def test_says_that_no_node_reports() -> None:
    assert choose(demand(), [], []) == NoRoom("no node reports; replicas start when one does")


def test_tenths_of_cores_fill_a_core_exactly() -> None:
    held = [Held(NodeName("a"), demand(0.1)) for _ in range(9)]
    assert isinstance(choose(demand(0.1), [node("a", 1.0, 100 * GIB)], held), Placement)
    held.append(Held(NodeName("a"), demand(0.1)))
    assert isinstance(choose(demand(0.1), [node("a", 1.0, 100 * GIB)], held), NoRoom)


def test_overfull_nodes_have_nothing_free_rather_than_less_than_nothing() -> None:
    held = [Held(NodeName("a"), demand(3.0))]
    assert choose(demand(1.0), [node("a", 2.0)], held) == NoRoom("needs 1.0 core, largest free is 0.0 on node a")


DEMANDS = st.builds(
    Demand,
    st.floats(0.05, 4.0),
    st.integers(1, 4 * GIB),
    st.sampled_from(("r1", "r2", "r3")),
    st.sampled_from(("e1", "e2")),
)
NODES = st.lists(
    st.builds(Capacity, st.sampled_from(("a", "b", "c", "d")), st.floats(0.1, 8.0), st.integers(1, 16 * GIB)),
    unique_by=lambda each: each.node,
    max_size=4,
)


@given(NODES, st.lists(DEMANDS, max_size=30), st.randoms(use_true_random=False))
def test_never_promises_more_than_there_is_and_does_not_depend_on_order(
    nodes: list[Capacity], demands: list[Demand], random: object
) -> None:
    held: list[Held] = []
    for wanted in demands:
        found = choose(wanted, nodes, held)
        shuffled_nodes, shuffled_held = list(nodes), list(held)
        random.shuffle(shuffled_nodes)  # type: ignore[attr-defined]
        random.shuffle(shuffled_held)  # type: ignore[attr-defined]
        assert choose(wanted, shuffled_nodes, shuffled_held) == found
        if isinstance(found, Placement):
            held.append(Held(found.node, wanted))
    for each in nodes:
        mine = [item.demand for item in held if item.node == each.node]
        assert sum(milli(item.cores) for item in mine) <= milli(each.cores)
        assert sum(item.memory_bytes for item in mine) <= each.memory_bytes


@given(NODES, st.lists(DEMANDS, max_size=10), DEMANDS)
def test_says_no_only_when_no_node_has_room(nodes: list[Capacity], demands: list[Demand], wanted: Demand) -> None:
    held = [Held(each.node, item) for each, item in zip(nodes * 10, demands, strict=False)]
    found = choose(wanted, nodes, held)
    fits = [
        each
        for each in nodes
        if milli(each.cores) - sum(milli(item.demand.cores) for item in held if item.node == each.node)
        >= milli(wanted.cores)
        and each.memory_bytes - sum(item.demand.memory_bytes for item in held if item.node == each.node)
        >= wanted.memory_bytes
    ]
    assert isinstance(found, Placement) == bool(fits)
