"""Tells the hooks of rollouts what happened: from the outbox that was written with the timeline, at least once each.

Only the holder of control's lease tells. A message that was taken leaves the outbox; a control that dies before that
tells it again, under the same id. A hook that was taken out of the manifest is still told of the rollouts that had it.

Who cannot be told is in the rollout's timeline and, while it lasts, a condition of the endpoint (rollout/untold.py).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from stoker.control import hooked
from stoker.control.hooked import Resolve
from stoker.core import conditions
from stoker.core.rollout import untold
from stoker.core.rollout.untold import Failing
from stoker.core.snapshot import EndpointKey
from stoker.observe.notify.delivery import Delivery, Tried, post
from stoker.protocol import webhooks
from stoker.store import endpoints, outbox, rollouts
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease
from stoker.store.outbox import Letter
from stoker.telemetry.metrics import Registry
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.statuses import Condition

EVERY_S: Final = 1.0  # between two looks at the outbox
# A turn of the loop that began before may write the status as it was: so many looks must find nothing wrong in it.
QUIET_LOOKS: Final = 10

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
        self._noted: set[int] = set()  # letters whose first failure is in a timeline
        # Endpoints whose condition may have to be taken back, and how many looks found none; None: not read yet.
        self._said: dict[EndpointKey, int] | None = None

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
        """Take what was told out of the outbox, say of the rest what failed, and have it told."""
        if self._lease() is None:
            self._said = None  # whoever holds it meanwhile says what is so
            self._delivery.deliver((), ())
            return
        letters = await self._database.reading(outbox.everything)
        tried, done = self._delivery.tried(), self._delivery.settled() & {each.number for each in letters}
        news = [each for each in letters if self._is_news(each.number, tried)]
        if done or news:

            def write(connection: Connection) -> None:
                _note(connection, news, tried)
                outbox.remove(connection, numbers=done)

            await self._database.writing(write)
            letters = [each for each in letters if each.number not in done]
        self._noted = (self._noted | {each.number for each in news}) & {each.number for each in letters}
        await self._condition(letters, tried)
        self._delivery.deliver(letters, {each.receiver for each in letters})

    def _is_news(self, number: int, tried: dict[int, Tried]) -> bool:
        return number in tried and (tried[number].outcome != "later" or number not in self._noted)

    async def _condition(self, letters: Sequence[Letter], tried: dict[int, Tried]) -> None:
        """Have each endpoint say which hooks are not told; what is not tried yet leaves what is said as it is."""
        if self._said is None:
            self._said = dict.fromkeys(await self._database.reading(_saying), 0)
        failing: dict[EndpointKey, list[Failing]] = {}
        for each in letters:
            told = failing.setdefault(_key(each), [])
            if each.number in tried:
                told.append(_failing(each, tried[each.number]))
        asked = self._said.keys() | {key for key, found in failing.items() if found}
        if not asked:
            return
        now_s = time.time()
        wanted = {key: untold.condition(failing.get(key, ()), now_s) for key in asked}
        waiting = {key for key in asked if key in failing and wanted[key] is None}
        known = await self._database.reading(lambda connection: _conditions(connection, asked))
        wrong = {key for key in (asked - waiting) & known.keys() if _is_other(known[key], wanted[key])}
        if wrong:
            await self._database.writing(lambda connection: _say(connection, {key: wanted[key] for key in wrong}))
        quiet = {key: 0 if key in wrong or key in failing else self._said.get(key, 0) + 1 for key in asked}
        self._said = {key: looks for key, looks in quiet.items() if looks < QUIET_LOOKS}

    async def _send(self, letter: Letter) -> None:
        body = msgspec.json.encode(letter.message)
        file, project = self._folder / letter.secret if letter.secret else None, letter.message.project
        url = await hooked.address(letter.receiver, project, self._resolve)
        secret = await hooked.key(letter.sign_with, file, project, self._resolve)
        await post(url, body, webhooks.sign(secret, letter.message.id, time.time(), body))


def _key(letter: Letter) -> EndpointKey:
    return (ProjectName(letter.message.project), EndpointName(letter.message.endpoint))


def _failing(letter: Letter, tried: Tried) -> Failing:
    told = letter.message
    return Failing(letter.receiver, told.event, told.rollout, tried.reason, tried.is_ours, tried.tries)


def _note(connection: Connection, letters: Iterable[Letter], tried: dict[int, Tried]) -> None:
    """Write into timelines what became of `letters`."""
    for each in letters:
        said = untold.line(_failing(each, tried[each.number]), tried[each.number].outcome)
        if said is not None:
            rollouts.note(connection, each.message.project, each.message.rollout, time.time(), *said)


def _saying(connection: Connection) -> list[EndpointKey]:
    """Return the endpoints that say that hooks are not told."""
    found = endpoints.everything(connection)
    return [each.key for each in found if conditions.find(each.status.conditions, conditions.HOOKS)]


def _conditions(connection: Connection, keys: Iterable[EndpointKey]) -> dict[EndpointKey, Condition | None]:
    """Return what endpoints say of their hooks; those that are gone, or go, are left out."""
    found = ((key, endpoints.find(connection, *key)) for key in keys)
    return {
        key: conditions.find(state.status.conditions, conditions.HOOKS)
        for key, state in found
        if state is not None and not state.is_deleting
    }


def _is_other(known: Condition | None, wanted: Condition | None) -> bool:
    if known is None or wanted is None:
        return known is not wanted
    return (known.reason, known.message) != (wanted.reason, wanted.message)


def _say(connection: Connection, wanted: dict[EndpointKey, Condition | None]) -> None:
    for key, said in wanted.items():
        now = endpoints.find(connection, *key)
        if now is None or now.is_deleting:
            continue
        kept = tuple(each for each in now.status.conditions if each.type != conditions.HOOKS)
        found = conditions.put(now.status.conditions, said) if said is not None else kept
        endpoints.set_status(connection, *key, msgspec.structs.replace(now.status, conditions=found))
