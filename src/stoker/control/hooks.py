"""Tells the hooks of rollouts what happened: from the outbox that was written with the timeline, at least once each.

Only the holder of control's lease tells. A message that was taken leaves the outbox; a control that dies before that
tells it again, under the same id. A hook that was taken out of the manifest is still told of the rollouts that had it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from stoker.control import hooked
from stoker.control.hooked import Resolve
from stoker.observe.notify.delivery import Delivery, post
from stoker.protocol import webhooks
from stoker.store import outbox
from stoker.store.engine import Database
from stoker.store.leases import Lease
from stoker.store.outbox import Letter
from stoker.telemetry.metrics import Registry

EVERY_S: Final = 1.0  # between two looks at the outbox

log = logging.getLogger(__name__)


class HookPost:
    """One in a control process. folder: where files with secrets are. resolve: returns what a project names."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        lease: Callable[[], Lease | None],
        metrics: Registry,
        resolve: Resolve,
    ) -> None:
        self._database = database
        self._folder = folder
        self._lease = lease
        self._resolve = resolve
        self._delivery: Delivery[Letter] = Delivery(
            self._send, lambda outcome: metrics.counter("stoker_rollout_hooks_total", outcome=outcome).add()
        )

    async def run(self) -> None:
        """Look every EVERY_S; returns only by cancellation."""
        try:
            while True:
                try:
                    await self.look()
                except Exception:  # a full disk, say: what is in the outbox stays there
                    log.exception("the hooks of rollouts could not be told; it is tried again")
                await asyncio.sleep(EVERY_S)
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop telling; what was not told is still in the outbox."""
        await self._delivery.close()

    async def look(self) -> None:
        """Take what was told out of the outbox, and have the rest told."""
        letters = await self._database.reading(outbox.everything) if self._lease() is not None else []
        done = self._delivery.settled() & {each.number for each in letters}
        if done:
            await self._database.writing(partial(outbox.remove, numbers=done))
            letters = [each for each in letters if each.number not in done]
        self._delivery.deliver(letters, {each.receiver for each in letters})

    async def _send(self, letter: Letter) -> None:
        body = msgspec.json.encode(letter.message)
        file, project = self._folder / letter.secret if letter.secret else None, letter.message.project
        url = await hooked.address(letter.receiver, project, self._resolve)
        secret = await hooked.key(letter.sign_with, file, project, self._resolve)
        await post(url, body, webhooks.sign(secret, letter.message.id, time.time(), body))
