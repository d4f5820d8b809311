"""Calls of the control API about settings that change while the platform runs."""

from typing import Any, Final

import msgspec

from stoker.client.connection import Connection, decode
from stoker.types.tuning import TuningView

PATH: Final = "/api/v1/settings"


def settings(connection: Connection) -> TuningView:
    """Return all of them."""
    return decode(connection.exchange("GET", PATH).body, TuningView)


def change(connection: Connection, changes: dict[str, Any]) -> TuningView:
    """Set `changes`, where None undoes. Raises InvalidInput."""
    body, headers = msgspec.json.encode(changes), {"Content-Type": "application/json"}
    return decode(connection.exchange("POST", PATH, body=body, headers=headers).body, TuningView)
