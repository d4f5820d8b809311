"""What goes in comes out, over restarts of everything, whatever the window."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stoker.observe.history import tables
from stoker.observe.port import like, select
from stoker.types.errors import InvalidInput
from tests.observe.rig import LATENCY, REQUESTS, START_S, Counting, Rig

DAY_S = 86_400


def test_processes_that_count_the_same_add_up(rig: Rig) -> None:
    one, other = Counting("gateway-0"), Counting("gateway-1")
    rig.tick(one, other)
    one.request(3)
    other.request(4)
    one.queue(2)
    other.queue(5)
    rig.tick(one, other)
    assert rig.total(60) == 7
    (row,) = rig.run(rig.history.known(select("stoker_queue_depth")))
    assert row == {"project": "default", "endpoint": "a"}


def test_a_process_that_restarts_counts_from_zero_and_one_that_vanishes_takes_nothing_back(rig: Rig) -> None:
    process, vanishing = Counting("gateway-0"), Counting("gateway-1")
    rig.tick(process, vanishing)
    process.request(100)
    vanishing.request(10)
    rig.tick(process, vanishing)
    process.restart()
    process.request(5)
    rig.tick(process)
    process.request(1)
    rig.tick(process)
    assert rig.total(3600) == 116


def test_a_process_that_missed_some_questions_is_counted_whole_when_it_answers(rig: Rig) -> None:
    late = Counting()
    rig.tick(late)
    late.request(7)
    rig.tick()
    rig.tick()
    late.request(1)
    rig.tick(late)
    assert rig.total(5) == 8


def test_a_new_history_does_not_take_the_past_for_the_present(rig: Rig) -> None:
    old, young = Counting("gateway-0"), Counting("gateway-1")
    old.request(1_000_000)
    rig.tick(old)
    young.request(3)
    old.request(2)
    rig.tick(old, young)
    assert rig.total(3600) == 5


def test_control_that_is_killed_counts_nothing_twice_and_loses_nothing_of_those_that_ran_on(rig: Rig) -> None:
    process = Counting()
    rig.tick(process)
    process.request(10)
    rig.minutes(2, process)
    process.request(3)  # seen, and not written: less than a minute ago
    rig.tick(process)
    rig.forsake()
    process.request(4)  # while nobody watched
    rig.clock.now_s += 600
    rig.history = rig.open()
    rig.tick(process)
    assert rig.total(3600) == 17
    rig.minutes(1, process)
    assert rig.total(DAY_S) == 17


def test_what_a_process_forgot_is_not_lost_with_a_control_that_is_killed_soon_after(rig: Rig) -> None:
    process = Counting()
    rig.tick(process)
    process.request(10, revision="default.a-1")
    rig.minutes(2, process)
    process.request(7, revision="default.a-1")
    rig.tick(process)
    process.registry.forget(revision="default.a-1")  # a gateway does when it is rolled back
    process.request(3, revision="default.a-2")
    rig.tick(process)
    rig.tick(process)
    rig.forsake()
    rig.history = rig.open()
    rig.tick(process)
    assert rig.total(3600) == 20


def test_a_restart_in_the_middle_of_a_minute_changes_no_answer(rig: Rig) -> None:
    process = Counting()
    rig.tick(process)
    for second in range(200):
        process.request(second)
        process.latency(0.01 * (second + 1))
        rig.tick(process)
        if second in (50, 57, 120):
            before = [rig.total(window) for window in (300, 3600, DAY_S)]
            rig.reopen()
            assert [rig.total(window) for window in (300, 3600, DAY_S)] == pytest.approx(before, rel=0.05)
    assert rig.total(3600) == rig.total(7 * DAY_S) == sum(range(200))
    assert rig.run(rig.history.distribution(LATENCY, DAY_S)).count == 200


def test_windows_of_a_month_are_read_from_hours_and_are_exact_at_their_end(rig: Rig) -> None:
    process = Counting()
    rig.tick(process, seconds=60)

    def work(number: int) -> None:
        process.request(1)
        process.latency(0.1 if number % 4 else 1.0)

    rig.minutes(3 * 60 + 7, process, each=work)
    fast = select("stoker_request_duration_seconds", at_most=0.3, endpoint="a")
    for window_s in (60, 300, 3600, 2 * 3600, 30 * DAY_S):
        (all_of_it,), (seen,), (good,) = rig.run(rig.history.sums([REQUESTS, LATENCY, fast], [window_s]))
        expected = min(window_s // 60, 187)
        assert (all_of_it, seen) == (expected, expected)
        assert good == pytest.approx(expected * 3 / 4, abs=1)
    assert rig.run(rig.history.sums_by(REQUESTS, ("revision", "code"), [3600.0])) == {("default.a-1", "200"): (60.0,)}


def test_adjacent_windows_share_nothing_and_leave_nothing_out(rig: Rig) -> None:
    process = Counting()
    rig.tick(process)
    rig.minutes(200, process, each=process.request)
    ends = [rig.clock.now_s - seconds for seconds in range(0, 11_000, 35)]
    parts = [rig.run(rig.history.sums([REQUESTS], [35.0], now_s=end))[0][0] for end in ends]
    whole = rig.run(rig.history.sums([REQUESTS], [35.0 * len(ends)]))[0][0]
    assert sum(parts) == whole


def test_a_clock_that_goes_back_loses_nothing(rig: Rig) -> None:
    process = Counting()
    rig.tick(process)
    rig.minutes(10, process, each=lambda _: process.request())
    rig.clock.now_s -= 300
    rig.minutes(3, process, each=lambda _: process.request())
    rig.clock.now_s += 600
    rig.tick(process)
    assert rig.total(3600) == 13
    rig.minutes(80, process)
    assert rig.total(DAY_S) == 13


def test_what_is_over_a_maximum_is_refused_in_words(rig: Rig) -> None:
    with pytest.raises(InvalidInput, match="a window of 1 s"):
        rig.total(1)
    with pytest.raises(InvalidInput, match="is a gauge"):
        rig.total(60, select("stoker_queue_depth"))
    with pytest.raises(InvalidInput, match="is not known"):
        rig.total(60, select("stoker_requests_total", code=like("(5..)")))
    process = Counting()
    rig.tick(process)
    for number in range(600):
        process.request(endpoint=f"e{number}")
    rig.tick(process)
    with pytest.raises(InvalidInput, match="600 such series"):
        rig.total(60, select("stoker_requests_total"))


def test_what_is_older_than_it_is_kept_is_gone_and_the_hours_stay(rig: Rig) -> None:
    process = Counting()
    rig.tick(process)
    for _ in range(40 * 4):
        process.request()
        rig.tick(process, seconds=6 * 3600)
    rows = sqlite3.connect(rig.path)
    oldest = {name: rows.execute(f"SELECT min(at) FROM {name}").fetchone()[0] for name in ("minute", "five", "hour")}
    rows.close()
    assert oldest["minute"] >= rig.clock.now_s - 8 * DAY_S
    assert oldest["five"] >= rig.clock.now_s - 36 * DAY_S
    assert oldest["hour"] < START_S + DAY_S
    assert rig.total(100 * DAY_S) == 40 * 4


def test_a_file_that_grows_too_large_loses_its_oldest_hours_first(tmp_path: Path) -> None:
    bytes_max = 256 << 10
    rig = Rig(tmp_path / "metrics.db", bytes_max=bytes_max)
    process = Counting()
    rig.tick(process)

    def work(number: int) -> None:
        for each in range(100):
            process.request(code=str(200 + each))

    rig.minutes(4 * 60, process, each=work)
    assert rig.history.bytes_used <= bytes_max
    assert rig.path.stat().st_size <= 1.3 * bytes_max
    assert rig.total(3600) == 60 * 100
    assert 60 * 100 < rig.total(DAY_S) < 4 * 60 * 100
    assert rig.history.failures == 0
    rig.close()


def test_the_silent_series_make_room_for_new_ones(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.observe.history.writes.SERIES_KEPT_MAX", 10)
    process = Counting()
    rig.tick(process)
    for number in range(10):
        process.request(endpoint=f"old{number}")
    rig.minutes(2, process)
    process.restart()
    rig.minutes(4 * 60, process, each=lambda _: process.request(endpoint="old0"))
    for number in range(12):
        process.request(endpoint=f"new{number}")
    rig.minutes(2, process)
    stored = {each["endpoint"] for each in rig.run(rig.history.known(select("stoker_requests_total")))}
    assert "old0" in stored
    assert rig.history.series_count == 10
    assert rig.history.refused >= 3


def test_a_file_of_a_newer_stoker_is_kept_aside(rig: Rig) -> None:
    rig.run(rig.history.close())
    connection = sqlite3.connect(rig.path)
    connection.execute(f"PRAGMA user_version = {tables.VERSION + 1}")
    connection.close()
    rig.history = rig.open()
    process = Counting()
    rig.tick(process)
    process.request()
    rig.minutes(1, process)
    assert rig.total(3600) == 1
    (aside,) = rig.path.parent.glob("metrics.db.broken-*")
    with closing(sqlite3.connect(aside)) as kept:
        assert kept.execute("PRAGMA user_version").fetchone()[0] == tables.VERSION + 1
