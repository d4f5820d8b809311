"""What a prediction was worth: business metrics by its id, such as revenue, counted once however often they are sent.

An amount belongs to an endpoint's answer, not to a revision: a shadow that answered the same request adds none.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from stoker.client.views import QualityAmount
from stoker.core.feedback import Amount, Outcome
from stoker.observe.feedback.store import FeedbackStore

SHOWN_MAX: Final = 50
_OF: Final = "SELECT endpoint, min(segment) FROM predictions WHERE project = ? AND id = ? GROUP BY endpoint"
_KNOWN: Final = "SELECT at FROM amounts WHERE project = ? AND id = ? AND endpoint = ? AND name = ?"
_SHOWN: Final = """SELECT name, count(*), avg(amount) FROM amounts WHERE project = ? AND endpoint = ?
  AND at > ? AND at <= ? GROUP BY name ORDER BY 2 DESC LIMIT ?"""


class Counted(NamedTuple):
    """An amount of an answer that had none of its name before."""

    project: str
    endpoint: str
    segment: str
    name: str
    amount: float


def add(store: FeedbackStore, project: str, amounts: Iterable[Amount]) -> tuple[list[Outcome], list[Counted]]:
    """Keep amounts; return what became of each, and those that are new. The later of two counts. Raises Unavailable.

    One of an unknown id is not kept: whoever sent it sends it again.
    """

    def act(connection: sqlite3.Connection) -> tuple[list[Outcome], list[Counted]]:
        outcomes: list[Outcome] = []
        new: list[Counted] = []
        for one in amounts:
            of = connection.execute(_OF, (project, one.id)).fetchall()
            first = [counted for row in of if (counted := _put(connection, project, one, *row)) is not None]
            new += first
            outcomes.append("unknown" if not of else "joined" if first else "duplicate")
        return outcomes, new

    return store.act(act)


def shown(store: FeedbackStore, project: str, endpoint: str, since_s: float, until_s: float) -> list[QualityAmount]:
    """Return how many amounts of each name there were, and their mean. Raises Unavailable."""
    rows = store.read(_SHOWN, (project, endpoint, since_s, until_s, SHOWN_MAX))
    return [QualityAmount(str(name), int(str(rows_)), float(str(mean))) for name, rows_, mean in rows]


def _put(connection: sqlite3.Connection, project: str, one: Amount, endpoint: str, segment: str) -> Counted | None:
    key = (project, one.id, endpoint, one.name)
    known = connection.execute(_KNOWN, key).fetchone()
    if known is None or one.at_s >= known[0]:
        connection.execute("INSERT OR REPLACE INTO amounts VALUES (?, ?, ?, ?, ?, ?)", (*key, one.amount, one.at_s))
    return Counted(project, endpoint, segment, one.name, one.amount) if known is None else None
