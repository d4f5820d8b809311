"""A fault while it lasts in a process: it ends by its own clock, with the process, or when somebody ends it.

Whatever ends it, the process runs again afterwards (SIGCONT does nothing to one that runs). An agent that dies leaves
the fault in the record of the process; the next agent ends it before anything else (`undo`).
"""

import asyncio
import signal
from collections.abc import Callable
from typing import Final, assert_never

from stoker.agent.child import Child
from stoker.types.faults import Fault

# Of a slow process: long enough that signals cost nothing, short enough that no ping is missed (health.PING_EVERY_S).
PERIOD_S: Final = 0.2


class Injected:
    """A fault in `child`; begins when it is made. `ended` is called once, also when nothing was left to end."""

    def __init__(self, child: Child, fault: Fault, ended: Callable[[], None]) -> None:
        self.fault = fault
        self._child = child
        self._ended: Callable[[], None] | None = ended
        self._task = asyncio.get_running_loop().create_task(self._hold(), name=f"fault {fault.kind} {child.pid}")

    def end(self) -> None:
        """End it now; again changes nothing."""
        self._task.cancel()
        undo(self._child)
        if self._ended is not None:
            ended, self._ended = self._ended, None
            ended()

    async def _hold(self) -> None:
        child, fault = self._child, self.fault
        match fault.kind:
            case "kill":
                child.send(signal.SIGKILL)
            case "hang":
                child.send_group(signal.SIGSTOP)
                await child.wait(fault.seconds)
            case "slow":
                await self._stutter()
            case _:
                assert_never(fault.kind)
        self.end()

    async def _stutter(self) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self.fault.seconds
        while self._child.is_alive and loop.time() < until_s:
            self._child.send_group(signal.SIGSTOP)
            await self._child.wait(PERIOD_S * self.fault.still_ratio)
            self._child.send_group(signal.SIGCONT)
            await self._child.wait(PERIOD_S * (1 - self.fault.still_ratio))


def undo(child: Child) -> None:
    """Have a process that stands still run again."""
    child.send_group(signal.SIGCONT)
