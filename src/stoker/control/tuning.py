"""Settings that change while the platform runs: kept as one row, carried to gateways by the route table."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from stoker.control.routes import RoutePublisher
from stoker.observe.samples import SampleStore
from stoker.store import settings
from stoker.store.engine import Connection
from stoker.telemetry.logs import set_level
from stoker.types.tuning import Kept, Tuning, changed

if TYPE_CHECKING:
    from stoker.control.otlp import Sender

WAIT_S: Final = 30.0

Senders = Callable[[str, float], Sequence["Sender"]]  # who sends to a receiver of OTLP, every so many seconds


def change(connection: Connection, changes: dict[str, Any], before: Tuning) -> Kept:
    """Set `changes`, where None undoes, and return all that is set. before: as of routes.tuned.

    Raises msgspec.ValidationError.
    """
    text, kept = changed(settings.get(connection, settings.TUNING), before, changes)
    settings.put(connection, settings.TUNING, text)
    return kept


async def follow(routes: RoutePublisher, usual: Tuning, samples: SampleStore, senders: Senders) -> None:
    """Bring control itself into line with what is set, until cancelled. usual: what it was started with."""
    sent, tasks = ("", 0.0), list[asyncio.Task[None]]()
    try:
        while True:
            table = routes.table
            now = table.tuning.over(usual)
            set_level(now.log_level or "info")
            samples.max_bytes = now.samples_max_bytes or 0
            wanted = (now.otlp_endpoint or "", now.otlp_interval_s or 0.0)
            if wanted != sent:
                await _stop(tasks)
                tasks = [asyncio.create_task(each.run()) for each in senders(*wanted)] if wanted[0] else []
                sent = wanted
            waiting = asyncio.create_task(routes.wait(table.version, WAIT_S))
            await asyncio.wait((waiting, *tasks), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            for ended in (each for each in tasks if each.done()):
                ended.result()  # none of them ends by itself
    finally:
        await _stop(tasks)


async def _stop(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
