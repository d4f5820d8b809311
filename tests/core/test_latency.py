"""What an engine call takes: what the line learns, what each bucket knows, and what must hold for any engine."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import latency
from stoker.core.latency import LINES_MAX, Line, Lines, bound_s, expected_s, learned, runs_inline
from tests.core.lines import MS, line_of, teach

SHORT, LONG = ((8,),), ((512,),)


def test_the_line_finds_what_an_engine_costs() -> None:
    line = line_of(4 * MS, 0.5 * MS, noise_s=0.2 * MS)
    assert line.base_s == pytest.approx(4 * MS, rel=0.1)
    assert line.row_s == pytest.approx(0.5 * MS, rel=0.1)
    assert bound_s(line, 16) < 13 * MS


def test_the_line_follows_an_engine_that_became_slower() -> None:
    line = line_of(1 * MS, 0.1 * MS)
    for number in range(300):
        rows = 1 + number % 32
        line = learned(line, rows, 20 * MS + 2 * MS * rows, 0.0)
    assert expected_s(line, 10) == pytest.approx(40 * MS, rel=0.15)


def test_the_margin_stays_above_about_nineteen_of_twenty_calls() -> None:
    draw = random.Random(11)
    line, late, calls = Line(), 0, 4000
    for number in range(calls):
        rows = draw.randint(1, 32)
        took_s = 2 * MS + 0.1 * MS * rows + draw.expovariate(1 / (0.3 * MS))
        if number > 200:
            late += took_s > bound_s(line, rows)
        line = learned(line, rows, took_s, 0.0)
    assert 0.02 < late / calls < 0.09


def test_the_place_of_short_calls_is_the_loop_and_noise_does_not_move_it() -> None:
    between_s = (latency.INLINE_BELOW_S + latency.INLINE_ABOVE_S) / 2
    assert runs_inline(line_of(0.1 * MS, 0.0), 1, was_inline=False)
    assert not runs_inline(line_of(5 * MS, 0.0), 1, was_inline=True)
    assert runs_inline(line_of(between_s, 0.0), 1, was_inline=True)
    assert not runs_inline(line_of(between_s, 0.0), 1, was_inline=False)
    assert not runs_inline(Line(), 1, was_inline=True)  # unknown code never runs in the loop


def test_an_engine_that_became_slow_leaves_the_loop_within_a_few_calls_and_comes_back() -> None:
    line = line_of(0.1 * MS, 0.0)
    for _ in range(2):
        line = learned(line, 1, 4 * MS, 0.0)
    assert not runs_inline(line, 1, was_inline=True)
    calls = 0
    while not runs_inline(line, 1, was_inline=False):
        line = learned(line, 1, 0.1 * MS, 0.0)
        calls += 1
    assert calls < 100


def test_each_bucket_has_a_line_of_its_own() -> None:
    lines = teach(teach(Lines(), SHORT, 1 * MS, 0.1 * MS), LONG, 20 * MS, 5 * MS)
    assert bound_s(lines.of(SHORT), 10) == pytest.approx(2 * MS, rel=0.1)
    assert bound_s(lines.of(LONG), 10) == pytest.approx(70 * MS, rel=0.1)


def test_a_bucket_nobody_measured_borrows_from_the_others_by_its_size() -> None:
    lines = Lines()
    for number in range(200):  # 1 ms and 10 µs a value
        shapes, values = (SHORT, 8) if number % 2 else (LONG, 512)
        rows = 1 + number % 7
        lines.learn(shapes, rows, 1 * MS + rows * values * 0.01 * MS, 0.0)
    guess = lines.of(((100,),))
    assert guess.is_guess
    assert expected_s(guess, 3) == pytest.approx(4 * MS, rel=0.1)
    assert not runs_inline(teach(Lines(), SHORT, 0.0, 0.0).of(LONG), 1, was_inline=True)
    for _ in range(latency.LEARNED_CALLS):
        lines.learn(((100,),), 3, 9 * MS, 0.0)
    assert not lines.of(((100,),)).is_guess


def test_all_buckets_together_are_the_only_one_or_rows_of_their_mean_size() -> None:
    assert Lines().overall() == Line()
    lines = teach(Lines(), SHORT, 1 * MS, 0.1 * MS)
    assert lines.overall() == lines.of(SHORT)
    lines = Lines()
    for number in range(300):  # 1 ms and 10 µs a value; as many of 8 values as of 512
        shapes, values = (SHORT, 8) if number % 2 else (LONG, 512)
        rows = 1 + number % 7
        lines.learn(shapes, rows, 1 * MS + rows * values * 0.01 * MS, 0.0)
    assert expected_s(lines.overall(), 10) == pytest.approx(1 * MS + 10 * 260 * 0.01 * MS, rel=0.1)


def test_with_one_bucket_alone_nothing_is_guessed_of_another() -> None:
    assert teach(Lines(), SHORT, 1 * MS, 0.1 * MS).of(LONG) == Line()


def test_lines_are_bounded_and_the_longest_unused_is_forgotten() -> None:
    lines = Lines()
    for size in range(1, 3 * LINES_MAX):
        lines.learn(((size,),), 1, 1 * MS, 0.0)
        for _ in range(latency.LEARNED_CALLS):
            lines.learn(SHORT, 1, 2 * MS, 0.0)  # in use all the time
    assert len(lines) == LINES_MAX
    assert not lines.of(SHORT).is_guess
    assert lines.of(((20,),)).is_guess
    assert lines.of(((3 * LINES_MAX - 1,),)).is_guess  # one call is no line yet


calls = st.lists(st.tuples(st.integers(1, 64), st.floats(0, 10)), max_size=30)


@given(seen=calls)
def test_whatever_was_seen_the_line_is_finite_and_never_promises_less_for_more(seen: list[tuple[int, float]]) -> None:
    line = Line()
    for rows, took_s in seen:
        line = learned(line, rows, took_s, 0.0)
    numbers = [line.base_s, line.row_s, line.margin_s, bound_s(line, 1), bound_s(line, 64)]
    assert all(math.isfinite(number) and number >= 0 for number in numbers)
    assert bound_s(line, 64) >= bound_s(line, 1)


@given(seen=st.lists(st.tuples(st.sampled_from([SHORT, LONG, ((1, 2), (3,))]), st.integers(1, 64), st.floats(0, 10))))
def test_whatever_was_seen_of_whom_a_guess_is_finite_and_says_that_it_is_one(
    seen: list[tuple[latency.Shapes, int, float]],
) -> None:
    lines = Lines()
    for shapes, rows, took_s in seen:
        lines.learn(shapes, rows, took_s, 0.0)
    of_nobody = lines.of(((77,),))
    assert math.isfinite(bound_s(of_nobody, 64))
    assert bound_s(of_nobody, 64) >= bound_s(of_nobody, 1) >= 0
    assert of_nobody.is_guess or of_nobody.calls == 0
