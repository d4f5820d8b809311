"""When something began."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.core.diagnose.onset import Point, onset_s, silent_since_s

# Many fields; the machine that runs this is seldom alone.
unhurried = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def series(latencies: list[float], failed: list[float] | None = None) -> list[Point]:
    return [
        Point(60.0 * number, 100.0, latency, failed[number] if failed else 0.0)
        for number, latency in enumerate(latencies)
    ]


def test_a_step_is_found_where_it_is() -> None:
    noisy = [1.0 + 0.05 * (number % 3) for number in range(30)]
    assert onset_s(series([*noisy, 3.0, 2.9, 3.2])) == 30 * 60.0


def test_failures_are_found_while_the_latency_stays() -> None:
    assert onset_s(series([1.0] * 20, [0.001] * 15 + [0.2] * 5)) == 15 * 60.0


def test_a_queue_that_grows_is_dated_to_its_first_minute_not_to_the_middle_of_its_slope() -> None:
    slope = [1.0 * 1.5**step for step in range(1, 11)]
    found = onset_s(series([1.0, 1.02, 0.99, 1.01] * 5 + slope))
    assert found is not None
    assert abs(found - 20 * 60.0) <= 60.0


def test_one_terrible_minute_is_no_onset() -> None:
    assert onset_s(series([1.0, 1.05] * 10 + [20.0] + [1.0, 1.05] * 10)) is None


def test_what_got_better_is_no_onset() -> None:
    assert onset_s(series([3.0] * 15 + [1.0] * 15)) is None


def seconds(requests: list[float]) -> list[Point]:
    return [Point(5.0 * number, count, 1.0, 0.0) for number, count in enumerate(requests)]


def test_what_stood_still_began_when_the_last_answer_had_come_not_when_the_first_came_again() -> None:
    points = seconds([25.0] * 40 + [0.0] * 6 + [120.0, 25.0])
    assert silent_since_s(points, 46 * 5.0) == 40 * 5.0
    assert silent_since_s(points, 30 * 5.0) == 30 * 5.0


def test_where_pauses_are_usual_a_pause_is_no_beginning() -> None:
    points = seconds([3.0, 0.0, 0.0] * 15 + [0.0, 0.0, 30.0])
    assert silent_since_s(points, 47 * 5.0) == 47 * 5.0
    assert silent_since_s(seconds([0.0, 0.0, 9.0]), 10.0) == 10.0


@unhurried
@given(
    st.lists(
        st.builds(
            Point,
            st.floats(0, 1e9),
            st.floats(0, 1e6),
            st.floats(0, 1e6),
            st.floats(-1, 2),
        ),
        max_size=40,
    )
)
def test_any_series_gives_a_moment_of_it_or_none(points: list[Point]) -> None:
    found = onset_s(points)
    assert found is None or found in {point.at_s for point in points}
