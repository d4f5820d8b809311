"""The life of an incident."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.diagnose import incident as life
from stoker.core.diagnose.causes import Cause
from stoker.core.diagnose.incident import HEAD_KEPT, RECOVERED_LOOKS, TIMELINE_MAX, Incident
from stoker.core.diagnose.shift import Harm
from stoker.core.diagnose.verdict import Diagnosis
from stoker.core.diagnose.window import Change


def fresh() -> Incident:
    return life.opened("default", "chat", "SLO latency burns", 1000.0)


def diagnosed(kind: str = "overload", *, is_wrong: bool = True) -> Diagnosis:
    cause = Cause(kind, 0.8, ("a line",), 900.0)  # type: ignore[arg-type]
    return Diagnosis(is_wrong, Harm(latency=1.0), 900.0, (cause,) if is_wrong else ())


def test_the_same_reason_again_is_one_line() -> None:
    one = life.raised_again(fresh(), "SLO latency burns", 1060.0)
    assert len(one.timeline) == 1


def test_what_closed_and_is_raised_again_is_open_and_says_so() -> None:
    one = life.raised_again(life.closed(fresh(), "it recovered", 1100.0), "SLO latency burns", 1200.0)
    assert one.is_open
    assert [moment.kind for moment in one.timeline] == ["opened", "closed", "opened"]


def test_it_closes_after_enough_good_looks_and_one_bad_look_begins_again() -> None:
    one = fresh()
    for _ in range(RECOVERED_LOOKS - 1):
        one = life.looked(one, is_wrong=False, now_s=1100.0)
    one = life.looked(one, is_wrong=True, now_s=1100.0)
    for number in range(RECOVERED_LOOKS):
        assert one.is_open, number
        one = life.looked(one, is_wrong=False, now_s=1200.0)
    assert one.closed_at_s == 1200.0


def test_a_recovery_keeps_the_causes_it_had() -> None:
    one = life.explained(fresh(), diagnosed(), (), (0.0, 900.0), 1010.0)
    after = life.explained(one, diagnosed(is_wrong=False), (), (0.0, 900.0), 1100.0)
    assert after.causes == one.causes


def test_a_cause_is_noted_when_it_becomes_the_likeliest_and_not_again_while_it_stays() -> None:
    one = life.explained(fresh(), diagnosed(), (), (0.0, 900.0), 1010.0)
    one = life.explained(one, diagnosed(), (), (0.0, 900.0), 1070.0)
    one = life.explained(one, diagnosed("noisy_tenant"), (), (0.0, 900.0), 1130.0)
    assert [moment.at_s for moment in one.timeline if moment.kind == "cause"] == [1010.0, 1130.0]


@given(st.lists(st.floats(0, 1e6), max_size=3 * TIMELINE_MAX))
def test_a_timeline_is_in_order_bounded_and_keeps_its_beginning(times: list[float]) -> None:
    changes = [Change(at_s, "scale", f"change {number}") for number, at_s in enumerate(times)]
    one = life.explained(fresh(), diagnosed(), changes, (0.0, 900.0), 1010.0)
    seen = [moment.at_s for moment in one.timeline]
    assert seen == sorted(seen)
    assert len(seen) <= TIMELINE_MAX
    assert seen[:HEAD_KEPT] == sorted([*times, 1000.0, 1010.0])[:HEAD_KEPT]
