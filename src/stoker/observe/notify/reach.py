"""Whether an address of the web can be read: one GET, of which no more than the status is looked at."""

from typing import Final

from stoker.observe.notify.http import ask
from stoker.types.errors import NotReachable

TIMEOUT_S: Final = 5.0
READABLE: Final = range(200, 400)  # one that sends elsewhere, to a login for example, is there

NOT_FOR_US: Final = (401, 403)  # it is there, for who may read it


async def problem(url: str) -> str:
    """Return why `url` cannot be read; "" where it can."""
    try:
        status = await ask("GET", url, b"", {"Accept": "*/*"}, TIMEOUT_S)
    except NotReachable as failed:
        return failed.message
    if status in READABLE or status in NOT_FOR_US:
        return ""
    return f"it answers {status}"
