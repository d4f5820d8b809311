"""What control does now and then, whatever else happens: it removes what nobody needs any more."""

import asyncio
import logging
import time
from typing import Final

import msgspec

from stoker.control.models import ModelRegistry
from stoker.observe.samples import SampleStore
from stoker.store import budgets, costs, keys, projects, recording, scrub, sessions, usage, usage_records
from stoker.store.engine import Database
from stoker.telemetry.sealing import Unreadable
from stoker.types.audit import PLATFORM
from stoker.types.errors import StokerError

EVERY_S: Final = 600.0
# An expired key is shown in lists so long, so that its owner sees why it does not work.
EXPIRED_KEPT_S: Final = 30 * 86_400.0

log = logging.getLogger(__name__)


async def run(
    database: Database, models: ModelRegistry, samples: SampleStore, records_kept_s: float, records_bytes_max: int
) -> None:
    """Do the chores every EVERY_S; returns only by cancellation. records: of usage, one by one."""
    clean: set[str | int] = set()  # one a revision and rollout
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            gone = await models.collect()
            with recording.acting(recording.Actor(PLATFORM, "drop expired keys")):
                expired = await database.writing(
                    lambda connection: keys.drop_expired(connection, time.time() - EXPIRED_KEPT_S)
                )
            await database.writing(lambda connection: sessions.drop_ended(connection, time.time()))
            scrubbed = await _scrub(database, clean)
            await database.writing(lambda connection: budgets.prune(connection, time.time()))
            sums = await database.writing(lambda connection: usage.tidy(connection, time.time()))
            records = await database.writing(
                lambda each: usage_records.tidy(each, int((time.time() - records_kept_s) * 1000), records_bytes_max)
            )
            lines = await database.writing(lambda connection: costs.tidy(connection, time.time()))
            shredded = await _forget_gone(database, samples)
            hours = await asyncio.to_thread(samples.sweep, time.time())  # gateways do, while they keep some
        except (OSError, Unreadable, StokerError):
            log.exception("the chores failed; they are tried again")
        else:
            if gone.blobs or gone.folders or expired or hours or sums or lines or records or shredded or scrubbed:
                counts = {
                    **msgspec.structs.asdict(gone),
                    "keys": expired,
                    "samples": hours,
                    "projects": shredded,
                    "usage": sums,
                    "costs": lines,
                    "usage records": records,
                    "secrets in clear": scrubbed,
                }
                log.info("removed what nobody needs", extra=counts)


async def _scrub(database: Database, clean: set[str | int]) -> int:
    """Take secrets in clear out of revisions that went out of use since the last time; return of how many rows.

    Since manifests may hold none there is nothing to find, once what an upgrade left is gone.
    """
    if not await database.reading(lambda connection: scrub.find(connection, clean)):
        return 0
    with recording.acting(recording.Actor(PLATFORM, "drop secrets in clear")):
        return await database.writing(lambda connection: scrub.scrub(connection, clean))


async def _forget_gone(database: Database, samples: SampleStore) -> int:
    """Make the samples of deleted projects unreadable, where their deletion was cut short; return of how many."""
    kept = await asyncio.to_thread(samples.projects)  # before: a project that is made meanwhile is not among them
    known = await database.reading(lambda connection: {each.name for each in projects.everything(connection)})
    return len(await asyncio.to_thread(samples.forget_others, kept, known))
