"""One holder at a time, whoever stalls, dies or races."""

import subprocess
import sys
from pathlib import Path

import pytest

from stoker.store import leases, settings
from stoker.store.engine import Database
from stoker.store.leases import Lease, LeaseLost
from tests.control.rig import until

# Each racer takes the lease when it can, and writes under it: a counter in the database and a line of its own.
# It stalls now and then for longer than the lease lives, in the middle between taking and writing.
RACER = """
import random, sys, time
from pathlib import Path
from stoker.store import leases, settings
from stoker.store.engine import Database, open_engine, sqlite_url
path, name = Path(sys.argv[1]), sys.argv[2]
database = Database(open_engine(sqlite_url(path)))
random.seed(name)
while not path.with_name("over").exists():
    held = database.write(lambda c: leases.acquire(c, "loop", name, time.time(), 0.05))
    if held is None:
        time.sleep(0.005)
        continue
    if random.random() < 0.3:
        time.sleep(0.08)
    def work(c):
        leases.guard(c, held)
        count = int(settings.get(c, "count") or 0) + 1
        settings.put(c, "count", str(count))
        return count
    try:
        count = database.write(work)
    except leases.LeaseLost:
        print("lost", held.token, flush=True)
    else:
        print("wrote", held.token, count, flush=True)
database.close()
"""


def take(database: Database, holder: str, now_s: float) -> Lease | None:
    return database.write(lambda connection: leases.acquire(connection, "loop", holder, now_s, 10.0))


def test_only_one_holds_it_until_it_expires_and_every_change_of_hands_has_a_higher_token(database: Database) -> None:
    first = take(database, "a", 100.0)
    assert first == Lease("loop", "a", 1)
    assert take(database, "b", 105.0) is None
    assert take(database, "a", 109.0) == first
    assert take(database, "b", 118.0) is None
    assert take(database, "b", 120.0) == Lease("loop", "b", 2)
    assert take(database, "a", 121.0) is None


def test_a_holder_that_let_it_expire_gets_a_new_token_even_if_nobody_came(database: Database) -> None:
    assert take(database, "a", 100.0) == Lease("loop", "a", 1)
    assert take(database, "a", 200.0) == Lease("loop", "a", 2)


def test_a_write_under_a_lost_lease_is_refused_and_leaves_nothing(database: Database) -> None:
    old = take(database, "a", 100.0)
    assert old is not None
    take(database, "b", 200.0)

    def write(connection: object) -> None:
        leases.guard(connection, old)  # type: ignore[arg-type]
        settings.put(connection, "a", "1")  # type: ignore[arg-type]

    with pytest.raises(LeaseLost):
        database.write(write)
    assert database.read(lambda connection: settings.get(connection, "a")) is None


def test_a_released_lease_is_free_at_once_and_releasing_a_lost_one_changes_nothing(database: Database) -> None:
    first = take(database, "a", 100.0)
    assert first is not None
    database.write(lambda connection: leases.release(connection, first))
    second = take(database, "b", 101.0)
    assert second is not None
    database.write(lambda connection: leases.release(connection, first))
    assert take(database, "c", 102.0) is None


def test_a_broken_lease_goes_to_the_next_with_a_higher_token(database: Database) -> None:
    take(database, "dead", 100.0)
    database.write(lambda connection: leases.break_lease(connection, "loop"))
    assert take(database, "next", 100.1) == Lease("loop", "next", 2)


def test_processes_that_race_and_stall_never_write_under_one_token_from_two_holders(
    path: Path, database: Database
) -> None:
    said = {name: path.with_name(name) for name in ("a", "b", "c", "d")}
    racers = []
    for name, file in said.items():
        with file.open("w") as output:
            argv = [sys.executable, "-c", RACER, str(path), name]
            racers.append(subprocess.Popen(argv, stdout=output, stderr=subprocess.PIPE, text=True))
    try:
        until(lambda: all(len(each.read_text().splitlines()) > 5 for each in said.values()), "each had its turns")
    finally:
        path.with_name("over").touch()
        ended = [(racer.communicate(timeout=60)[1], racer.returncode) for racer in racers]
    assert ended == [("", 0)] * 4
    holders: dict[int, set[str]] = {}
    counts: list[tuple[int, int]] = []
    for name, file in said.items():
        for line in file.read_text().splitlines():
            words = line.split()
            holders.setdefault(int(words[1]), set()).add(name)
            if words[0] == "wrote":
                counts.append((int(words[2]), int(words[1])))
    assert all(len(names) == 1 for names in holders.values()), holders
    assert len(holders) > 3, "the lease never changed hands: the test shows nothing"
    # Every acknowledged write is there once, and the tokens of writes in order never go back.
    counts.sort()
    assert [count for count, _ in counts] == list(range(1, len(counts) + 1))
    assert [token for _, token in counts] == sorted(token for _, token in counts)
    assert database.read(lambda connection: settings.get(connection, "count")) == str(len(counts))


def test_a_database_that_was_restored_gets_above_what_its_nodes_have_seen(database: Database) -> None:
    held = take(database, "a", 100.0)
    assert held is not None
    higher = database.write(lambda connection: leases.outrank(connection, held, 41))
    assert higher == Lease("loop", "a", 42)
    assert take(database, "a", 101.0) == higher
    with pytest.raises(LeaseLost):
        database.write(lambda connection: leases.outrank(connection, held, 50))
