"""What was counted is counted once, however often processes and control start again."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.observe.history.accounts import Account, Accounts, Answer
from stoker.telemetry.histogram import Distribution
from stoker.telemetry.metrics import Registry
from tests.observe.rig import Counting

STEPS = st.lists(
    st.tuples(st.sampled_from(["count", "ask", "restart", "control"]), st.integers(0, 1), st.integers(1, 9)),
    max_size=40,
)


@given(STEPS)
def test_every_count_that_was_seen_is_counted_once_over_any_restarts(steps: list[tuple[str, int, int]]) -> None:
    processes = [Counting("gateway-0"), Counting("gateway-1")]
    unseen = [0, 0]
    accounts, seen, counted, values = Accounts(), 0, 0.0, 0
    stored: dict[str, Account] = {}
    for what, which, amount in steps:
        process = processes[which]
        if what == "count":
            process.request(amount)
            process.latency(*[0.1] * amount)
            unseen[which] += amount
        elif what == "restart":  # what nobody had asked for is gone with it
            process.restart()
            unseen[which] = 0
        elif what == "control":  # it begins again with what it has stored
            stored |= accounts.news()
            accounts.stored()
            assert accounts.news() == {}
            accounts = Accounts(stored)
        else:
            seen += unseen[which]
            unseen[which] = 0
            for point in accounts.take([process.answer()], 0.0).values():
                if isinstance(point, Distribution):
                    values += point.count
                else:
                    assert isinstance(point, float)
                    counted += point
        assert counted == values == seen


def test_a_gauge_holds_as_long_as_who_said_it_is_good_for_and_what_is_not_kept_is_not_there() -> None:
    registry = Registry("r0")
    whose = {"project": "default", "endpoint": "a", "revision": "default.a-1", "replica": "r0"}
    registry.gauge("stoker_engine_running", **whose).set(3.0)
    registry.gauge("stoker_load_seconds", stage="verify", **whose).set(0.5)
    accounts = Accounts()
    answer = Answer("r0", "boot", registry.snapshot(), good_for_s=30.0)
    for taken, now_s, is_there in (([answer], 100.0, True), ([], 130.0, True), ([], 131.0, False)):
        names = {series.metric for series in accounts.take(taken, now_s)}
        assert names == ({"stoker_engine_running"} if is_there else set())
