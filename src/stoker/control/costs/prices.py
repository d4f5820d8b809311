"""What the machines of pools cost, as somebody wrote it."""

from typing import Final

import msgspec

from stoker.store import settings
from stoker.store.engine import Connection
from stoker.types.costs import PriceList

LIST: Final = "pool_prices"


def price_list(connection: Connection) -> PriceList:
    """Return the prices of all pools."""
    text = settings.get(connection, LIST)
    return PriceList() if text is None else msgspec.json.decode(text, type=PriceList)


def set_price_list(connection: Connection, prices: PriceList) -> None:
    """Make `prices` those of all pools, for hours that are not over yet. Raises ValueError for what cannot be read."""
    prices.check()
    settings.put(connection, LIST, msgspec.json.encode(prices).decode())
