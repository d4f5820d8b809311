"""What control remembers of drift: sums stay true whatever restarts when, and windows slide."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import drift_window
from stoker.core.drift import DriftMemory, Judgement
from stoker.core.drift_window import SLICES_MAX, Watched
from stoker.types.drift import Counts, Feature, Null, Reference

FEATURE = Feature("x", "x", (0, 5, 5, 0, 0), Null((1,), (1.0,), (1.0,), (0.0,)), edges=(0.0, 1.0, 2.0))
REFERENCE = Reference((FEATURE,))


def counts(rows: int, since: str = "a", slots: tuple[int, ...] | None = None) -> Counts:
    return Counts(since, rows, 0, (slots or (0, rows, 0, 0, 0),))


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(0, 2), st.integers(1, 50)),
        st.tuples(st.just("restart"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("look"), st.just(0), st.integers(0, 7)),  # which of the three answer
        st.tuples(st.just("control dies"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(Steps)
def test_the_window_holds_every_row_that_a_look_saw_once_and_only_once(steps: list[tuple[str, int, int]]) -> None:
    counted, since, seen = [0, 0, 0], ["0", "1", "2"], [0, 0, 0]
    total, watched = 0, drift_window.begin(Watched(), "r-1", "sha")
    for number, (step, who, many) in enumerate(steps):
        if step == "count":
            counted[who] += many
        elif step == "restart":  # what it had not told is lost with it, and nothing else
            counted[who], since[who], seen[who] = 0, f"{who}/{number}", 0
        elif step == "look":
            answering = [at for at in range(3) if many >> at & 1]
            found = {f"r{at}": counts(counted[at], since[at]) for at in answering}
            watched = drift_window.take(watched, REFERENCE, found, 1e9, float(number))
            for at in answering:
                total, seen[at] = total + counted[at] - seen[at], counted[at]
        else:
            watched = msgspec.msgpack.decode(msgspec.msgpack.encode(watched), type=Watched)
        window = drift_window.window(watched)
        assert (window.rows if window else 0) == total
        assert (sum(window.slots[0]) if window else 0) == total
    assert len(watched.slices) <= SLICES_MAX


def test_what_lies_before_the_window_is_gone_and_slices_are_bounded() -> None:
    watched = drift_window.begin(Watched(), "r-1", "sha")
    for second in range(10_000):
        watched = drift_window.take(watched, REFERENCE, {"r": counts(second + 1)}, 600.0, float(second))
        assert len(watched.slices) <= SLICES_MAX
    window = drift_window.window(watched)
    assert window is not None
    assert 590 <= window.rows <= 610  # one row a second; a slice is 10 s


def test_counts_that_do_not_fit_change_no_sum() -> None:
    watched = drift_window.take(drift_window.begin(Watched(), "r-1", "sha"), REFERENCE, {"r": counts(5)}, 60.0, 0.0)
    hostile = {
        "negative": counts(-5, slots=(0, -5, 0, 0, 0)),
        "short": counts(5, slots=(5, 0)),
        "none": Counts("a", 5, 0, ()),
    }
    window = drift_window.window(drift_window.take(watched, REFERENCE, hostile, 60.0, 1.0))
    assert window is not None
    assert (window.rows, window.slots) == (5, ((0, 5, 0, 0, 0),))


def test_another_revision_begins_anew_but_does_not_send_the_event_again() -> None:
    watched = Watched(revision="r-1", reference="sha", is_drifted=True, triggered_s=100.0, rows=7)
    assert drift_window.begin(watched, "r-1", "sha") is watched
    assert drift_window.begin(watched, "r-2", "sha") == Watched(revision="r-2", reference="sha", triggered_s=100.0)


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(1, 1e6))
def test_an_event_is_due_only_when_drifted_and_after_the_cooldown(
    sent_s: float, now_s: float, cooldown_s: float
) -> None:
    calm, drifted = (Watched(is_drifted=is_drifted, triggered_s=sent_s) for is_drifted in (False, True))
    assert not drift_window.is_trigger_due(calm, cooldown_s, now_s)
    is_long_ago = sent_s == 0 or sent_s <= now_s - cooldown_s or sent_s > now_s  # from the future: the clock was wrong
    assert drift_window.is_trigger_due(drifted, cooldown_s, now_s) == is_long_ago


def test_too_few_rows_leave_drifted_what_was() -> None:
    few = Judgement(None, "too few", 3, (), DriftMemory(raised=("input:x",)))
    after = drift_window.judged(Watched(is_drifted=True, since_s=5.0), few, 0, 9.0)
    assert (after.is_drifted, after.since_s, after.because) == (True, 5.0, "too few")
