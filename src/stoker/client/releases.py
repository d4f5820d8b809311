"""Releases over the control API: dossiers, the key that signs them, the examples that endpoints hold."""

from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from stoker.client.connection import Connection, decode
from stoker.types.releases import GoldenSet, PlatformKey, ReleaseView

_T = TypeVar("_T")
_JSON: Final = {"Content-Type": "application/json"}


class _Releases(msgspec.Struct, frozen=True):
    items: tuple[ReleaseView, ...]


@dataclass(frozen=True, slots=True)
class ReleaseClient:
    """Calls of the control API about releases; each raises the StokerError that control answered, or NotReachable."""

    connection: Connection

    def all(self, project: str, name: str) -> tuple[ReleaseView, ...]:
        """Return the dossiers of an endpoint, the newest first."""
        return self._get(f"{_endpoint(project, name)}/releases", _Releases).items

    def get(self, project: str, name: str, revision: int | None = None) -> ReleaseView:
        """Return the dossier of a revision, by default the newest. Raises NotFound."""
        which = "latest" if revision is None else str(revision)
        return self._get(f"{_endpoint(project, name)}/releases/{which}", ReleaseView)

    def key(self) -> PlatformKey:
        """Return the key that signs dossiers."""
        return self._get("/api/v1/releases/key", PlatformKey)

    def golden(self, project: str, name: str) -> GoldenSet:
        """Return the examples that an endpoint holds. Raises NotFound."""
        return self._get(f"{_endpoint(project, name)}/golden", GoldenSet)

    def set_golden(self, project: str, name: str, digest: str) -> GoldenSet:
        """Have an endpoint hold uploaded examples. Raises NotFound, InvalidInput."""
        body = msgspec.json.encode({"digest": digest})
        where = f"{_endpoint(project, name)}/golden"
        return decode(self.connection.exchange("PUT", where, body=body, headers=_JSON).body, GoldenSet)

    def remove_golden(self, project: str, name: str) -> None:
        """Have an endpoint hold no examples. Raises NotFound."""
        self.connection.exchange("DELETE", f"{_endpoint(project, name)}/golden")

    def _get(self, path: str, kind: type[_T]) -> _T:
        return decode(self.connection.exchange("GET", path).body, kind)


def _endpoint(project: str, name: str) -> str:
    return f"/api/v1/projects/{project}/endpoints/{name}"
