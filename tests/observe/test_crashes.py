"""Killed anywhere, a disk that is full, a file that is broken: nothing is counted twice, and control goes on."""

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.observe.history import tables, writes
from stoker.observe.history.levels import LEVELS, Level
from stoker.observe.port import Series
from stoker.types.errors import Unavailable
from tests.observe.rig import LATENCY, REQUESTS, START_S, Counting, Rig

ROOT = Path(__file__).parents[2]
COUNTER = Series("stoker_requests_total", "counter", (("code", "200"),))
# Counts without pause, a minute at a time; says what it has counted before each minute is written.
WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.observe.rig import Counting, Rig
rig = Rig(Path(sys.argv[1]))
rig.clock.now_s = float(sys.argv[3])
process = Counting()
process.request(float(sys.argv[4]))
while True:
    process.request(3)
    process.latency(0.1)
    sys.stdout.write(f"{rig.clock.now_s} {process.registry.snapshot().total('stoker_requests_total')}\\n")
    sys.stdout.flush()
    rig.tick(process, seconds=20)
"""


class Killed(BaseException):
    """The process ends here."""


class Mortal(sqlite3.Connection):
    """A connection whose process is killed before its statement number `left`; what was not committed is gone."""

    left = 1 << 30

    def execute(self, *arguments: object) -> sqlite3.Cursor:
        self._live()
        return super().execute(*arguments)  # type: ignore[arg-type]

    def executemany(self, *arguments: object) -> sqlite3.Cursor:
        self._live()
        return super().executemany(*arguments)  # type: ignore[arg-type]

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


def sums(connection: sqlite3.Connection) -> dict[str, float]:
    """Return the sum of every level, with the finer ones for the time that it has not taken up yet."""

    def total(level: Level, since_s: int, until_s: int) -> float:
        sql = f"SELECT total(value) FROM {level.name} WHERE at >= ? AND at < ?"
        return float(connection.execute(sql, (since_s, until_s)).fetchone()[0])

    minute, five, hour = tables.read_levels(connection)
    later = total(minute, five.until_s, 1 << 40)
    return {
        "minute": total(minute, 0, 1 << 40),
        "five": total(five, 0, five.until_s) + later,
        "hour": total(hour, 0, hour.until_s) + total(five, hour.until_s, five.until_s) + later,
    }


@settings(max_examples=60, deadline=None)
@given(
    kills=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    steps=st.lists(st.integers(1, 130), min_size=8, max_size=30),
)
def test_killed_before_any_statement_every_level_still_sums_to_what_was_written(
    kills: list[int], steps: list[int]
) -> None:
    """The writer is killed again and again, each time at another statement, and repeats what it was doing."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=Mortal)
    tables._prepare(connection, 1 << 30)
    now_s, written, ids = START_S, 0, {}
    deaths = list(kills)
    for number, step in enumerate(steps):
        now_s += step * 60
        cells = {now_s - 60: {COUNTER: float(number + 1)}}
        done = False
        while not done:
            connection.left = deaths.pop() if deaths else 1 << 30
            try:
                if written <= number:
                    ids, _ = writes.flush(connection, writes.Flush(cells, (), now_s), ids)
                    written = number + 1
                writes.roll_up(connection)
                writes.forget(connection, 1 << 30)
                done = True
            except Killed:
                connection.left = 1 << 30
                if connection.in_transaction:
                    connection.rollback()
                (total,) = connection.execute("SELECT total(value) FROM minute").fetchone()
                written = number + 1 if total == sum(range(1, number + 2)) else number
                ids = tables.read_series(connection)
            connection.left = 1 << 30
            expected = sum(range(1, written + 1))
            assert sums(connection) == {level.name: expected for level in LEVELS}
    connection.close()


def test_a_writer_killed_at_random_moments_has_counted_everything_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    chance = random.Random(7)
    Rig(path).close()
    now_s, counted = float(START_S), 0.0
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(ROOT), str(now_s), str(counted)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(chance.randint(20, 60))]
        assert all(lines), "the writer ended by itself"
        writer.send_signal(signal.SIGKILL)
        lines += writer.communicate()[0].splitlines()  # few or many, as the writer was ahead
        now_s, counted = (float(word) for word in lines[-2].split())
        rig = Rig(path)
        rig.clock.now_s = now_s + 60
        # The account is stored in the transaction of its rows: both say the same.
        held = rig.history._accounts.held()["gateway-0"].snapshot.total("stoker_requests_total")
        stored = rig.history._connection.execute("SELECT total(value) FROM minute WHERE body IS NULL").fetchone()[0]
        assert held == stored
        assert counted - held <= 3 * 60 / 20, "more than the last minute is gone"
        counted = held
        rig.close()
    assert counted > 100


def test_a_full_disk_stops_nothing_and_loses_nothing(rig: Rig) -> None:
    process = Counting()
    rig.tick(process, seconds=60)
    connection = rig.history._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")

    def work(number: int) -> None:
        for code in range(200, 260):
            process.request(code=str(code))
        process.latency(0.1 * (number + 1))

    rig.minutes(90, process, each=work)
    assert rig.history.failures > 80
    assert rig.total(3600) == 60 * 60, "the ring goes on"
    assert len(rig.history._pending) <= 60
    connection.execute("PRAGMA max_page_count = 100000")
    rig.minutes(1, process)
    assert rig.total(86_400) == 90 * 60
    assert rig.run(rig.history.distribution(LATENCY, 86_400)).count == 90


def break_pages(path: Path) -> None:
    """Overwrite everything behind the file's head."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(100)
        file.write(b"\xff" * (size - 100))


def moved_aside(rig: Rig) -> int:
    return len([each for each in rig.path.parent.glob("*.broken-*") if each.name[-1].isdigit()])


def test_a_file_broken_while_it_is_used_is_moved_aside_and_a_new_one_begun(rig: Rig) -> None:
    process = Counting()
    rig.tick(process, seconds=60)
    rig.minutes(80, process, each=lambda _: process.request())
    assert rig.history._connection is not None
    rig.history._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    break_pages(rig.path)
    with pytest.raises(Unavailable, match="cannot be read"):
        rig.total(86_400)
    rig.minutes(10, process, each=lambda _: process.request())
    assert moved_aside(rig) == 1
    assert rig.total(3600) == 60, "the ring knows the last hour still"
    assert rig.total(86_400) >= 10
    rig.reopen()
    assert rig.total(86_400) >= 10


def test_a_file_found_broken_at_the_start_is_moved_aside(rig: Rig) -> None:
    process = Counting()
    rig.tick(process, seconds=60)
    rig.minutes(5, process, each=lambda _: process.request(100))
    rig.run(rig.history.close())
    break_pages(rig.path)
    rig.history = rig.open()
    rig.tick(process, seconds=60)
    process.request(2)
    rig.minutes(2, process)
    assert moved_aside(rig) == 1
    assert rig.total(86_400) == 2, "what was counted before nobody watched is not of this minute"


@pytest.mark.parametrize("content", [b"not a database at all" * 400, b"", b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_database_does_not_keep_control_from_starting(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metrics.db"
    path.write_bytes(content)
    rig = Rig(path)
    process = Counting()
    rig.tick(process)
    process.request(2)
    rig.minutes(2, process)
    assert rig.total(86_400) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    rig.close()


def test_a_folder_that_cannot_be_written_leaves_the_ring(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "missing" / "metrics.db")
    process = Counting()
    rig.tick(process, seconds=60)
    rig.minutes(5, process, each=lambda _: process.request())
    assert rig.total(300, REQUESTS) == 5
    (tmp_path / "missing").mkdir()
    rig.minutes(1, process)
    rig.reopen()
    assert rig.total(86_400) == 5
    rig.close()
