"""A fault while it lasts in a process: it ends by its own clock, with the process, or when somebody ends it.

How each is put in and taken out again is an Act. An agent that dies leaves the fault in the record of the process; the
next agent undoes it before anything else (`undo`).
"""

import asyncio
import resource
import shutil
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol, assert_never

from stoker.agent import corrupt
from stoker.agent.child import Child
from stoker.types.errors import Conflict
from stoker.types.faults import Fault
from stoker.types.process import ProcessSpec

# Of a slow process: long enough that signals cost nothing, short enough that no ping is missed (Pace.ping_every_s).
PERIOD_S: Final = 0.2


class Act(Protocol):
    """How one kind of fault is done to one process."""

    outlives: bool  # the process: it is there in the next life too

    async def begin(self) -> None:
        """Put it in. Raises StokerError when it cannot be, and has then changed nothing."""

    async def last(self, seconds: float) -> None:
        """Return when it is over, by `seconds` or by itself."""

    def end(self) -> None:
        """Take it out; again, or of a dead process, changes nothing."""


class Injected:
    """A fault in a process. `ended` is called once, also when nothing was left to end."""

    def __init__(self, fault: Fault, act: Act, ended: Callable[[], None]) -> None:
        self.fault = fault
        self.outlives = act.outlives
        self._act = act
        self._ended: Callable[[], None] | None = ended
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Put it in. Raises StokerError when it cannot be; it has ended then."""
        try:
            await self._act.begin()
        except BaseException:
            self.end()
            raise
        if self._ended is not None:  # else it was ended meanwhile
            self._task = asyncio.get_running_loop().create_task(self._hold(), name=f"fault {self.fault.kind}")

    def end(self) -> None:
        """End it now; again changes nothing."""
        if self._task is not None:
            self._task.cancel()
        self._act.end()
        if self._ended is not None:
            ended, self._ended = self._ended, None
            ended()

    async def _hold(self) -> None:
        await self._act.last(self.fault.seconds)
        self.end()


class Kill:
    """SIGKILL, once."""

    outlives = False

    def __init__(self, child: Child) -> None:
        self._child = child

    async def begin(self) -> None:
        """See Act."""
        self._child.send(signal.SIGKILL)

    async def last(self, seconds: float) -> None:
        """See Act."""

    def end(self) -> None:
        """See Act: nothing brings it back but its next start."""


class Stopped:
    """The process stands still: all of the time, or `still_ratio` of it."""

    outlives = False

    def __init__(self, child: Child, still_ratio: float) -> None:
        self._child = child
        self._still_ratio = still_ratio

    async def begin(self) -> None:
        """See Act."""
        self._child.send_group(signal.SIGSTOP)

    async def last(self, seconds: float) -> None:
        """See Act."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + seconds
        while self._child.is_alive and (left_s := until_s - loop.time()) > 0:
            self._child.send_group(signal.SIGSTOP)
            await self._child.wait(left_s if self._still_ratio >= 1 else PERIOD_S * self._still_ratio)
            if self._still_ratio < 1:
                self._child.send_group(signal.SIGCONT)
                await self._child.wait(PERIOD_S * (1 - self._still_ratio))

    def end(self) -> None:
        """See Act. SIGCONT does nothing to a process that runs."""
        self._child.send_group(signal.SIGCONT)


class FullDisk:
    """Every write of the process to a file fails (EFBIG where a full disk says ENOSPC), its log's too.

    Not the disk of the node: what else writes there would be hurt, and a filler that outlives its agent stays.
    """

    outlives = False

    def __init__(self, child: Child) -> None:
        self._child = child

    async def begin(self) -> None:
        """See Act."""
        _limit_files(self._child, 0)

    async def last(self, seconds: float) -> None:
        """See Act."""
        await self._child.wait(seconds)

    def end(self) -> None:
        """See Act: back to what the agent's children have."""
        with suppress(Conflict):
            _limit_files(self._child, resource.getrlimit(resource.RLIMIT_FSIZE)[0])


class Corrupt:
    """The process is started again from a copy of its model with one byte changed, and anew at the end."""

    outlives = True

    def __init__(self, spec: ProcessSpec, kill: Callable[[], None]) -> None:
        self.spec = spec  # of its starts, while it lasts
        self._kill = kill
        self._is_there = self._is_over = False

    async def begin(self) -> None:
        """See Act."""
        spec = await asyncio.to_thread(corrupt.prepare, self.spec)
        if self._is_over:
            shutil.rmtree(corrupt.folder(spec), ignore_errors=True)
            return
        self._is_there, self.spec = True, spec
        self._kill()

    async def last(self, seconds: float) -> None:
        """See Act."""
        await asyncio.sleep(seconds)

    def end(self) -> None:
        """See Act. Whatever runs now was started from the copy."""
        self._is_over = True
        if self._is_there:
            self._is_there = False
            shutil.rmtree(corrupt.folder(self.spec), ignore_errors=True)
            self._kill()


class Asked:
    """The process does it to itself (runtime/faults.py), and ends it by its own clock and with this agent."""

    outlives = False

    def __init__(self, child: Child, fault: Fault, tell: Callable[[Fault | None], Awaitable[None]]) -> None:
        self._child = child
        self._fault = fault
        self._tell = tell
        self._ending: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """See Act."""
        await self._tell(self._fault)

    async def last(self, seconds: float) -> None:
        """See Act."""
        await self._child.wait(seconds)

    def end(self) -> None:
        """See Act. A process that does not hear it ends the fault when its time is over."""
        if self._ending is None and self._child.is_alive:
            self._ending = asyncio.get_running_loop().create_task(self._quietly())

    async def _quietly(self) -> None:
        with suppress(Conflict):
            await self._tell(None)


def act_of(
    fault: Fault,
    child: Child,
    spec: ProcessSpec,
    tell: Callable[[Fault | None], Awaitable[None]],
    kill: Callable[[], None],
) -> Act:
    """Return how `fault` is done to the process `child` of `spec`.

    tell: has the process put it into itself, None: end it. kill: ends whichever process there is of that spec.
    """
    match fault.kind:
        case "kill":
            return Kill(child)
        case "hang":
            return Stopped(child, 1.0)
        case "slow":
            return Stopped(child, fault.still_ratio)
        case "disk":
            return FullDisk(child)
        case "corrupt":
            return Corrupt(spec, kill)
        case "memory" | "clock" | "network" | "dependency":
            return Asked(child, fault, tell)
        case _:
            assert_never(fault.kind)


def undo(child: Child, spec: ProcessSpec, fault: Fault) -> None:
    """Take out what an agent that is gone had put in. What a process does to itself ended with that agent."""
    if fault.kind == "corrupt":
        shutil.rmtree(corrupt.folder(spec), ignore_errors=True)
        child.kill_group()
    elif fault.kind == "disk":
        FullDisk(child).end()
    else:
        child.send_group(signal.SIGCONT)


def _limit_files(child: Child, most_bytes: int) -> None:
    """Let the process write no file beyond `most_bytes`. Raises Conflict where the kernel refuses."""
    if not child.is_alive:
        return
    try:
        _, hard = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
        if hard != resource.RLIM_INFINITY and not 0 <= most_bytes <= hard:
            most_bytes = hard  # a confined replica may never have more
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (most_bytes, hard))
    except ProcessLookupError:
        return
    except (OSError, ValueError) as refused:
        raise Conflict(
            f"the kernel does not let the agent limit the files of process {child.pid} ({refused}); the agent must run "
            "as the same user, or with CAP_SYS_RESOURCE"
        ) from refused
