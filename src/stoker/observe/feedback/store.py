"""Where predictions wait for their labels: each label is joined once, in whatever order the two come, over any crash.

A call is one transaction: a killed control has done it or has not, and whoever asked asks again. A prediction is taken
once by its project, id, endpoint and revision; a label that came before it waits EARLY_S. Of two labels the later one
counts (core.feedback.replaces), so that repeating any call changes nothing.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from stoker.core.feedback import Label, Outcome, judge, replaces
from stoker.observe.feedback.tables import open_file, open_for_reading
from stoker.observe.history.tables import is_broken, transaction
from stoker.types.errors import Unavailable
from stoker.types.feedback import Prediction

EARLY_S: Final = 60.0
EARLY_MAX: Final = 10_000  # labels that wait; others are unknown at once
TRIM_RATIO: Final = 0.1  # so much over its maximum an endpoint may be between two trims
# When the file is full: the oldest tenth goes.
_CUT: Final = """DELETE FROM predictions WHERE at <=
  (SELECT at FROM predictions ORDER BY at LIMIT 1 OFFSET (SELECT count(*) / 10 FROM predictions))"""
# The label of an id: one that waits, or that of another revision's prediction.
_WAITED: Final = """SELECT how, given, at FROM early WHERE project = ?1 AND id = ?2 AND until > ?3
  UNION ALL SELECT how, given, labelled FROM predictions WHERE project = ?1 AND id = ?2 AND labelled IS NOT NULL
  ORDER BY 3 DESC LIMIT 1"""
_TRIM: Final = """DELETE FROM predictions WHERE project = ?1 AND endpoint = ?2 AND at <=
  (SELECT at FROM predictions WHERE project = ?1 AND endpoint = ?2 ORDER BY at DESC LIMIT 1 OFFSET ?3)"""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Source(NamedTuple):
    """Who made predictions, and how they are kept."""

    project: str
    endpoint: str
    revision: str
    keep_s: float
    max: int
    tolerance: float | None = None


class Joined(NamedTuple):
    """A prediction that got its first label just now."""

    project: str
    endpoint: str
    revision: str
    segment: str
    score: float | None
    error: float | None


class FeedbackStore:
    """feedback.db. Its calls may take seconds, of any thread; writes are one at a time.

    All raise Unavailable when the file cannot be used. One that breaks is moved aside at the next call; a full one
    loses its oldest tenth.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._untrimmed: dict[tuple[str, str], int] = {}  # by endpoint: rows since it was trimmed

    def put(self, source: Source, predictions: Sequence[Prediction], now_s: float) -> list[Joined]:
        """Keep predictions; return those whose label waited for them. Those known already are left as they are."""
        return self.act(lambda connection: self._put(connection, source, predictions, now_s))

    def label(self, project: str, labels: Iterable[Label], now_s: float) -> tuple[list[Outcome], list[Joined]]:
        """Join labels; return what became of each, and the predictions that had none before."""

        def act(connection: sqlite3.Connection) -> tuple[list[Outcome], list[Joined]]:
            joined: list[Joined] = []
            connection.execute("DELETE FROM early WHERE until <= ?", (now_s,))
            waiting = connection.execute("SELECT count(*) FROM early").fetchone()[0]
            outcomes: list[Outcome] = []
            for label in labels:
                outcome, first = _join(connection, project, label)
                if outcome == "unknown" and waiting < EARLY_MAX:
                    waiting += _wait(connection, project, label, now_s)
                outcomes.append(outcome)
                joined.extend(first)
            return outcomes, joined

        return self.act(act)

    def sweep(self, watched: Collection[tuple[str, str]]) -> None:
        """Drop predictions of endpoints not `watched`."""

        def act(connection: sqlite3.Connection) -> None:
            for key in connection.execute("SELECT DISTINCT project, endpoint FROM predictions").fetchall():
                if key not in watched:
                    connection.execute("DELETE FROM predictions WHERE project = ? AND endpoint = ?", key)

        self.act(act)

    def read(self, query: str, values: Sequence[object]) -> list[tuple[object, ...]]:
        """Return the rows of a question. Nobody waits for it: it reads beside whoever writes."""
        self.act(lambda _: None)  # the file is there, and is one
        try:
            with closing(open_for_reading(self._path)) as connection:
                return connection.execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as problem:
            with self._lock:
                self._after(problem)
            raise self._unavailable(problem) from problem

    def act(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in one transaction; return what it returns. Raises Unavailable."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = open_file(self._path)
                with transaction(self._connection):
                    return act(self._connection)
            except (sqlite3.Error, OSError) as problem:
                self._after(problem)
                raise self._unavailable(problem) from problem

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._drop()

    def _put(
        self, connection: sqlite3.Connection, source: Source, predictions: Sequence[Prediction], now_s: float
    ) -> list[Joined]:
        project, endpoint = source.project, source.endpoint
        joined: list[Joined] = []
        new = 0
        for one in predictions:
            row = (project, one.id, endpoint, source.revision, one.at_s, one.said, one.confidence, one.segment)
            done = connection.execute(
                "INSERT OR IGNORE INTO predictions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, NULL)",
                (*row, source.tolerance),
            )
            new += done.rowcount
            waited = connection.execute(_WAITED, (project, one.id, now_s)).fetchone() if done.rowcount else None
            if waited is not None:
                joined.extend(_join(connection, project, Label(one.id, *waited))[1])
        self._trim(connection, source, new, now_s)
        return joined

    def _trim(self, connection: sqlite3.Connection, source: Source, new: int, now_s: float) -> None:
        key = (source.project, source.endpoint)
        connection.execute(
            "DELETE FROM predictions WHERE project = ? AND endpoint = ? AND at < ?", (*key, now_s - source.keep_s)
        )
        untrimmed = self._untrimmed.get(key, source.max) + new
        if untrimmed > source.max * TRIM_RATIO:
            connection.execute(_TRIM, (*key, source.max))
            untrimmed = 0
        self._untrimmed[key] = untrimmed

    def _unavailable(self, problem: Exception) -> Unavailable:
        return Unavailable(f"{self._path.name} cannot be used: {problem}", retry_after_s=1.0)

    def _after(self, problem: Exception) -> None:
        if getattr(problem, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL and self._connection is not None:
            log.error("%s is full; its oldest tenth is dropped", self._path.name)
            with suppress(sqlite3.Error), transaction(self._connection):
                self._connection.execute(_CUT)
        elif is_broken(problem):
            self._drop()  # opened anew by the next call, which moves it aside

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _join(connection: sqlite3.Connection, project: str, label: Label) -> tuple[Outcome, list[Joined]]:
    """Join a label to every prediction of its id: several revisions may have answered it, such as a shadow."""
    found = connection.execute(
        "SELECT endpoint, revision, segment, said, tolerance, labelled FROM predictions WHERE project = ? AND id = ?",
        (project, label.id),
    ).fetchall()
    joined: list[Joined] = []
    for endpoint, revision, segment, said, tolerance, labelled in found:
        if not replaces(label, labelled):
            continue
        verdict = judge(said, label, tolerance)
        connection.execute(
            "UPDATE predictions SET how = ?, given = ?, labelled = ?, score = ?, error = ? "
            "WHERE project = ? AND id = ? AND endpoint = ? AND revision = ?",
            (label.how, label.given, label.at_s, verdict.score, verdict.error, project, label.id, endpoint, revision),
        )
        if labelled is None:
            joined.append(Joined(project, endpoint, revision, segment, verdict.score, verdict.error))
    if not found:
        return "unknown", []
    return ("joined" if joined else "duplicate"), joined


def _wait(connection: sqlite3.Connection, project: str, label: Label, now_s: float) -> int:
    """Let a label wait for its prediction; return 1 when none waited for that id before."""
    before = connection.execute("SELECT at FROM early WHERE project = ? AND id = ?", (project, label.id)).fetchone()
    if before is None or replaces(label, before[0]):
        connection.execute(
            "INSERT OR REPLACE INTO early VALUES (?, ?, ?, ?, ?, ?)",
            (project, label.id, label.how, label.given, label.at_s, now_s + EARLY_S),
        )
    return 0 if before is not None else 1
