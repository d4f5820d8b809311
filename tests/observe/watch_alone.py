"""A process with a watch and nothing else, over an endpoint whose every request fails: for tests that kill it.

python -m tests.observe.watch_alone DATABASE
"""

import asyncio
import sys
import time
from pathlib import Path

from stoker.observe.notify.post import Post
from stoker.observe.objectives.watch import Watch
from stoker.store import leases
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.telemetry.metrics import Registry
from tests.observe.named import resolve
from tests.observe.sums import Sums


async def main() -> None:
    database = Database(open_engine(sqlite_url(Path(sys.argv[1]))))
    database.write(lambda connection: leases.break_lease(connection, "control"))
    lease = database.write(lambda connection: leases.acquire(connection, "control", "alone", time.time()))
    metrics = Registry("control")

    async def beat() -> None:
        await asyncio.sleep(0.05)

    post = Post(metrics, "http://control", resolve)
    await Watch(database, Sums(first_attempts_total=1.0), post, lambda: lease, metrics, beat).run()


asyncio.run(main())
