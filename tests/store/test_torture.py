"""kill -9 in the middle of writes: what was acknowledged is there, what was not is whole or absent."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.store import endpoints, journal, models, projects, revisions
from stoker.store.engine import Database, open_engine, sqlite_url
from tests.store.rows import project

# Each turn writes a version, an endpoint on it, a revision, a replica and a journal entry in one transaction.
WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from stoker.store.engine import Database, open_engine, sqlite_url
from tests.store.rows import write_all
database = Database(open_engine(sqlite_url(Path(sys.argv[1]))))
number = int(sys.argv[2])
while True:
    number += 1
    database.write(lambda c: write_all(c, number))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""
ROOT = Path(__file__).parents[2]


def check(path: Path, acknowledged: int) -> int:
    """Return how many turns are in the database; fail unless it is whole and has all that were acknowledged."""
    database = Database(open_engine(sqlite_url(path)))
    try:
        with database.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []
            found = len(models.everything(connection))
            assert found >= acknowledged
            assert [each.number for each in models.everything(connection)] == list(range(1, found + 1))
            assert len(endpoints.everything(connection)) == found
            assert len(revisions.everything(connection)) == found
            assert len(revisions.assignments(connection)) == found
            assert journal.count(connection) == found
            return found
    finally:
        database.close()


@pytest.mark.timeout(120)
def test_killing_a_writer_at_random_moments_loses_nothing_acknowledged(path: Path, database: Database) -> None:

    database.write(lambda connection: projects.put(connection, project(), 1.0))
    random.seed(5)
    done = 0
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(done), str(ROOT)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(random.randint(1, 40)):
            said = writer.stdout.readline()
            assert said, "the writer ended by itself"
            done = int(said)
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        done = int(rest[-1]) if rest else done
        done = check(path, done)
    assert done > 10
