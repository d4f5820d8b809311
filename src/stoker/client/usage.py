"""Calls of the control API about usage and prices."""

import msgspec

from stoker.client.connection import Connection, decode
from stoker.core.usage import Report
from stoker.types.prices import PriceBook
from stoker.types.usage import RecordPage


def usage(connection: Connection, *, by: str, from_: str = "", to: str = "", project: str = "") -> Report:
    """Return what was used by the names `by`, such as "project,day". Raises InvalidInput."""
    query = {"by": by, "from": from_ or None, "to": to or None, "project": project or None}
    return decode(connection.exchange("GET", "/api/v1/usage", query=query).body, Report)


def records(
    connection: Connection, *, after: str = "", from_: str = "", to: str = "", project: str = "", limit: int = 1000
) -> RecordPage:
    """Return a page of requests one by one, behind the place `after`. Raises InvalidInput."""
    query = {"after": after or None, "from": from_ or None, "to": to or None, "project": project or None}
    answer = connection.exchange("GET", "/api/v1/usage/records", query={**query, "limit": limit})
    return decode(answer.body, RecordPage)


def prices(connection: Connection) -> PriceBook:
    """Return the platform's default prices."""
    return decode(connection.exchange("GET", "/api/v1/prices").body, PriceBook)


def set_prices(connection: Connection, book: PriceBook) -> None:
    """Set the platform's default prices. Raises InvalidInput."""
    headers = {"Content-Type": "application/json"}
    connection.exchange("PUT", "/api/v1/prices", body=msgspec.json.encode(book), headers=headers)
