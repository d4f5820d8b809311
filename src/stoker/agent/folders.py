"""Where an agent keeps what it knows."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders, and the id of the state folder that the agent's processes carry."""

    home_id: str
    processes: Path
    logs: Path
    replicas: Path  # where a replica leaves `<name>.error`
