"""How a platform ends, whatever state it is in: through its agent, else from the agent's records, else by force."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from stoker.agent import adopt, kernel
from stoker.agent.records import Records
from stoker.agent.supervisor import Supervisor
from stoker.app import agent_main, keeper_main
from stoker.app.home import Home
from stoker.client.connection import Connection
from stoker.types.errors import Conflict, DeadlineExceeded, NotReachable, StokerError, Unavailable

POLL_S: Final = 0.02
ASK_TIMEOUT_S: Final = 5.0
# Over the time to drain, for each of gateways, replicas and control: SIGTERM's grace, and some.
STAGE_GRACE_S: Final = 5.0
STAGES: Final = 3
FORCE_ROUNDS_MAX: Final = 50
CHANGE_WAIT_S: Final = 120.0  # a `down` that drains; then it is said

Progress = Callable[[str], None]


def down(home: Home, *, drain_s: float, progress: Progress = lambda _: None) -> bool:
    """End everything that runs for `home`; return whether anything did. What runs may finish within `drain_s`.

    Raises Unavailable when something cannot be ended.
    """
    if not home.run.is_dir():
        return False
    with changing(home):
        is_running = bool(marked(home))
        if is_running:
            progress("draining")
            _ask_agent(home, drain_s, progress)
        (home.run / keeper_main.WANTED).unlink(missing_ok=True)
        if marked(home):
            _end_caretakers(home)
            _end_from_records(home, drain_s, progress)
        _force(home)
        # An agent that died between the end of a process and its record would start it again with the next `up`.
        Records(home.processes).clear()
        clear(home)
    return is_running


@contextmanager
def changing(home: Home) -> Iterator[None]:
    """Be the only one who starts or ends things for `home`. Raises Conflict when another is at it for too long."""
    lock = keeper_main.take(home.run, keeper_main.CHANGE_LOCK, CHANGE_WAIT_S)
    if lock < 0:
        raise Conflict(f"another `stoker up` or `stoker down` is at work on {home.root}")
    try:
        yield
    finally:
        os.close(lock)


def marked(home: Home) -> dict[kernel.ProcessLine, str]:
    """Return every living process of this state folder but the one that asks."""
    found = kernel.marked(home.id)
    return {line: name for line, name in found.items() if line.pid != os.getpid()}


def clear(home: Home) -> None:
    """Remove what nothing uses while nothing runs: half-written files, sockets, old words."""
    for left in (*home.tmp.iterdir(), *home.run.glob("*.sock"), *home.run.glob("*.sock.new")):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(OSError):
                left.unlink()


def _ask_agent(home: Home, drain_s: float, progress: Progress) -> None:
    """Have the agent end everything; return when nothing runs any more, or when there is no agent to do it."""
    until_s = time.monotonic() + STAGES * (drain_s + STAGE_GRACE_S)
    agent = Connection(f"unix:{home.run / 'agent.sock'}")
    try:
        agent.exchange("POST", "/v1/shutdown", query={"drain_s": drain_s}, timeout_s=ASK_TIMEOUT_S)
    except (NotReachable, DeadlineExceeded, StokerError):
        return
    said = ""
    while (left := marked(home)) and "agent" in left.values() and time.monotonic() < until_s:
        words = "waiting for " + ", ".join(sorted(set(left.values()) - set(adopt.CARETAKERS)))
        if words != said and words != "waiting for ":
            progress(words)
            said = words
        time.sleep(POLL_S)
    until_s = time.monotonic() + STAGE_GRACE_S
    while marked(home) and time.monotonic() < until_s:  # the keeper notices
        time.sleep(POLL_S)


def _end_caretakers(home: Home) -> None:
    """End keeper and agent at once, the keeper first, so that nothing is started any more."""
    for name in ("keeper", "agent"):
        for line, found in marked(home).items():
            if found == name:
                with suppress(ProcessLookupError):
                    os.kill(line.pid, signal.SIGKILL)


def _end_from_records(home: Home, drain_s: float, progress: Progress) -> None:
    """Be the agent for as long as it takes to end what the last one left."""
    try:
        lock = agent_main.take_lock(home)
    except Conflict as other:
        raise Unavailable(f"{other.message}, and does not answer") from other
    try:
        progress("ending what an agent left")
        asyncio.run(_shut_down(home, drain_s))
    finally:
        os.close(lock)


async def _shut_down(home: Home, drain_s: float) -> None:
    supervisor = Supervisor(agent_main.folders(home), agent_main.NODE, ())
    supervisor.adopt(only_living=True)
    await supervisor.shutdown(drain_s)


def _force(home: Home) -> None:
    """SIGKILL whatever is left. Raises Unavailable when it will not die."""
    for _ in range(FORCE_ROUNDS_MAX):
        left = marked(home)
        if not left:
            return
        for line in left:
            with suppress(ProcessLookupError):
                os.kill(line.pid, signal.SIGKILL)
        time.sleep(POLL_S)
    names = ", ".join(f"{name} (pid {line.pid})" for line, name in marked(home).items())
    raise Unavailable(f"still running after SIGKILL: {names}")
