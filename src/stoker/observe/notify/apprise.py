"""One message through Apprise, which knows a hundred kinds of receivers by their address (`tgram://…`, `ntfy://…`).

An extra of its own (`stoker[apprise]`, BSD-2): 19 MB in six packages, and code that speaks to anybody's server. It is
loaded when the first such receiver is told, in a thread; it blocks, with timeouts of its own at each step.
"""

import asyncio
import importlib
import importlib.util
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from stoker.types.errors import InvalidInput, NotReachable

MISSING: Final = "Apprise is not installed; where control runs: pip install 'stoker[apprise]'"
TIMEOUT_S: Final = 30.0  # of the whole; the thread ends by Apprise's own timeouts, a few seconds a step
THREADS: Final = 4  # not those of mail: a service that drips must not hold up others


def is_installed() -> bool:
    """Return whether Apprise is there; loads nothing."""
    return importlib.util.find_spec("apprise") is not None


async def send(threads: ThreadPoolExecutor, address: str, title: str, text: str, *, is_firing: bool) -> None:
    """Tell `address` once. Raises NotReachable or InvalidInput, whose words never hold the address: it is a secret."""
    if not is_installed():
        raise InvalidInput(MISSING, field="spec.type")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.get_running_loop().run_in_executor(threads, _send, address, title, text, is_firing)
    except TimeoutError:
        raise NotReachable(f"Apprise took longer than {TIMEOUT_S:g} s") from None


def _send(address: str, title: str, text: str, is_firing: bool) -> None:
    apprise = importlib.import_module("apprise")
    # It logs an address that it cannot read as it stands, secrets included (seen with 2.3.0).
    logging.getLogger("apprise").disabled = True
    asset = apprise.AppriseAsset(app_id="stoker", app_desc="stoker", app_url="", async_mode=False, plugin_paths=[])
    service = apprise.Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
    if service is None:
        raise InvalidInput("the address is none that Apprise can read", field="spec.url_from")
    kind = apprise.NotifyType.FAILURE if is_firing else apprise.NotifyType.SUCCESS
    if not service.notify(body=text, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
        raise NotReachable("Apprise could not deliver it; `apprise -v` with the same address says why")
