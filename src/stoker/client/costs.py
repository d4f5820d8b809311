"""Calls of the control API about costs."""

from collections.abc import Iterator

import msgspec

from stoker.client.connection import Connection, decode
from stoker.core.cost.report import Report
from stoker.types.costs import PriceList


def costs(connection: Connection, *, by: str, from_: str = "", to: str = "", project: str = "") -> Report:
    """Return what serving cost by the names `by`, such as "project,day". Raises InvalidInput."""
    query = {"by": by, "from": from_ or None, "to": to or None, "project": project or None}
    return decode(connection.exchange("GET", "/api/v1/costs", query=query).body, Report)


def focus(connection: Connection, *, from_: str = "", to: str = "", project: str = "") -> Iterator[bytes]:
    """Yield the CSV file of FOCUS rows, piece by piece. Raises InvalidInput."""
    query = {"from": from_ or None, "to": to or None, "project": project or None}
    return connection.stream("GET", "/api/v1/costs/focus", query=query)


def prices(connection: Connection) -> PriceList:
    """Return what the machines of pools cost."""
    return decode(connection.exchange("GET", "/api/v1/costs/prices").body, PriceList)


def set_prices(connection: Connection, prices: PriceList) -> None:
    """Set what the machines of pools cost. Raises InvalidInput."""
    headers = {"Content-Type": "application/json"}
    connection.exchange("PUT", "/api/v1/costs/prices", body=msgspec.json.encode(prices), headers=headers)
