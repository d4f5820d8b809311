"""Requests to one replica over its own socket, timed: past the gateways, so that no client meets what is tried."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from stoker.protocol.frames import RequestHead
from stoker.protocol.link import Link, connect
from stoker.types.errors import DeadlineExceeded, Draining, EngineFailed, ReplicaLost, StokerError, Unavailable
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.replica import ReplicaStats

REQUEST_S: Final = 60.0  # the longest that one may take
POLL_S: Final = 0.1
STATS_S: Final = 2.0


class Answer(NamedTuple):
    """What came back: the answer's JSON, or why there is none, with the code and status of the error."""

    value: Any
    seconds: float
    problem: str = ""
    code: str = ""
    status: int = 200


class Fleet:
    """Finds replicas that are ready, as their agents report them, and connects to them."""

    def __init__(self, nodes: Callable[[], Iterable[NodeStatus]], address: Callable[[str], str]) -> None:
        self._nodes = nodes
        self._address = address

    def ready(self, revision: str) -> ProcessStatus | None:
        """Return a replica of `revision` that is ready."""
        every = (each for node in self._nodes() for each in node.processes)
        mine = (each for each in every if each.labels.get("revision") == revision and each.phase == "ready")
        return min(mine, key=lambda each: each.name, default=None)

    async def until_ready(self, revision: str) -> None:
        """Return once a replica of `revision` is ready, however long that takes."""
        while self.ready(revision) is None:  # noqa: ASYNC110 - what agents report has no event of its own
            await asyncio.sleep(POLL_S)

    def memory_bytes(self, replica: str) -> int:
        """Return what a replica's process holds, as its agent saw it last."""
        every = (each for node in self._nodes() for each in node.processes)
        return next((each.rss_bytes for each in every if each.name == replica), 0)

    async def link(self, replica: str) -> Link:
        """Connect to a replica. Raises ReplicaLost."""
        return await connect(self._address(replica))


async def stats(link: Link) -> ReplicaStats:
    """Return what a replica says of itself now. Raises ReplicaLost when it says nothing for STATS_S."""
    said: asyncio.Queue[ReplicaStats] = asyncio.Queue()
    link.on_stats = said.put_nowait
    link.ping()
    try:
        async with asyncio.timeout(STATS_S):
            return await said.get()
    except TimeoutError as silent:
        raise ReplicaLost(f"the replica said nothing of itself for {STATS_S:g} s") from silent
    finally:
        link.on_stats = None


async def ask(link: Link, method: str, body: bytes, timeout_s: float = REQUEST_S, *, alone: bool = False) -> Answer:
    """Ask a replica once. A request that it refuses or fails is an answer too; raises ReplicaLost when it is gone.

    Args:
        alone: in no engine call with a client's request, whose rows drift would leave out too.
    """
    head = RequestHead(
        method,
        request=f"gate-{secrets.token_hex(8)}",
        body_bytes=len(body),
        timeout_s=timeout_s,
        probe=True,
        alone=alone,
    )
    began_s = time.perf_counter()
    call = link.call(head, body)
    try:
        async with asyncio.timeout(timeout_s):
            _, raw = await call.answer()
        return Answer(msgspec.json.decode(raw), time.perf_counter() - began_s)
    except (ReplicaLost, Draining):
        raise
    except TimeoutError:
        problem: StokerError = DeadlineExceeded(f"no answer within {timeout_s:g} s")
    except Unavailable as gone:
        raise ReplicaLost(gone.message) from gone
    except StokerError as refused:
        problem = refused
    except (msgspec.DecodeError, UnicodeDecodeError) as odd:
        problem = EngineFailed(f"an answer that is no JSON: {odd}")
    finally:
        call.cancel()
    return Answer(None, time.perf_counter() - began_s, problem.message, problem.code, problem.status)
