"""Alive or not: progress and pings, alone and against the peers."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import breaker
from stoker.core.breaker import Peers, Pings, Progress

WELL = Peers(count=4, answering=3, finished=True, slowest_s=0.05)


def heard(now_s: float) -> Pings:
    return Pings(now_s)


def test_slow_progress_is_health_and_none_is_not() -> None:
    seen = Progress(0, 0.0)
    for second in range(1, 60):  # a token every nine seconds
        seen = breaker.observe(seen, second // 9, True, float(second))
        assert breaker.judge(seen, heard(second), "predict", float(second)) == "healthy"
    for second in range(60, 100):
        seen = breaker.observe(seen, 6, True, float(second))
    assert breaker.judge(seen, heard(99.0), "predict", 99.0) == "stuck"


def test_a_long_silence_that_ended_well_is_learned_within_bounds() -> None:
    seen = breaker.observe(Progress(0, 0.0), 1, True, 20.0)
    assert seen.gap_max_s == 20.0
    assert breaker.judge(seen, heard(60.0), "predict", 60.0) == "healthy"
    assert breaker.judge(seen, heard(90.0), "predict", 90.0) == "stuck"
    assert breaker.judge(Progress(1, 0.0, 10_000.0), heard(121.0), "chat", 121.0) == "stuck"


def test_a_replica_without_work_is_never_stuck_but_may_be_silent() -> None:
    seen = Progress(0, 0.0)
    for second in range(1, 300):
        seen = breaker.observe(seen, 0, False, float(second))
        assert breaker.judge(seen, heard(second), "predict", float(second), WELL) == "healthy"
    assert breaker.judge(seen, heard(290.0), "predict", 299.0) == "silent"


def test_who_is_silent_while_its_peers_answer_is_out_in_two_seconds() -> None:
    pings = breaker.asked(Pings(10.0), 10.2)
    assert breaker.judge(Progress(0, 10.0), pings, "chat", 11.6, WELL) == "healthy"
    assert breaker.judge(Progress(0, 10.0), pings, "chat", 11.8, WELL) == "silent"


@given(st.integers(0, 20), st.integers(0, 20), st.floats(0, 4.9))
def test_who_is_silent_with_most_of_its_peers_is_left_in(count: int, answering: int, silence_s: float) -> None:
    pings = breaker.asked(Pings(10.0), 10.0)
    peers = Peers(count=count, answering=min(answering, max((count - 1) // 2, 0)))
    assert breaker.judge(Progress(0, 10.0), pings, "predict", 10.0 + silence_s, peers) == "healthy"


def test_pings_answered_late_are_remembered_and_the_memory_fades() -> None:
    pings = breaker.heard(breaker.asked(Pings(0.0), 1.0), 3.0)  # it held the interpreter for two seconds, and was well
    assert pings.late_s == 2.0
    again = breaker.asked(pings, 3.5)
    assert breaker.judge(Progress(0, 7.4), again, "predict", 7.4, WELL) == "healthy"
    assert breaker.judge(Progress(0, 7.6), again, "predict", 7.6, WELL) == "silent"
    for second in range(10, 600):
        pings = breaker.heard(breaker.asked(pings, second), second + 0.01)
    assert pings.late_s < 0.1


def test_a_ping_not_yet_answered_keeps_the_time_of_the_first() -> None:
    pings = breaker.asked(breaker.asked(Pings(0.0), 1.0), 2.0)
    assert pings.asked_s == 1.0


def test_who_finishes_nothing_while_its_peers_do_is_stuck_sooner_unless_it_writes_text() -> None:
    seen = Progress(0, 10.0)
    assert breaker.judge(seen, heard(12.9), "predict", 12.9, WELL) == "healthy"
    assert breaker.judge(seen, heard(13.1), "predict", 13.1, WELL) == "stuck"
    assert breaker.judge(seen, heard(13.1), "predict", 13.1, Peers(count=4, answering=4)) == "healthy"
    assert breaker.judge(seen, heard(39.0), "chat", 39.0, WELL) == "healthy"


def test_a_long_request_that_once_ended_well_anywhere_gives_all_more_time() -> None:
    peers = Peers(count=4, answering=3, finished=True, slowest_s=0.05, gap_max_s=2.0)
    assert breaker.judge(Progress(0, 10.0), heard(15.0), "predict", 15.0, peers) == "healthy"
    peers = Peers(count=4, answering=3, finished=True, slowest_s=1.0)
    assert breaker.judge(Progress(0, 10.0), heard(17.0), "predict", 17.0, peers) == "healthy"
