"""How far a start is: a table an operator would ask about, and what holds for every start."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.loading import RATIO_MAX, SPREAD_MIN_S, SPREAD_RATIO, far, fits, onward, retry_after_s, usual, words
from stoker.types.loading import Loading, Seen, Usual
from stoker.types.starts import ORDER, Start

TIMES: Usual = (("process", 0.5), ("imports", 1.5), ("verify", 2.0), ("weights", 14.0), ("warm-up", 2.0))
IMPORTED = {"imports": 1.5}
NAMES = ("process", "imports", "verify", "engine", "weights", "warm-up")
seconds = st.floats(0.01, 1000.0)


@pytest.mark.parametrize(
    ("stage", "stage_s", "fraction", "said"),
    [
        (ORDER, 0.0, 0.0, "loading 0 %, about 20 s"),
        (ORDER, 3.0, 0.0, "waits to be started, then about 20 s"),  # there is no room, or nobody to do it
        ("", 1.0, 0.0, "loading 5 %, about 19 s"),
        ("verify", 1.0, 0.0, "loading 15 %, about 17 s"),
        ("verify", 4.0, 0.5, "loading 7 %, about 18 s"),  # a slow disk: its own speed counts
        ("weights", 7.0, 0.0, "loading 55 %, about 9 s"),
        ("weights", 15.0, 0.0, "loading 95 %, about 1 s"),  # nobody is heard who warms up
        ("", 9.0, 0.0, "loading 10 %, longer than the usual 20 s"),  # it would be heard before its load
        ("weights", 30.0, 0.0, "loading 99 %, longer than the usual 20 s"),
        ("warm-up", 2.5, 0.0, "loading 99 %, about 1 s"),
        ("measuring llamacpp 1/2", 2.5, 0.1, "loading, longer than the usual 20 s"),
    ],
)
def test_what_is_said_of_a_start(stage: str, stage_s: float, fraction: float, said: str) -> None:
    assert words(far(TIMES, Seen(stage, stage_s, fraction, IMPORTED if stage == "verify" else {}))) == said


def test_what_a_replica_says_beside_its_stage_counts() -> None:
    assert words(far(TIMES, Seen(answers=True, stage_s=9.0))) == "loading 10 %, about 18 s"  # its load begins
    assert (
        words(far(TIMES, Seen("imports", 0.6, over={"imports": 0.4, "verify": 1.9}))) == "loading 17 %, about 16 s"
    )  # the engine's
    assert words(far(TIMES, Seen(is_ready=True))) == "loading 99 %, about 1 s"


def test_nothing_measured_is_said_and_nobody_is_sent_away_for_it() -> None:
    found = far((), Seen("weights", 3.0, 0.7))
    assert words(found) == "loading for the first time"
    assert fits(found, 0.001)
    assert retry_after_s(found, 0.5) is None


def start(revision: str = "e-2", **phases: float) -> Start:
    return Start("r", revision, "onnx", 0.0, {name.replace("_", "-"): each for name, each in phases.items()}, 0.0)


def test_the_usual_times_are_those_of_the_newest_revision_with_the_phases_of_its_newest_start() -> None:
    new = [start(process=0.5, weights=each, warm_up=0.001) for each in (3.123, 2.0, 9.0, 3.0, 4.0)]
    other = [start("e-1", process=9.0, weights=99.0, server=99.0)] * 9
    assert usual([*new[:2], *other, *new[2:]]) == (("process", 0.5), ("weights", 3.1))
    assert usual([]) == ()


def test_a_start_that_was_forked_is_measured_by_others_that_were() -> None:
    forked = [start(forked=0.02, imports=0.03)] * 2
    alone = [start(process=0.1, imports=3.0)] * 9
    assert usual([*forked, *alone]) == (("forked", 0.02), ("imports", 0.03))
    assert usual([alone[0], *forked, *alone]) == (("process", 0.1), ("imports", 3.0))


@given(st.lists(seconds, min_size=6, max_size=6), st.lists(seconds, min_size=6, max_size=6), st.floats(0.05, 0.5))
def test_a_start_never_goes_back_and_is_never_there_before_it_is(
    expected: list[float], real: list[float], step: float
) -> None:
    times = tuple(zip(NAMES, expected, strict=True))
    said: Loading | None = None
    ratios = []
    for name, lasts_s in zip(NAMES, real, strict=True):
        for part in range(int(1 / step) + 1):
            seen = "" if name in ("process", "imports") else name
            before_s = real[0] if name == "imports" else 0.0
            said = onward(said, far(times, Seen(seen, before_s + min(part * step, 1.0) * lasts_s)))
            assert said.ratio is not None
            assert said.left_s is not None
            ratios.append(said.ratio)
    assert all(one <= other for one, other in pairwise(ratios))
    assert ratios[0] >= 0.0
    assert ratios[-1] <= RATIO_MAX


@given(st.lists(seconds, min_size=6, max_size=6), st.floats(0, 1))
def test_a_start_like_those_before_it_takes_as_long_as_it_says(expected: list[float], at: float) -> None:
    times = tuple(zip(NAMES, expected, strict=True))
    passed_s = at * sum(expected)
    left_s = sum(expected) - passed_s
    for name, lasts_s in times:
        if passed_s <= lasts_s or name == NAMES[-1]:
            break
        passed_s -= lasts_s
    if name in ("process", "imports"):
        name, passed_s = "", passed_s + (expected[0] if name == "imports" else 0.0)
    over = {"imports": expected[1]} if name else {}
    assert far(times, Seen(name, passed_s, over=over)).left_s == pytest.approx(left_s, abs=1e-6)


@given(st.floats(0, 300), st.floats(0, 1))
def test_who_is_sent_away_comes_back_when_it_is_there_and_not_much_later(left_s: float, draw: float) -> None:
    found = retry_after_s(Loading("weights", 0.5, left_s, 2 * left_s), draw)
    assert found is not None
    assert left_s <= found <= left_s + max(SPREAD_RATIO * left_s, SPREAD_MIN_S)


@given(st.floats(0.1, 300), st.floats(0, 600))
def test_nobody_is_sent_away_who_has_as_long_as_is_left(load_s: float, deadline_s: float) -> None:
    found = Loading("weights", 0.5, load_s, 2 * load_s)
    assert fits(found, deadline_s) or deadline_s < load_s
