"""What the API says of secrets."""

from typing import Final

from stoker.client.connection import Connection, Query, decode
from stoker.types.secrets import SecretList

CHECK_TIMEOUT_S: Final = 30.0  # they are read again, from a Vault that may be slow


def listed(connection: Connection, project: str = "") -> SecretList:
    """Return which secrets are named where and how they stand; "": of all projects that the key sees."""
    answer = connection.exchange("GET", "/api/v1/secrets", query=_of(project))
    return decode(answer.body, SecretList)


def checked(connection: Connection, project: str = "") -> SecretList:
    """Return the same after all were read again."""
    answer = connection.exchange("POST", "/api/v1/secrets/check", query=_of(project), timeout_s=CHECK_TIMEOUT_S)
    return decode(answer.body, SecretList)


def _of(project: str) -> Query | None:
    return {"project": project} if project else None
