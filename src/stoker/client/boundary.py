"""Who owns what of an endpoint, over the control API."""

from stoker.client.connection import Connection, decode
from stoker.types.boundary import Boundary


def boundary(connection: Connection, project: str, name: str) -> Boundary:
    """Return the duties about an endpoint as they stand now."""
    where = f"/api/v1/projects/{project}/endpoints/{name}/boundary"
    return decode(connection.exchange("GET", where).body, Boundary)
