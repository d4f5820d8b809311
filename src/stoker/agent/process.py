"""One process the agent owns, from its spec to its end: started, watched, started again, stopped.

`run` tells the story from top to bottom. The phases it goes through are the table MOVES; what is not in the table
changes nothing (a report that a process is ready does not revive one that is being stopped).
"""

import asyncio
import logging
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from stoker.agent import logs, words
from stoker.agent.birth import birth
from stoker.agent.child import Child, sweep
from stoker.agent.faults import Corrupt, Injected, act_of
from stoker.agent.health import Watch
from stoker.agent.kernel import boot_id
from stoker.agent.records import Record
from stoker.agent.site import Site
from stoker.agent.stop import stop
from stoker.core import backoff, liveness
from stoker.types.errors import Conflict, Unavailable
from stoker.types.faults import Fault
from stoker.types.process import KilledFor, LoadProgress, ProcessPhase, ProcessSpec, ProcessStatus, spec_digest

Event = Literal["loading", "ready", "draining", "signal", "death", "spawn", "end"]

MOVES: Final[dict[tuple[ProcessPhase, Event], ProcessPhase]] = {
    ("backoff", "spawn"): "starting",
    ("starting", "loading"): "loading",
    ("starting", "ready"): "ready",
    ("starting", "draining"): "draining",
    ("loading", "ready"): "ready",
    ("loading", "draining"): "draining",
    ("ready", "loading"): "loading",
    ("ready", "draining"): "draining",
    ("starting", "signal"): "stopping",
    ("loading", "signal"): "stopping",
    ("ready", "signal"): "stopping",
    ("draining", "signal"): "stopping",
    ("starting", "death"): "backoff",
    ("loading", "death"): "backoff",
    ("ready", "death"): "backoff",
    ("draining", "death"): "backoff",
    ("stopping", "death"): "backoff",
    ("starting", "end"): "stopped",
    ("backoff", "end"): "stopped",
    ("stopping", "end"): "stopped",
    ("draining", "end"): "stopped",
}
DUMP_WAIT_S: Final = 1.0
LOADING_EVERY_S: Final = 0.1  # somebody waits for it
_log: Final = logging.getLogger(__name__)


class Owned:
    """One process. `record` is what is on disk of it, and true but for what `phase` and `child` say of this moment."""

    def __init__(self, site: Site, record: Record, child: Child | None = None) -> None:
        self.record = record
        self.phase: ProcessPhase = "starting"
        self.child = child
        self.rss_bytes = 0
        self.cpu_s = 0.0
        self.fork_key = site.forks.key(record.spec) if site.forks is not None else None
        self._site = site
        self._watch: Watch | None = None
        self._injected: Injected | None = None
        self._corrupt: Corrupt | None = None  # what it is started from instead, while it lasts
        self._ready_at_s = record.ready_at_s if child is not None else 0.0
        self._next_start_s = 0.0
        self._log_start = 0
        self._is_ending = False
        self._killed_for: KilledFor = ""
        self._stop_at_s = 0.0  # monotonic; counts once `_asked`
        self._asked = asyncio.Event()  # to stop this life: for good, or for the successor
        if record.successor is not None:
            self._ask(record.spec.drain_s)

    @property
    def name(self) -> str:
        """The process' name."""
        return self.record.spec.name

    @property
    def is_ending(self) -> bool:
        """Return whether it was told to stop for good."""
        return self._is_ending

    @property
    def digest(self) -> str:
        """The digest of the spec it was last given."""
        return spec_digest(self.record.successor or self.record.spec)

    @property
    def log(self) -> Path:
        """Where it writes."""
        return logs.log_path(self._site.folders.logs, self.name)

    def ask_stop(self, drain_s: float) -> None:
        """Have it drained and ended for good; asked again, the shorter time counts."""
        self._is_ending = True
        self._ask(drain_s)

    def succeed(self, spec: ProcessSpec, fence: int) -> None:
        """Have it drained and ended, and `spec` started in its place. Durable on return; raises Unavailable."""
        record = msgspec.structs.replace(self.record, successor=spec, fence=fence)
        self._site.records.write(record)
        self.record = record
        self._ask(self.record.spec.drain_s)

    async def inject(self, fault: Fault, fence: int) -> None:
        """Put a fault into the running process; durable before it begins. Raises Conflict or Unavailable."""
        child, watch = self.child, self._watch
        if child is None or watch is None or self._asked.is_set():
            raise Conflict(f"{self.name} does not run ({self.phase}), so no fault can be put into it")
        if self._injected is not None:
            raise Conflict(f"{self.name} has a fault already: {self._injected.fault.kind}; end that one first")
        self._write(fault=fault, fence=fence)
        _log.warning("fault injected", extra={"worker": self.name, "kind": fault.kind, "seconds": fault.seconds})
        act = act_of(fault, child, self.record.spec, watch.tell, self._kill)
        self._corrupt = act if isinstance(act, Corrupt) else None
        self._injected = Injected(fault, act, self._fault_ended)
        self._site.changed()
        await self._injected.begin()

    def end_fault(self) -> None:
        """End the fault in it, when there is one."""
        if self._injected is not None:
            self._injected.end()

    def status(self) -> ProcessStatus:
        """Return what is known of it now."""
        record, watch = self.record, self._watch
        return ProcessStatus(
            name=self.name,
            kind=record.spec.kind,
            phase=self.phase,
            pid=self.child.pid if self.child is not None else 0,
            address=record.spec.address,
            spec_digest=self.digest,
            started_at_s=record.started_at_s if self.child is not None else 0.0,
            ready_at_s=self._ready_at_s,
            restarts=max(0, record.starts - 1),
            crashes_in_row=record.crashes_in_row,
            ready_crashes=record.ready_crashes,
            next_start_s=self._next_start_s if self.phase == "backoff" else 0.0,
            last_exit=record.last_exit,
            killed_for=record.killed_for,
            last_error=record.last_error or (watch.error if watch is not None else ""),
            rss_bytes=self.rss_bytes if self.child is not None else 0,
            cpu_s=self.cpu_s if self.child is not None else 0.0,
            busy_s=watch.busy_s if watch is not None else 0.0,
            progress=watch.progress if watch is not None and self.phase == "loading" else LoadProgress(),
            engine=watch.stats.engine if watch is not None and watch.stats is not None else "",
            phases=watch.phases if watch is not None else {},
            sandbox=watch.sandbox if watch is not None else None,
            fault=self._injected.fault.kind if self._injected is not None else "",
            labels=record.spec.labels,
        )

    async def run(self) -> None:
        """Keep the process running until it is asked to stop; then end it and forget its record.

        Can be called again after it raised: it goes on from where the process is.
        """
        while not self._is_ending:
            while self.child is not None or not self._asked.is_set():
                if self.child is None and not await self._start():
                    continue
                assert self.child is not None
                fault = await self._live(self.child)
                await self._after_death(self.child, fault)
            if self.record.successor is not None and not self._is_ending:
                self._asked.clear()
                self._next_start_s = self._ready_at_s = 0.0
                self.record = Record(self.record.successor, fence=self.record.fence)
                self.fork_key = self._site.forks.key(self.record.spec) if self._site.forks is not None else None
        self._forget()

    def let_go(self) -> None:
        """Leave the process running without this agent (it ends, its processes do not)."""
        self.end_fault()
        if self.child is not None:
            self.child.let_go()

    async def _start(self) -> bool:
        """Wait for the time to start, then start it; return whether it runs. A failure is a death like others."""
        wait_s = self._next_start_s - time.time()
        if wait_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, backoff.DELAY_MAX_S * 2)):
                    await self._asked.wait()
            if self._asked.is_set():
                return False
        self._move("spawn")
        try:
            self._write(pid=0, start_ticks=0, boot="", ready_at_s=0.0, starts=self.record.starts + 1)
            self._error_file.unlink(missing_ok=True)
            self._log_start = logs.size_of(self.log)
            spec = self._corrupt.spec if self._corrupt is not None else self.record.spec
            spawned_at_s = time.time()
            self.child = await birth(spec, self._site, self.log)
        except (OSError, ValueError, Unavailable) as refused:
            self._note_death(f"did not start: {refused}", last_exit="did not start")
            return False
        now = {"pid": self.child.pid, "start_ticks": self.child.start_ticks, "boot": boot_id()}
        self._write_if_possible(**now, started_at_s=spawned_at_s)
        _log.info("started", extra={"worker": self.name, "pid": self.child.pid})
        return True

    async def _live(self, child: Child) -> str:
        """Watch the process until it is dead; return why it was killed, "" when it was not, or died by itself."""
        spec = self.record.spec
        self._watch = watch = Watch(self.name, child.pid, spec.address, self._on_report)
        limits = liveness.Limits(spec.start_timeout_s, spec.stall_s, spec.memory_bytes, spec.silent_s)
        memory, looked_s, fault, is_stuck = liveness.Liveness(), time.monotonic(), "", False
        try:
            while child.is_alive and not fault:
                await self._pause(child)
                if self._asked.is_set() and child.is_alive:
                    self._site.changed()
                    drains = spec.kind != "control"
                    grace_s = self._site.pace.term_grace_s
                    ends_s, on_signal = (lambda: self._stop_at_s), (lambda: self._move("signal"))
                    await stop(child, watch, ends_s, on_signal, drains=drains, term_grace_s=grace_s)
                    return ""
                now_s = time.monotonic()
                seen = liveness.Seen(watch.take_answered(), watch.stats, self.rss_bytes)
                judgement = liveness.judge(memory, seen, limits, step_s=now_s - looked_s)
                memory, looked_s, fault, is_stuck = judgement.memory, now_s, judgement.fault, judgement.is_stuck
                self._killed_for = judgement.kind
                watch.ping()
            if fault and child.is_alive:
                _log.warning("killed", extra={"worker": self.name, "reason": fault})
                self._move("signal")
                if is_stuck:  # Python answers SIGABRT with the stack of every thread, in the log
                    child.send(signal.SIGABRT)
                    await child.wait(DUMP_WAIT_S)
                child.kill_group()
                await child.exited.wait()
            return fault
        finally:
            await watch.close()

    async def _pause(self, child: Child) -> None:
        """Wait for the next look: at once when the process dies or is to stop."""
        waits = [asyncio.ensure_future(child.exited.wait()), asyncio.ensure_future(self._asked.wait())]
        try:
            await asyncio.wait(
                waits,
                timeout=self._site.pace.ping_every_s if self.phase == "ready" else LOADING_EVERY_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for wait in waits:
                wait.cancel()

    async def _after_death(self, child: Child, fault: str) -> None:
        """Clear away what the process left, and write down how it ended."""
        if self._injected is not None and not self._injected.outlives:
            self.end_fault()
        swept = await asyncio.to_thread(sweep, self._site.folders.home_id, self.name, child.pid)
        last_exit = child.bury()
        self.child = None
        self._watch = None
        self.rss_bytes = 0
        self._move("death")
        reason = (
            "it was asked to"
            if self._asked.is_set()
            else fault or words.of_end(last_exit, self._error_file, self.log, self._log_start)
        )
        _log.info("ended", extra={"worker": self.name, "how": last_exit, "reason": reason[:500], "swept": swept})
        if not self._asked.is_set():
            self._note_death(reason, last_exit=last_exit)

    def _note_death(self, reason: str, *, last_exit: str) -> None:
        ready_s = time.time() - self._ready_at_s if self._ready_at_s else 0.0
        is_replica = self.record.spec.kind == "replica"
        restart = backoff.after_death(
            self.record.crashes_in_row,
            self.record.ready_crashes,
            ready_s=ready_s,
            jitter=random.random(),
            delay_max_s=backoff.DELAY_MAX_S if is_replica else backoff.DELAY_MAX_SYSTEM_S,
        )
        self._ready_at_s = 0.0
        self._next_start_s = time.time() + restart.delay_s
        killed_for, self._killed_for = self._killed_for, ""
        self._write_if_possible(
            pid=0,
            start_ticks=0,
            crashes_in_row=restart.crashes_in_row,
            ready_crashes=restart.ready_crashes,
            last_exit=last_exit,
            last_error=reason,
            killed_for=killed_for,
        )
        self._move("death")

    def _forget(self) -> None:
        if self.record.spec.address.startswith("unix:"):
            with suppress(OSError):
                Path(self.record.spec.address[5:]).unlink(missing_ok=True)
        with suppress(OSError):
            self._error_file.unlink(missing_ok=True)
        try:
            self._site.records.remove(self.name)
        except Unavailable as refused:
            _log.warning("a record stays", extra={"worker": self.name, "reason": refused.message})
        self._move("end")

    def _write(self, **changes: object) -> None:
        """Change the record, on disk first. In the loop's own thread: no other change may come between."""
        changed = msgspec.structs.replace(self.record, **changes)
        self._site.records.write(changed)
        self.record = changed

    def _write_if_possible(self, **changes: object) -> None:
        """Change the record, be it only in memory: on disk its intent stands, and the marker tells of the process."""
        try:
            self._write(**changes)
        except Unavailable as refused:
            self.record = msgspec.structs.replace(self.record, **changes)
            _log.warning("a record is behind", extra={"worker": self.name, "reason": refused.message})

    @property
    def _error_file(self) -> Path:
        return self._site.folders.replicas / f"{self.name}.error"

    def _ask(self, drain_s: float) -> None:
        at_s = time.monotonic() + drain_s
        self._stop_at_s = min(self._stop_at_s, at_s) if self._asked.is_set() else at_s
        self._asked.set()
        self.end_fault()  # it could not drain
        self._site.changed()

    def _fault_ended(self) -> None:
        self._injected = self._corrupt = None
        _log.warning("fault ended", extra={"worker": self.name})
        self._write_if_possible(fault=None)
        self._site.changed()

    def _kill(self) -> None:
        if self.child is not None:
            self.child.kill_group()

    def _on_report(self) -> None:
        phase = self._watch.phase if self._watch is not None else "starting"
        if phase == "ready" and not self._ready_at_s:
            self._ready_at_s = time.time()
            self._write_if_possible(ready_at_s=self._ready_at_s)
        if phase in ("loading", "ready", "draining"):
            self._move(phase)
        self._site.changed()

    def _move(self, event: Event) -> None:
        self.phase = MOVES.get((self.phase, event), self.phase)
        self._site.changed()
