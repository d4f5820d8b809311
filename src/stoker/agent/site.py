"""What all processes of one agent share."""

from collections.abc import Callable
from dataclasses import dataclass

from stoker.agent.folders import Folders
from stoker.agent.forks import ForkServers
from stoker.agent.pace import Pace
from stoker.agent.records import Records


@dataclass(frozen=True, slots=True)
class Site:
    """The agent as one of its processes sees it. `forks`: None: every process is started by itself."""

    folders: Folders
    records: Records
    changed: Callable[[], None]
    pace: Pace
    forks: ForkServers | None
