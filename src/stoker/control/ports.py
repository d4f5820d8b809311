"""What control needs to know of the state folder; the composition root's Home is one."""

from pathlib import Path
from typing import Protocol


class Folders(Protocol):
    """Where files and sockets lie."""

    @property
    def models(self) -> Path:
        """Versions as folders, ready to be opened by engines."""

    @property
    def replicas(self) -> Path:
        """One spec file a replica, and its working folder."""

    @property
    def measurements(self) -> Path:
        """What replicas measured of engines, a table a model; any of it may be deleted."""

    @property
    def tmp(self) -> Path:
        """Half-written files."""

    @property
    def credentials(self) -> Path:
        """The CLI's own key and addresses."""

    @property
    def run(self) -> Path:
        """Where sockets lie."""

    @property
    def tls(self) -> Path:
        """What processes show to other nodes, a folder a role."""

    def address(self, name: str) -> str:
        """Return the frames address of a process."""
