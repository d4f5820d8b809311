"""Which running processes belong to which record after the agent was restarted. Decides only; touches nothing.

A record with a pid claims exactly that process. A record without one (the agent died between intent and pid) claims
the session leader that carries its name. Whatever else carries this state folder's marker, and does not descend from
a claimed process, is a stray that nobody answers for.
"""

from collections.abc import Mapping
from typing import Final

from stoker.agent.kernel import ProcessLine
from stoker.agent.records import Record

# Who looks after the agent, and the agent itself: they have no records. (A child of the agent between fork and
# exec carries the agent's name too; it shows its own a moment later.)
CARETAKERS: Final = ("agent", "keeper")
DEPTH_MAX: Final = 64


def claims(records: Mapping[str, Record], marked: Mapping[ProcessLine, str], boot: str) -> dict[str, ProcessLine]:
    """Return the process of each record that has one, by name."""
    found: dict[str, ProcessLine] = {}
    for line, name in marked.items():
        record = records.get(name)
        if record is None:
            continue
        if record.pid:
            if (line.pid, line.start_ticks) == (record.pid, record.start_ticks) and record.boot == boot:
                found[name] = line
        elif line.pid == line.session and (name not in found or line.start_ticks > found[name].start_ticks):
            found[name] = line
    return found


def strays(marked: Mapping[ProcessLine, str], owned: Mapping[str, int]) -> list[ProcessLine]:
    """Return the marked processes that neither are nor descend from the owned one of their name (name → pid)."""
    parents = {line.pid: line for line in marked}
    return [
        line
        for line, name in marked.items()
        if name not in CARETAKERS and not _belongs(line, owned.get(name, 0), parents)
    ]


def _belongs(line: ProcessLine, owner: int, marked: Mapping[int, ProcessLine]) -> bool:
    if not owner:
        return False
    at: ProcessLine | None = line
    for _ in range(DEPTH_MAX):
        if at is None:
            return False
        if owner in (at.pid, at.session):
            return True
        at = marked.get(at.parent)
    return False
