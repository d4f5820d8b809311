"""Kept requests sent to two revisions of one endpoint, past the gateways, so that their answers can be compared.

No client meets what is sent, nothing meters it, no objective counts it, and drift does not see it. It goes only where a
replica has room for one more than its clients have it do, one request at a time: clients come first.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from stoker.control.releases import ask
from stoker.core import replay
from stoker.core.revisions import revision_id
from stoker.core.snapshot import Revision
from stoker.observe.samples import SampleStore, Wanted
from stoker.protocol.link import Link
from stoker.store import endpoints, revisions
from stoker.store.engine import Connection, Database
from stoker.telemetry.sealing import Unreadable
from stoker.types.errors import Busy, Conflict, Draining, InvalidInput, NotFound, ReplicaLost, Unavailable
from stoker.types.replay import Outcome, Reply, Summary
from stoker.types.replica import ReplicaStats
from stoker.types.samples import SampleRecord

ROOM_S: Final = 5.0  # how long one waits for room before it is left out
LOOK_S: Final = 0.05
_NUMBER: Final = re.compile(r"[0-9]{1,9}\Z")


class Replay(msgspec.Struct, frozen=True):
    """What is sent to whom. `after` and `before` name revisions, by number or whole; "" is the one that serves."""

    after: str
    wanted: Wanted
    before: str = ""
    rate: float = 0.0  # samples a second, at most; 0: as fast as they are answered


class Replayer:
    """Replays, one at a time."""

    def __init__(self, database: Database, samples: SampleStore, fleet: ask.Fleet) -> None:
        self._database = database
        self._samples = samples
        self._fleet = fleet
        self._turn = asyncio.Lock()

    async def run(self, project: str, endpoint: str, asked: Replay) -> AsyncGenerator[Outcome | Summary, None]:
        """Yield what became of each sample, and at last all in numbers. Closing the iterator ends it.

        Raises:
            NotFound, InvalidInput: no such endpoint or revision.
            Conflict: both are the same one.
            Busy: another replay goes on.
            Unavailable: one of the two has no ready replica, or the samples cannot be read.
        """
        both = await self._database.reading(partial(_both, project=project, endpoint=endpoint, asked=asked))
        if self._turn.locked():
            raise Busy("another replay goes on; one at a time, so that clients are not disturbed", retry_after_s=10.0)
        async with self._turn:
            sendable, skipped = sorted_out(await self._read(project, endpoint, asked.wanted))
            outcomes: list[Outcome] = []
            links = await self._links(both)
            try:
                due_s = time.monotonic()
                for at, record in enumerate(sendable):
                    await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                    due_s = max(due_s, time.monotonic()) + (1 / asked.rate if asked.rate else 0.0)
                    if not all(link.is_open for link in links):
                        links = await self._links(both, links)
                    found = await _ask_both(links, record, is_swapped=at % 2 == 1)
                    if found is None:
                        skipped[NO_ROOM] = skipped.get(NO_ROOM, 0) + 1
                        continue
                    outcomes.append(replay.outcome(record, *found))
                    yield outcomes[-1]
            finally:
                _close(links)
            yield replay.summary(outcomes, skipped, *both)

    async def _read(self, project: str, endpoint: str, wanted: Wanted) -> Sequence[SampleRecord]:
        try:
            return await asyncio.to_thread(self._samples.read, project, endpoint, wanted, time.time())
        except (OSError, Unreadable) as wrong:
            raise Unavailable(f"the samples of {project}/{endpoint} cannot be read: {wrong}") from wrong

    async def _links(self, both: Sequence[str], before: Sequence[Link] = ()) -> list[Link]:
        """Return a connection to a ready replica of each revision. Raises Unavailable."""
        _close(before)
        links: list[Link] = []
        try:
            for revision in both:
                replica = self._fleet.ready(revision)
                if replica is None:
                    raise Unavailable(
                        f"{revision} has no ready replica; only what is up can be asked: what serves, "
                        "and what a rollout tries"
                    )
                links.append(await self._fleet.link(replica.name))
        except BaseException:
            _close(links)
            raise
        return links


NO_ROOM: Final = "its replica had no room beside its clients' requests"
_KILLING: Final = "a replica may have died of it"


def sorted_out(records: Sequence[SampleRecord]) -> tuple[list[SampleRecord], dict[str, int]]:
    """Return those that can be sent past the gateways, and how many cannot, by the reason."""
    sendable: list[SampleRecord] = []
    skipped: dict[str, int] = {}
    for record in records:
        why = _KILLING if replay.is_killing(record) else replay.obstacle(record)
        if why:
            skipped[why] = skipped.get(why, 0) + 1
        else:
            sendable.append(record)
    return sendable, skipped


def has_room(stats: ReplicaStats) -> bool:
    """Return whether a replica can take one more without anybody's request waiting for it."""
    return stats.state == "ready" and stats.queued == 0 and (not stats.slots or stats.running < stats.slots)


def named(every: Sequence[Revision], which: str) -> str:
    """Return the whole name of one of an endpoint's revisions. Raises NotFound, InvalidInput."""
    first = every[0]
    whole = str(revision_id(first.project, first.endpoint, int(which))) if _NUMBER.match(which) else which
    short = whole if whole.startswith(f"{first.project}.") else f"{first.project}.{whole}"
    if all(each.revision != short for each in every):
        there = ", ".join(str(each.number) for each in every[-10:])
        raise NotFound(f"{first.project}/{first.endpoint} has no revision {which!r}; there are {there}")
    return short


def _both(connection: Connection, *, project: str, endpoint: str, asked: Replay) -> tuple[str, str]:
    """Return which revisions are asked, by their names."""
    serving = endpoints.get(connection, project, endpoint).serving
    every = revisions.everything(connection, project, endpoint)
    if not every or not (asked.before or serving):
        raise Conflict(f"{project}/{endpoint} has no revision that serves yet; name one that is up with `before`")
    if not asked.after:
        raise InvalidInput("which revision is to be compared with the serving one?", field="after")
    before = named(every, asked.before or serving)
    after = named(every, asked.after)
    if before == after:
        raise Conflict(f"{after} would be compared with itself; name another with `before` or `after`")
    return before, after


async def _ask_both(
    links: Sequence[Link], record: SampleRecord, *, is_swapped: bool
) -> tuple[tuple[Reply, Any], tuple[Reply, Any]] | None:
    """Return both replies with their answers; None where a replica had no room. Who is first finds caches colder."""
    said: dict[int, tuple[Reply, Any]] = {}
    _, body = replay.request(record, record.endpoint)
    for which in (1, 0) if is_swapped else (0, 1):
        began_s = time.monotonic()
        try:
            if not await _room(links[which]):
                return None
            answer = await ask.ask(links[which], record.method, body, alone=record.method == "infer")
        except (ReplicaLost, Draining) as lost:
            said[which] = Reply(lost.status, time.monotonic() - began_s, lost.code), None
            links[which].close()  # the next sample is sent to another replica
            continue
        reply = replay.reply(answer.value, answer.status, answer.seconds, answer.code)
        said[which] = reply, answer.value
    return said[0], said[1]


async def _room(link: Link) -> bool:
    """Return whether the replica has room for one more request, within ROOM_S."""
    end_s = time.monotonic() + ROOM_S
    while not has_room(await ask.stats(link)):
        if time.monotonic() > end_s:
            return False
        await asyncio.sleep(LOOK_S)
    return True


def _close(links: Sequence[Link]) -> None:
    for link in links:
        link.close()
