"""What was counted is counted once, however often processes and control start again."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.observe.history.accounts import Accounts
from stoker.telemetry.histogram import Distribution
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
            accounts = Accounts(accounts.held())
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
