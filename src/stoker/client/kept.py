"""The keys of samples, over the control API."""

import msgspec

from stoker.client.connection import Connection, decode
from stoker.types.samples import Rotated


def forget(connection: Connection, project: str) -> None:
    """Destroy the keys of a project's samples, and delete them."""
    connection.exchange("DELETE", f"/api/v1/projects/{project}/samples")


def rotate(connection: Connection, project: str = "") -> Rotated:
    """Have what comes sealed with new keys: of a project, or of all and the master key."""
    body = msgspec.json.encode({"project": project})
    return decode(connection.exchange("POST", "/api/v1/samples/rotate", body=body).body, Rotated)
