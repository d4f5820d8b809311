"""Replicas that died and were started again by their agents, as entries of the journal: changes, to an incident.

Each start is told once, by its moment: what was told before control was started again is found in the journal.
"""

from collections.abc import Iterable
from typing import Final

from stoker.core.conditions import CRASH_LOOP_CRASHES
from stoker.core.snapshot import Node
from stoker.store import journal
from stoker.store.engine import Connection
from stoker.types.process import ProcessStatus

RESTARTED: Final = "ReplicaRestarted"
NEWS_S: Final = 600.0  # a start that control did not see is told while it is this new
BECAUSE_MAX: Final = 300
JOURNAL_READ: Final = 200


def note(connection: Connection, nodes: Iterable[Node], told: dict[str, int], now_s: float) -> dict[str, int]:
    """Write down the starts that are new, and return how many of each replica are told now.

    told: what the last call returned. One that crashes again and again is told of by its condition from then on.
    """
    after = {}
    for node in nodes:
        for process in node.processes.values():
            if process.kind != "replica":
                continue
            after[process.name] = process.restarts
            is_new = process.restarts > told.get(process.name, 0) and now_s - _started_s(process, now_s) < NEWS_S
            if is_new and process.crashes_in_row < CRASH_LOOP_CRASHES and process.started_at_s:
                _tell(connection, process)
            elif is_new and not process.started_at_s:
                after[process.name] = told.get(process.name, 0)  # its agent has yet to say when
    return after


def _started_s(process: ProcessStatus, now_s: float) -> float:
    return process.started_at_s or now_s


def _tell(connection: Connection, process: ProcessStatus) -> None:
    project, endpoint = process.labels.get("project", ""), process.labels.get("endpoint", "")
    because = (process.last_error or process.last_exit or "it left no message")[:BECAUSE_MAX]
    entry = journal.Entry(process.started_at_s, RESTARTED, because, project, endpoint, process.name)
    known = journal.last(connection, JOURNAL_READ, project, endpoint)
    if not any((one.at_s, one.action, one.subject) == (entry.at_s, RESTARTED, entry.subject) for one in known):
        journal.add(connection, entry)
