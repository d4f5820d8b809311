"""Which replicas are forked, and which fork servers a node keeps."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import forks
from stoker.types.forks import THREADS_ENV, USUAL_ENV, ForkKey

USUAL = {**USUAL_ENV, THREADS_ENV: "2", "HOME": "/r/a", "TMPDIR": "/r/a"}
PLATFORM, SKLEARN, TWO = ForkKey("platform", 1), ForkKey("sklearn", 1), ForkKey("platform", 2)
GB = 1 << 30
KEYS = st.builds(ForkKey, st.sampled_from(["platform", "sklearn"]), st.integers(1, 4))
SERVERS = st.builds(
    forks.Server,
    phase=st.sampled_from(["starting", "ready", "failed"]),
    wanted_s=st.floats(0, 10_000),
    rss_bytes=st.integers(0, GB),
    failures=st.integers(0, 12),
    next_start_s=st.floats(0, 20_000),
)


def test_an_engine_is_forked_with_its_threads_and_whatever_its_home() -> None:
    assert forks.key("sklearn", USUAL) == ForkKey("sklearn", 2)
    assert forks.key("onnx", {**USUAL, "HOME": "/r/b"}) == ForkKey("platform", 2)


def test_nothing_is_forked_that_a_library_may_read_otherwise_when_it_is_imported() -> None:
    for odd in ({"LD_PRELOAD": "x.so"}, {"OPENBLAS_CORETYPE": "Haswell"}, {"LANG": "C"}, {"CUDA_VISIBLE_DEVICES": "0"}):
        assert forks.key("sklearn", {**USUAL, **odd}) is None, odd
    for threads in ("", "0", "-1", "two", "1,2", "²", "99999"):
        assert forks.key("sklearn", {**USUAL, THREADS_ENV: threads}) is None, threads
    assert forks.key("sklearn", {**USUAL_ENV}) is None
    assert forks.key("an engine nobody knows", USUAL) is None


@given(st.lists(KEYS, max_size=8), st.dictionaries(KEYS, SERVERS, max_size=8), st.booleans(), st.integers(0, 4 * GB))
def test_a_plan_stays_within_its_bounds_and_ends_nothing_that_is_needed(
    wanted: list[ForkKey], servers: dict[ForkKey, forks.Server], is_busy: bool, free_bytes: int
) -> None:
    plan = forks.plan(wanted, servers, now_s=10_000.0, is_busy=is_busy, free_bytes=free_bytes)
    running = {each for each, server in servers.items() if server.phase != "failed"}
    assert set(plan.ends) <= running
    if plan.start is not None:
        assert plan.start in wanted
        assert plan.start not in running
        assert not is_busy
        assert free_bytes >= forks.FREE_BYTES_MIN
        before = servers.get(plan.start)
        assert before is None or (before.failures < forks.FAILURES_MAX and before.next_start_s <= 10_000.0)
        assert len(running - set(plan.ends)) < forks.SERVERS_MAX or len(running) > forks.SERVERS_MAX
    for ended in plan.ends:
        server = servers[ended]
        is_spare = plan.start is not None and ended not in list(dict.fromkeys(wanted))[: forks.SERVERS_MAX]
        is_idle = 10_000.0 - server.wanted_s > forks.IDLE_S
        assert is_idle or is_spare or server.rss_bytes > forks.RSS_BYTES_MAX or free_bytes < forks.FREE_BYTES_MIN


def test_one_that_is_wanted_takes_the_place_of_the_one_that_was_needed_longest_ago() -> None:
    servers = {
        TWO: forks.Server("ready", 50.0),
        ForkKey("platform", 3): forks.Server("ready", 40.0),
        PLATFORM: forks.Server("ready", 100.0),
    }
    plan = forks.plan([PLATFORM, SKLEARN], servers, now_s=100.0, is_busy=False, free_bytes=8 * GB)
    assert (plan.start, dict(plan.ends)) == (SKLEARN, {ForkKey("platform", 3): "another is wanted"})


def test_failures_are_waited_out_longer_each_time_and_not_for_ever() -> None:
    waits = [forks.again_s(count, 0.0) for count in range(1, 20)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (forks.DELAY_FIRST_S, forks.DELAY_MAX_S)
