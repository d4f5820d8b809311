"""All processes of one node: which there are, what may be asked of them, and in which order they end."""

import asyncio
import itertools
import logging
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stoker.agent import adopt, forkserver, kernel, logs, orphans
from stoker.agent.child import Child
from stoker.agent.faults import undo
from stoker.agent.folders import Folders
from stoker.agent.forks import ForkServers
from stoker.agent.load import MachineLoad
from stoker.agent.pace import Pace
from stoker.agent.prefetch import Prefetch
from stoker.agent.process import Owned
from stoker.agent.records import Record, Records
from stoker.agent.site import Site
from stoker.telemetry import machine
from stoker.types.ahead import AHEAD_MAX, Ahead
from stoker.types.errors import Busy, Conflict, Draining, Forbidden, InvalidInput, NotFound
from stoker.types.faults import Fault
from stoker.types.placement import DEFAULT_POOL
from stoker.types.process import NodeStatus, ProcessSpec, ProcessStatus, spec_digest

PACE: Final = Pace()
PROCESSES_MAX: Final = 512
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
END_ORDER: Final = ("gateway", "replica", "control")  # who admits work ends first, who keeps state last
_log: Final = logging.getLogger(__name__)


class Supervisor:
    """The agent without its API. `start`, then `put`, `delete`, `status` …, at last `shutdown` or `let_go`."""

    def __init__(
        self,
        folders: Folders,
        node: str,
        system: Iterable[ProcessSpec],
        pace: Pace = PACE,
        pool: str = DEFAULT_POOL,
        *,
        forks: bool = False,
    ) -> None:
        self.ended = asyncio.Event()  # after a shutdown: nothing runs any more
        self._folders = folders
        self._records = Records(folders.processes)
        self._forks = ForkServers(folders) if forks else None
        self._prefetch = Prefetch()
        self._site = Site(folders, self._records, self.changed, pace, self._forks)
        self._node = node
        self._pool = pool
        self.gpus = 0  # that replicas may be given
        self.coming: Callable[[], Iterable[ProcessStatus]] = tuple  # replicas that are not started yet
        self._system = {spec.name: spec for spec in system}
        self._owned: dict[str, Owned] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fence = 0
        self._is_closing = False
        self._started_at_s = time.time()
        # Grows over restarts of the agent too, so that whoever waits for a change from the last one gets an answer.
        self._sequence = time.time_ns() // 1_000_000
        self._waiters: set[asyncio.Future[None]] = set()
        self._look: asyncio.Task[None] | None = None
        self._memory = machine.memory()
        self._load = MachineLoad()

    @property
    def folder(self) -> Path:
        """Where it keeps what it knows."""
        return self._folders.processes

    def start(self) -> None:
        """Take over what runs, end what nobody answers for, and start the platform's own processes."""
        self.adopt()
        for spec in self._system.values():
            if spec.name not in self._owned:
                self._own(Record(spec))
            elif self._owned[spec.name].digest != spec_digest(spec):
                self._owned[spec.name].succeed(spec, 0)
        for name, owned in self._owned.items():
            if owned.record.spec.kind != "replica" and name not in self._system:
                owned.ask_stop(owned.record.spec.drain_s)
        self._look = asyncio.create_task(self._look_around(), name="look around")

    def adopt(self, *, only_living: bool = False) -> None:
        """Own every process on record, found running or to be started; with `only_living` forget the others."""
        records, boot = self._records.read(), kernel.boot_id()
        marked = kernel.marked(self._folders.home_id)
        found = adopt.claims(records, marked, boot)
        for name, record in records.items():
            self._fence = max(self._fence, record.fence)
            line = found.get(name)
            child = Child.adopt(line.pid, line.start_ticks) if line is not None else None
            if child is not None:
                _log.info("adopted", extra={"worker": name, "pid": child.pid})
                if record.fault is not None:
                    _log.warning("ended a fault of an agent before", extra={"worker": name, "kind": record.fault.kind})
                    undo(child, record.spec, record.fault)
                now = {"pid": child.pid, "start_ticks": child.start_ticks, "boot": boot, "fault": None}
                self._own(msgspec.structs.replace(record, **now), child)
            elif only_living or (record.spec.kind != "replica" and name not in self._system):
                self._records.remove(name)
            else:
                self._own(msgspec.structs.replace(record, pid=0, start_ticks=0, fault=None))
        self._kill_strays(marked)
        if not found:
            self._fence = 0  # nothing lived on, so no older control did; a database made anew may count from 1

    async def wait_spawned(self, timeout_s: float) -> None:
        """Return once every process of the platform itself has been started, or after `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(self._owned[name].child is None for name in self._system if name in self._owned):
                    await self.wait_change(self._sequence, timeout_s)

    def find(self, name: str) -> ProcessStatus | None:
        """Return a process that runs here or is to, or None."""
        owned = self._owned.get(name)
        return owned.status() if owned is not None else None

    def admits(self, spec: ProcessSpec, fence: int) -> None:
        """Raise what `put` would of a spec that may not run here, or of an older control."""
        if not NAME.fullmatch(spec.name) or spec.name in adopt.CARETAKERS:
            raise InvalidInput(f"{spec.name!r} cannot name a process: {NAME.pattern}", field="name")
        if spec.kind != "replica" or spec.name in self._system:
            raise Forbidden(f"{spec.name} is the agent's own; only replicas are started through its API")
        if not spec.argv or not spec.argv[0]:
            raise InvalidInput("a process needs at least one argument, the program", field="argv")
        self._obey(fence)
        if self._is_closing:
            raise Draining("this agent is shutting down")

    def put(self, spec: ProcessSpec, fence: int) -> ProcessStatus:
        """Run `spec` under its name from now on; the same again changes nothing. Returns once that is durable."""
        self.admits(spec, fence)
        owned = self._owned.get(spec.name)
        if owned is not None and owned.is_ending:
            raise Conflict(f"{spec.name} is being stopped; start it again when it is gone")
        if owned is not None and owned.digest == spec_digest(spec):
            return owned.status()
        if owned is None and len(self._owned) >= PROCESSES_MAX:
            raise Busy(f"this agent runs {PROCESSES_MAX} processes already", retry_after_s=5)
        # Written in the loop's own thread: nothing may come between the checks above and the process' place.
        if owned is not None:
            owned.succeed(spec, fence)
            return owned.status()
        record = Record(spec, fence=fence)
        self._records.write(record)
        return self._own(record).status()

    def delete(self, name: str, drain_s: float | None, fence: int) -> None:
        """Drain and end a process for good. One that is not there is as good as ended."""
        if name in self._system:
            raise Forbidden(f"{name} is the agent's own; it ends with the agent")
        self._obey(fence)
        owned = self._owned.get(name)
        if owned is not None:
            owned.ask_stop(owned.record.spec.drain_s if drain_s is None else drain_s)

    async def inject(self, name: str, fault: Fault, fence: int) -> ProcessStatus:
        """Put a fault into a replica; it ends by itself. Raises NotFound, Forbidden or Conflict."""
        self._obey(fence)
        owned = self._owned.get(name)
        if owned is None:
            raise NotFound(f"no process {name!r} runs here")
        if owned.record.spec.kind != "replica":
            raise Forbidden(f"{name} is no replica; faults are for replicas only")
        await owned.inject(fault, fence)
        return owned.status()

    def end_fault(self, name: str, fence: int) -> None:
        """End the fault in a replica; one that has none, or is gone, is as it should be."""
        self._obey(fence)
        if name in self._owned:
            self._owned[name].end_fault()

    def expect(self, ahead: Sequence[Ahead], fence: int) -> None:
        """Have files and imports of these ready, the most valuable first; those of before are over."""
        self._obey(fence)
        if self._is_closing:
            raise Draining("this agent is shutting down")
        self._prefetch.want(ahead[:AHEAD_MAX])

    def status(self) -> NodeStatus:
        """Return the node as it is now."""
        return NodeStatus(
            node=self._node,
            sequence=self._sequence,
            cores=kernel.usable_cores(),
            memory_bytes=self._memory[0],
            memory_free_bytes=self._memory[1],
            processes=(*(owned.status() for _, owned in sorted(self._owned.items())), *self.coming()),
            started_at_s=self._started_at_s,
            fence=self._fence,
            cpu_ratio=self._load.cpu_ratio,
            cpu_pressure_ratio=self._load.pressure_ratio,
            memory_pressure_ratio=self._load.memory_pressure_ratio,
            pool=self._pool,
            gpus=self.gpus,
            ahead=self._prefetch.status(),
            forks=self._forks.status() if self._forks is not None else (),
        )

    async def wait_change(self, after: int, wait_s: float) -> NodeStatus:
        """Return the status once it is another than `after`, or after `wait_s`."""
        if self._sequence == after and wait_s > 0:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait({waiter}, timeout=wait_s)
            finally:
                self._waiters.discard(waiter)
        return self.status()

    def read_log(self, name: str, *, lines: int, follow: bool) -> AsyncIterator[bytes]:
        """Return the end of a process' log, and with `follow` what it writes until it is gone for good."""
        path = logs.log_path(self._folders.logs, name)
        if not NAME.fullmatch(name) or (name not in self._owned and not path.exists()):
            raise NotFound(f"no process {name!r} ever ran here, or its log is gone")
        return logs.read(
            path, lines=lines, follow=follow, is_wanted=lambda: name in self._owned and not self.ended.is_set()
        )

    async def shutdown(self, drain_s: float) -> None:
        """End everything in order: gateways finish what they took, then replicas, then control."""
        self._is_closing = True
        self._prefetch.close()
        if self._forks is not None:
            self._forks.close()
        for kind in END_ORDER:
            ending = [name for name, owned in self._owned.items() if owned.record.spec.kind == kind]
            for name in ending:
                self._owned[name].ask_stop(drain_s)
            await asyncio.gather(*(self._tasks[name] for name in ending if name in self._tasks))
        if self._look is not None:
            self._look.cancel()
        self._kill_strays(kernel.marked(self._folders.home_id))
        self.ended.set()
        self.changed()

    async def let_go(self) -> None:
        """End this agent alone: its processes go on, for the next agent to adopt."""
        tasks = [task for task in (self._look, *self._tasks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for owned in self._owned.values():
            owned.let_go()
        self._prefetch.close()
        if self._forks is not None:
            self._forks.close()

    def _obey(self, fence: int) -> None:
        if fence < self._fence:
            raise Conflict(f"fencing token {fence} is older than {self._fence}: another control is in charge")
        self._fence = fence

    def _own(self, record: Record, child: Child | None = None) -> Owned:
        name = record.spec.name
        owned = self._owned[name] = Owned(self._site, record, child)
        self._tasks[name] = asyncio.create_task(self._run(owned), name=f"own {name}")
        self.changed()
        return owned

    async def _run(self, owned: Owned) -> None:
        is_done = False
        while not is_done:
            try:
                await owned.run()
                is_done = True
            except Exception:  # a bug met with one process must not leave the others without an agent
                _log.exception("stumbled over a process", extra={"worker": owned.name})
                await asyncio.sleep(self._site.pace.look_every_s)
        del self._owned[owned.name], self._tasks[owned.name]
        self.changed()

    def changed(self) -> None:
        """Tell whoever waits that the status is another."""
        self._sequence += 1
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _look_around(self) -> None:
        """Once a second: what each process uses, logs that are full; now and then, strays."""
        for turn in itertools.count():
            try:
                lines = await asyncio.to_thread(lambda: list(kernel.processes()))
                self._measure(lines)
                self._tend(lines)
                await asyncio.to_thread(self._tidy_logs)
                if (turn + 1) % self._site.pace.strays_every == 0:
                    self._kill_strays(await asyncio.to_thread(kernel.marked, self._folders.home_id))
            except OSError as problem:  # a look that failed is made up by the next
                _log.warning("could not look around", extra={"reason": str(problem)})
            await asyncio.sleep(self._site.pace.look_every_s)

    def _measure(self, lines: list[kernel.ProcessLine]) -> None:
        """Give each process what it and the children in its session use."""
        self._memory = machine.memory()
        self._load.look()
        leaders = {owned.child.pid: owned for owned in self._owned.values() if owned.child is not None}
        used: dict[int, tuple[int, float]] = {}
        for line in lines:
            if line.session in leaders:
                rss_bytes, cpu_s = used.get(line.session, (0, 0.0))
                used[line.session] = (rss_bytes + line.rss_bytes, cpu_s + line.cpu_s)
        for pid, owned in leaders.items():
            owned.rss_bytes, owned.cpu_s = used.get(pid, (owned.rss_bytes, owned.cpu_s))

    def _tend(self, lines: list[kernel.ProcessLine]) -> None:
        """Look after those that are nobody's replica: fork servers, and the dead whose parents are gone."""
        pids = self._pids()
        orphans.bury(lines, set(pids.values()))
        self._prefetch.look(time.monotonic())
        if self._forks is not None:
            wanted = [owned.fork_key for owned in self._owned.values() if owned.fork_key is not None]
            wanted += [each.fork for each in self._prefetch.wanted if each.fork is not None]
            is_busy = any(owned.phase in ("starting", "loading") for owned in self._owned.values())
            self._forks.tend(wanted, lines, is_busy=is_busy, free_bytes=self._memory[1])

    def _pids(self) -> dict[str, int]:
        pids = {name: owned.child.pid for name, owned in self._owned.items() if owned.child is not None}
        return {**pids, **self._forks.pids} if self._forks is not None else pids

    def _tidy_logs(self) -> None:
        for path in self._folders.logs.glob("*.log"):
            logs.rotate(path)
        logs.prune(self._folders.logs, {*self._owned, *adopt.CARETAKERS, forkserver.LOG})

    def _kill_strays(self, marked: dict[kernel.ProcessLine, str]) -> None:
        for line in adopt.strays(marked, self._pids()):
            if line.pid != os.getpid() and kernel.is_same(line.pid, line.start_ticks):
                _log.warning("killed a stray", extra={"worker": marked[line], "pid": line.pid})
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(line.pid, signal.SIGKILL)
