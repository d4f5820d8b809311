"""Where a live diagnosis has its numbers from: the history of metrics, the journal, the revisions in the database.

All three are on disk: a control that has just started explains what happened before it did.
"""

from collections.abc import Sequence
from typing import Final

from stoker.core.diagnose.onset import Point
from stoker.core.diagnose.window import Change, ChangeKind
from stoker.observe.incidents.compared import OF_A_POINT, OF_A_WINDOW, Site, point
from stoker.observe.port import TICK_S, Questions, Selector, select
from stoker.store import journal, revisions
from stoker.store.engine import Connection, Database
from stoker.store.journal import Entry
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.snapshot import Snapshot

JOURNAL_READ: Final = 200
QUARANTINE_S: Final = 120.0  # for how long a new shape in quarantine is news
_QUARANTINED: Final = "stoker_quarantined_total"
# What of the journal is a change of the endpoint, and how it is said.
_CHANGES: Final[dict[str, tuple[ChangeKind, str]]] = {
    "CreateRevision": ("config", "new revision"),
    "SetServing": ("traffic", "traffic to"),
    "Rollback": ("version", "back to"),
    "StartReplica": ("scale", "started"),
    "DrainReplica": ("scale", "draining"),
    "StopReplica": ("scale", "stopping"),
    "ForgetReplica": ("scale", "gone:"),
    "ReplicaRestarted": ("restart", "started again"),
}


class Recorded:
    """An evidence source (observe/incidents/explain.py)."""

    fine_s = float(TICK_S)

    def __init__(self, database: Database, history: Questions) -> None:
        self._database = database
        self._history = history

    async def change(self, project: str, endpoint: str, start_s: float, end_s: float) -> Snapshot:
        """See observe.explain.Evidence."""
        if end_s - start_s < TICK_S:
            return Snapshot("", end_s)
        (found,) = await self._history.snapshots(_selectors(OF_A_WINDOW, project, endpoint), (start_s, end_s))
        return found

    async def points(self, project: str, endpoint: str, start_s: float, end_s: float, step_s: float) -> Sequence[Point]:
        """See observe.explain.Evidence."""
        edges = [start_s + step_s * number for number in range(int((end_s - start_s) / step_s) + 1)]
        edges += [end_s] if end_s - edges[-1] >= TICK_S else []
        if len(edges) < 2:
            return []
        found = await self._history.snapshots(_selectors(OF_A_POINT, project, endpoint), edges)
        return [point(each, project, endpoint, at_s) for at_s, each in zip(edges, found, strict=False)]

    async def changes_of(self, project: str, endpoint: str, start_s: float, end_s: float) -> Sequence[Change]:
        """See observe.explain.Evidence."""
        found = await self._database.reading(lambda each: journal.last(each, JOURNAL_READ, project, endpoint))
        return [_change(one) for one in reversed(found) if start_s <= one.at_s <= end_s and one.action in _CHANGES]

    async def site(self, project: str, endpoint: str) -> Site:
        """See observe.explain.Evidence."""

        def ask(connection: Connection) -> Site:
            places = {str(one.replica): str(one.node) for one in revisions.assignments(connection, project, endpoint)}
            remote = (
                str(one.revision)
                for one in revisions.everything(connection, project, endpoint)
                if one.config.engine == "openai" and one.config.options.get("url")
            )
            return Site(places, frozenset(remote))

        return await self._database.reading(ask)

    async def quarantined(self) -> set[tuple[str, str]]:
        """Return the endpoints (project, name) with a new shape in quarantine in the last QUARANTINE_S."""
        found = await self._history.sums_by(select(_QUARANTINED), ("project", "endpoint"), (QUARANTINE_S,))
        return {(project, endpoint) for (project, endpoint), (count,) in found.items() if count > 0}


def _selectors(names: Sequence[str], project: str, endpoint: str) -> list[Selector]:
    return [
        select(name, project=project, endpoint=endpoint) if "endpoint" in BY_NAME[name].labels else select(name)
        for name in names
    ]


def _change(entry: Entry) -> Change:
    kind, word = _CHANGES[entry.action]
    name = entry.subject.removeprefix(f"{entry.project}.")
    return Change(entry.at_s, kind, f"{word} {name}: {entry.because}", entry.subject)
