"""What a response cache keeps and forgets."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stoker.core.cache import ENTRY_OVERHEAD_BYTES, ENTRY_SHARE, Allowance, Freshness, Store, freshness, takers
from stoker.types.ids import EndpointName, ProjectName, RevisionId
from stoker.types.routes import EndpointRoute, RevisionRoute

MAX_BYTES = 40_000
TTL_S = 60.0
ALLOWANCE = 60_000
KEYS = st.sampled_from("abcdefg")
# Small entries, some that are an eighth of a store, some over it, so that every bound is met often.
SIZES = st.integers(0, 200) | st.integers(4_000, MAX_BYTES // ENTRY_SHARE + 200)


class TwoStores(RuleBasedStateMachine):
    """Two endpoints' stores in one process, beside a list that is obviously right."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1_000.0
        self.allowance = Allowance(ALLOWANCE)
        self.stores = [Store[str, int](MAX_BYTES, TTL_S, self.allowance) for _ in range(2)]
        self.lists: list[list[tuple[str, int, int, float]]] = [[], []]  # key, value, size, stored; least used first
        self.count = 0

    def held(self, which: int) -> int:
        return sum(size for _, _, size, _ in self.lists[which])

    @rule(which=st.integers(0, 1), key=KEYS, size=SIZES)
    def put(self, which: int, key: str, size: int) -> None:
        self.count += 1
        full = size + ENTRY_OVERHEAD_BYTES
        fits = full <= MAX_BYTES // ENTRY_SHARE and self.held(1 - which) + full <= ALLOWANCE
        assert self.stores[which].put(key, self.count, size, self.now_s) == fits
        if fits:
            kept = [each for each in self.lists[which] if each[0] != key and self.now_s - each[3] < TTL_S]
            self.lists[which] = kept
            while self.held(which) + full > min(MAX_BYTES, ALLOWANCE - self.held(1 - which)):
                kept.pop(0)
            kept.append((key, self.count, full, self.now_s))

    @rule(which=st.integers(0, 1), key=KEYS)
    def get(self, which: int, key: str) -> None:
        found = self.stores[which].get(key, self.now_s)
        known = next((each for each in self.lists[which] if each[0] == key), None)
        if known is not None:
            self.lists[which].remove(known)
        if known is None or self.now_s - known[3] >= TTL_S:
            assert found is None
        else:
            self.lists[which].append(known)
            assert found is not None
            assert (found.value, found.size, found.stored_s) == known[1:]

    @rule(which=st.integers(0, 1), first=KEYS, second=KEYS, size=SIZES)
    def serve(self, which: int, first: str, second: str, size: int) -> None:
        """As a gateway does it: look, and put what was not there."""
        for key in (first, second, first):
            known = any(each[0] == key for each in self.lists[which])
            self.get(which, key)
            if not known:
                self.put(which, key, size)

    @rule(passed_s=st.floats(0, 20))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s

    @rule(which=st.integers(0, 1))
    def sweep(self, which: int) -> None:
        self.stores[which].sweep(self.now_s)
        self.lists[which] = [each for each in self.lists[which] if self.now_s - each[3] < TTL_S]

    @rule(which=st.integers(0, 1), key=KEYS)
    def drop(self, which: int, key: str) -> None:
        self.stores[which].drop(key)
        self.lists[which] = [each for each in self.lists[which] if each[0] != key]

    @precondition(lambda self: self.count % 7 == 6)
    @rule(which=st.integers(0, 1))
    def clear(self, which: int) -> None:
        self.stores[which].clear()
        self.lists[which] = []

    @invariant()
    def is_within_its_bytes(self) -> None:
        for which, store in enumerate(self.stores):
            assert store.bytes == self.held(which) <= MAX_BYTES
        assert self.allowance.used_bytes == sum(store.bytes for store in self.stores) <= ALLOWANCE

    @invariant()
    def is_in_the_order_of_use(self) -> None:
        for which, store in enumerate(self.stores):
            assert list(store) == [key for key, *_ in self.lists[which]]
            assert len(store) == len(self.lists[which])


TestTwoStores = TwoStores.TestCase
TestTwoStores.settings = settings(max_examples=30, stateful_step_count=60)


def test_what_was_used_last_goes_last() -> None:
    full = MAX_BYTES // ENTRY_SHARE - ENTRY_OVERHEAD_BYTES
    store = Store[str, int](MAX_BYTES, TTL_S, Allowance(MAX_BYTES))
    for key in "abcdefgh":
        assert store.put(key, 0, full, 0.0)
    assert store.get("a", 1.0) is not None
    assert store.get("c", 1.0) is not None
    store.put("i", 0, full, 2.0)
    store.put("j", 0, full, 2.0)
    assert list(store) == ["e", "f", "g", "h", "a", "c", "i", "j"]


def test_long_traffic_takes_the_memory_that_is_accounted_and_no_more() -> None:
    store = Store[tuple[str, bytes], bytes](2 << 20, 600.0, Allowance(1 << 30))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        highest = 0
        for number in range(20_000):  # the store is full after 2,000, and nothing is kept over 600 s
            body = b"%09d" % number * (1 + number % 100)
            store.put(("default.a-1", b"%032d" % (number * 7 % 50_021)), body, len(body), number * 0.3)
            if number % 1000 == 999:
                highest = max(highest, tracemalloc.get_traced_memory()[0] - before)
        assert store.bytes <= 2 << 20
        assert highest < store.max_bytes * 1.1
    finally:
        tracemalloc.stop()


def test_a_shorter_time_counts_for_what_is_kept_already() -> None:
    store = Store[str, int](MAX_BYTES, 600.0, Allowance(ALLOWANCE))
    store.put("a", 1, 10, 0.0)
    store.ttl_s = 5.0
    assert store.get("a", 4.9) is not None
    store.sweep(5.0)
    assert len(store) == 0


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        (None, Freshness()),
        (b"", Freshness()),
        (b"max-age=0", Freshness(0.0)),
        (b"no-transform, Max-Age=30", Freshness(30.0)),
        (b"max-age=60, max-age=5", Freshness(5.0)),
        (b"max-age=-1", Freshness()),
        (b"max-stale=60", Freshness()),
        (b"no-cache", Freshness(-1.0)),
        (b"No-Cache, max-age=60", Freshness(-1.0)),
        (b"no-store", Freshness(-1.0, may_store=False)),
        (b"no-cache,no-store", Freshness(-1.0, may_store=False)),
        (b"\xff\x00=,,;", Freshness()),
    ],
)
def test_cache_control_means_what_the_rfc_says(header: bytes | None, meant: Freshness) -> None:
    assert freshness(header) == meant


@given(st.binary(max_size=100))
def test_any_cache_control_is_read(header: bytes) -> None:
    assert freshness(header).age_max_s >= -1.0


def route(*revisions: tuple[str, str, int]) -> EndpointRoute:
    rows = tuple(RevisionRoute(RevisionId(name), version, weight, ()) for name, version, weight in revisions)
    return EndpointRoute(ProjectName("p"), EndpointName("e"), "predict", 0.0, rows)


def test_only_revisions_with_traffic_answer_for_the_endpoint_and_a_version_answers_as_itself() -> None:
    table = route(("e-1", "1", 0), ("e-2", "2", 90), ("e-3", "3", 10), ("e-4", "3", 0))
    assert takers(table, "") == (("e-2", 90), ("e-3", 10))
    assert takers(table, "1") == (("e-1", 1),)
    assert takers(table, "3") == (), "two revisions run version 3, and which one will answer is not known"
    assert takers(table, "9") == ()
    assert takers(route(), "") == ()
