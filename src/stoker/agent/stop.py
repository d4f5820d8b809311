"""How a process ends on request: DRAIN, then SIGTERM, then SIGKILL to all of its group."""

import signal
import time
from collections.abc import Callable
from typing import Final

from stoker.agent.child import Child
from stoker.agent.health import Watch

LOOK_EVERY_S: Final = 0.05
# A process that takes DRAIN says so in its next answer; one that does not is told by SIGTERM, which all understand.
DRAIN_SEEN_S: Final = 1.0


async def stop(
    child: Child,
    watch: Watch,
    deadline_s: Callable[[], float],
    on_signal: Callable[[], None],
    *,
    drains: bool,
    term_grace_s: float,
) -> None:
    """End the process: what it works on has until `deadline_s` (monotonic, may be moved nearer meanwhile).

    Without `drains` SIGTERM comes first: control, whose work is not its clients'.
    """
    if drains:
        await _drain(child, watch, deadline_s)
    on_signal()
    if child.is_alive:
        child.send(signal.SIGTERM)
        child.send(signal.SIGCONT)  # a stopped process would never see the other
    # What runs may go on after SIGTERM too, until its time is over.
    termed_s = time.monotonic()
    while child.is_alive and time.monotonic() < max(deadline_s(), termed_s + term_grace_s):
        await child.wait(LOOK_EVERY_S)
    if child.is_alive:
        child.kill_group()
        await child.exited.wait()


async def _drain(child: Child, watch: Watch, deadline_s: Callable[[], float]) -> None:
    """Return when nothing runs in the process any more, when it does not know DRAIN, or when time is over."""
    if watch.phase not in ("ready", "draining"):
        return
    watch.drain()
    asked_s = time.monotonic()
    while child.is_alive and watch.is_linked and time.monotonic() < deadline_s():
        watch.ping()
        await child.wait(LOOK_EVERY_S)
        stats = watch.stats
        if stats is None:
            return
        if stats.state == "draining":
            if stats.running == 0 and stats.queued == 0:
                return
        elif time.monotonic() > asked_s + DRAIN_SEEN_S:
            return
