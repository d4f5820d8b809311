"""Much worse than the peers or not."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import outlier
from stoker.core.outlier import Record


def told(good: int = 0, bad: int = 0, pace_s: float = 0.001, at_s: float = 1.0) -> Record:
    """Return a record of good answers from `at_s` on, and errors after them."""
    record = Record()
    for number in range(good):
        record.answered(pace_s, at_s + number / 1000)
    for _ in range(bad):
        record.failed(at_s + good / 1000)
    return record


def judge(record: Record, *peers: Record, now_s: float = 10.0) -> str:
    return outlier.judge(record, outlier.together([record, *peers]), now_s)


def test_five_errors_in_a_row_are_enough_while_the_peers_answer() -> None:
    assert judge(told(good=100, bad=4), told(good=5, at_s=2.0)) == ""
    assert judge(told(good=100, bad=5), told(good=5, at_s=2.0)) == "errors"


def test_a_peer_that_answered_well_before_the_errors_began_proves_nothing() -> None:
    assert judge(told(good=100, bad=5), told(good=500, at_s=0.1)) == ""
    assert judge(told(good=100, bad=5), told(good=1, at_s=2.0), told(bad=1), told(bad=1)) == ""
    assert judge(told(good=100, bad=5), told(good=1, at_s=2.0), told(bad=1)) == "errors"


def test_a_share_of_errors_needs_many_requests() -> None:
    record = told(good=3, bad=20)
    record.in_a_row = 0
    assert judge(record, told(good=9)) == ""
    record = told(good=6, bad=60)
    record.in_a_row = 0
    assert judge(record, told(good=9)) == "errors"
    assert judge(record, told(good=9, bad=10)) == ""


@given(st.integers(0, 300), st.lists(st.integers(0, 300), max_size=6))
def test_errors_that_all_have_are_nobodys_fault(own: int, peers: list[int]) -> None:
    others = [told(good=bad // 2, bad=bad + 1) for bad in peers]
    assert judge(told(bad=own), *others) == ""


def test_errors_of_long_ago_are_forgotten() -> None:
    record = told(bad=60, good=1)
    record.fade(0.0)
    record.fade(120.0)
    assert record.bad < 0.001


def slow_for(record: Record, seconds: float, pace_s: float, every_s: float = 0.05) -> float:
    now_s = 100.0
    while now_s < 100.0 + seconds:
        record.answered(pace_s, now_s)
        now_s += every_s
    return now_s


def test_only_answers_that_are_all_slow_for_a_second_make_a_replica_slow() -> None:
    peers = [told(good=30, pace_s=0.02), told(good=30, pace_s=0.03)]
    record = told(good=30, pace_s=0.02)
    record.slow_over_s = outlier.slow_over_s(outlier.together([record, *peers]))
    assert record.slow_over_s == 0.08
    now_s = slow_for(record, 0.9, 0.2)
    assert judge(record, *peers, now_s=now_s) == ""  # a pause of the machine is as long
    now_s = slow_for(record, 1.2, 0.2)
    assert judge(record, *peers, now_s=now_s + 1) == "slow"
    record.answered(0.02, now_s)
    assert judge(record, *peers, now_s=now_s + 1) == ""


def test_of_two_replicas_none_is_slow_and_a_quick_one_never_is() -> None:
    assert outlier.slow_over_s(outlier.together([told(good=30), told(good=30, pace_s=9)])) == float("inf")
    assert outlier.slow_over_s(outlier.together([told(good=30)] * 3)) == outlier.SLOW_MIN_S
    assert outlier.slow_over_s(outlier.together([told(good=30), told(good=30), told(good=3)])) == float("inf")


@given(st.integers(0, 100))
def test_each_ejection_is_longer_up_to_a_bound(count: int) -> None:
    assert 30 <= outlier.ejection_s(count) <= outlier.ejection_s(count + 1) <= 300
