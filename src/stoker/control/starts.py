"""Keeps what starts of replicas took, from what their agents report: once they are ready, and again with their first
answer. A report that comes while this control does not act is written by the one that does. And says what they usually
take.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from stoker.control.observe import Observer, State
from stoker.control.ports import Folders
from stoker.control.replicas import choice_file
from stoker.core import loading
from stoker.core.snapshot import Assignment, EndpointKey, Revision
from stoker.store import endpoints, leases, starts
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.types.engines import AUTO, EngineChoice
from stoker.types.errors import StokerError
from stoker.types.loading import Usual
from stoker.types.process import ProcessStatus
from stoker.types.starts import ORDER, Start

WRITE_EVERY_S: Final = 1.0  # a start and its first answer are often one write

log = logging.getLogger(__name__)


class StartWatch:
    """Looks at every report of the nodes; `run` writes what is new."""

    def __init__(
        self,
        database: Database,
        observer: Observer,
        folders: Folders,
        state: Callable[[], State | None],
        lease: Callable[[], Lease | None],
    ) -> None:
        self._database = database
        self._observer = observer
        self._folders = folders
        self._state = state
        self._lease = lease
        self._written: dict[str, Start] | None = None  # the newest by replica; None: not read since this process acts
        self._usual: Mapping[EndpointKey, Usual] | None = None  # None: another start was written since it was read
        self._is_news = asyncio.Event()

    def look(self) -> None:
        """The nodes reported."""
        self._is_news.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._is_news.wait()
            self._is_news.clear()
            try:
                await self.write()
            except LeaseLost:
                self._written = self._usual = None  # another control writes
            except StokerError as problem:
                log.warning("what starts took could not be kept", extra={"reason": problem.message})
            await asyncio.sleep(WRITE_EVERY_S)

    async def write(self) -> None:
        """Write what is known of starts now and was not before. Raises LeaseLost or Unavailable."""
        lease, state = self._lease(), self._state()
        if lease is None or state is None:
            self._written = self._usual = None
            return
        assigned = {str(each.replica): each for each in state.assignments}
        if self._written is None:
            self._written = await self._database.reading(lambda connection: starts.newest(connection, assigned))
        written = self._written
        found = self._found(state, assigned, written)
        news = [(key, start) for key, start in found if written.get(start.replica) != start]
        if news:

            def keep(connection: Connection) -> None:
                leases.guard(connection, lease)
                for key, start in news:
                    starts.keep(connection, *key, start)
                self._usual = None

            await self._database.writing(keep)
        now = {**written, **{start.replica: start for _, start in found}}
        self._written = {replica: start for replica, start in now.items() if replica in assigned}

    def usual(self, connection: Connection) -> Mapping[EndpointKey, Usual]:
        """Return what starts of each endpoint usually take. For the writer's thread, where they are written."""
        if self._usual is None:
            self._usual = {
                each.key: loading.usual(starts.of_endpoint(connection, *each.key, limit=loading.STARTS))
                for each in endpoints.everything(connection)
            }
        return self._usual

    def _found(
        self, state: State, assigned: Mapping[str, Assignment], written: Mapping[str, Start]
    ) -> list[tuple[EndpointKey, Start]]:
        revisions = {str(each.revision): each for each in state.revisions}
        return [
            ((one.project, one.endpoint), self._start(process, one, revisions[one.revision], written.get(process.name)))
            for status in self._observer.statuses
            for process in status.processes
            if process.ready_at_s and process.phases and (one := assigned.get(process.name)) is not None
        ]

    def _start(self, process: ProcessStatus, assignment: Assignment, revision: Revision, before: Start | None) -> Start:
        """Return the start of `process`. Only the first of a replica was ordered: not those after a death, nor after
        the whole platform was down."""
        if before is not None and before.at_s == process.started_at_s:  # the same start, with more known of it
            is_restart, engine = before.is_restart, before.engine
        else:
            is_restart = before is not None or process.restarts > 0
            engine = self._engine(process.name, revision)
        ordered = {} if is_restart else {ORDER: max(process.started_at_s - assignment.created_at_s, 0.0)}
        return Start(
            replica=process.name,
            revision=str(revision.revision),
            engine=engine,
            at_s=process.started_at_s,
            phases={name: round(seconds, 6) for name, seconds in {**ordered, **process.phases}.items()},
            total_s=round(max(process.ready_at_s - process.started_at_s, 0.0), 6),
            is_restart=is_restart,
        )

    def _engine(self, replica: str, revision: Revision) -> str:
        """Return what runs it: of `auto`, what the replica chose."""
        if revision.config.engine != AUTO:
            return revision.config.engine
        try:
            return msgspec.json.decode(choice_file(self._folders, replica).read_bytes(), type=EngineChoice).engine
        except (OSError, msgspec.DecodeError):
            return AUTO
