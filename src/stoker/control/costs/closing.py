"""Hours become cost lines: by their sheet, what engines did, and the prices that are known then."""

from collections.abc import Sequence

from stoker.control.costs.prices import price_list
from stoker.core.cost import hours
from stoker.core.cost.fold import fold
from stoker.core.cost.timesheet import Sheet
from stoker.store import costs
from stoker.store.costs import HOUR_S
from stoker.store.engine import Connection
from stoker.types.costs import CostLine
from stoker.types.usage import UsageRecord


def charge(connection: Connection, records: Sequence[UsageRecord]) -> None:
    """Note what engines did for new `records`, in the transaction that settles them."""
    costs.add_works(connection, hours.asked(records))


def close(connection: Connection, hour_s: int) -> Sequence[CostLine]:
    """Write the lines of an hour that ended in place of its sheet; return those that are new."""
    sheet = costs.sheet(connection, hour_s)
    if sheet is None:
        return ()
    lines = lines_of(connection, sheet, (hour_s + HOUR_S) * 1000)
    return lines if costs.close(connection, hour_s, lines) else ()


def lines_of(connection: Connection, sheet: Sheet, to_ms: int) -> list[CostLine]:
    """Return the lines of a sheet's hour until `to_ms`."""
    done = hours.works(costs.works(connection, sheet.hour_ms // 1000), costs.payers(connection))
    return fold(hours.lines(sheet, price_list(connection), done, to_ms))
