"""Whether an address of the web can be read: one GET, of which no more than the status is looked at."""

from stoker.observe.notify.http import ask
from stoker.types.errors import NotReachable

TIMEOUT_S = 5.0
READABLE = range(200, 400)  # one that sends elsewhere, to a login for example, is there


async def problem(url: str) -> str:
    """Return why `url` cannot be read; "" where it can."""
    try:
        status = await ask("GET", url, b"", {"Accept": "*/*"}, TIMEOUT_S)
    except NotReachable as failed:
        return failed.message
    if status in READABLE or status in (401, 403):
        return ""
    return f"it answers {status}"
