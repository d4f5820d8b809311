"""Which replicas are forked from a process that has their imports, and which of those fork servers a node keeps. Pure.

A fork has what its server had when it imported: its environment too, as far as libraries read it then. So only a
replica whose environment says nothing of its own is forked, and threads are a part of the key.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from stoker.types.forks import THREADS_ENV, USUAL_ENV, ForkKey, ForkPhase

# An engine whose module starts a thread when it is imported (onnxruntime, OpenVINO) cannot be imported in advance, nor
# is a model's own code: they find the platform's modules and numpy there, which are most of what they import.
IMPORTS_OF_ENGINE: Final = {
    "sklearn": "sklearn",
    "onnx": "platform",
    "llamacpp": "platform",
    "openvino": "platform",
    "python": "platform",
    "openai": "platform",
    "auto": "platform",
}
OWN_ENV: Final = frozenset({"HOME", "TMPDIR"})  # differ by replica, and nothing that is imported in advance keeps them
SERVERS_MAX: Final = 3  # a node
RSS_BYTES_MAX: Final = 512 << 20  # of one; with scikit-learn it is 150 MB
FREE_BYTES_MIN: Final = 1 << 30  # of the node's memory, for one to be started; at half of it all end
IDLE_S: Final = 600.0  # nobody may need it any more for so long
FAILURES_MAX: Final = 8  # in a row; then no more of that kind until the agent is started again
DELAY_FIRST_S: Final = 2.0
DELAY_MAX_S: Final = 300.0


class Server(msgspec.Struct, frozen=True):
    """One that runs, or did. wanted_s: when it was wanted last. After a failure: next_start_s, not before, and why."""

    phase: ForkPhase
    wanted_s: float
    rss_bytes: int = 0
    failures: int = 0
    next_start_s: float = 0.0
    problem: str = ""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done now; `ends` says why by key."""

    start: ForkKey | None
    ends: Mapping[ForkKey, str]


def key(engine: str, env: Mapping[str, str]) -> ForkKey | None:
    """Return which server a replica with the environment `env` of its spec may be forked from; None: it is not."""
    imports = IMPORTS_OF_ENGINE.get(engine)
    threads = env.get(THREADS_ENV, "")
    own = {name: value for name, value in env.items() if name not in OWN_ENV and name != THREADS_ENV}
    if (
        imports is None
        or own != USUAL_ENV
        or not (threads.isascii() and threads.isdecimal() and 0 < int(threads) < 1024)
    ):
        return None
    return ForkKey(imports, int(threads))


def plan(
    wanted: Sequence[ForkKey], servers: Mapping[ForkKey, Server], *, now_s: float, is_busy: bool, free_bytes: int
) -> Plan:
    """Return which server to start, one at a time, and which to end.

    Args:
        wanted: by what runs here and what may soon; the more valuable first, with repetitions.
        is_busy: something starts here now, which should have the cores for itself.
        free_bytes: of the node's memory.
    """
    kept = list(dict.fromkeys(wanted))[:SERVERS_MAX]
    running = {each: server for each, server in servers.items() if server.phase != "failed"}
    ends = {each: because for each, server in running.items() if (because := _end(server, now_s, free_bytes))}
    left = [each for each in running if each not in ends]
    # One nobody wants now makes room at once for one that is wanted.
    missing = [each for each in kept if each not in running and _may_start(servers.get(each), now_s)]
    if is_busy or free_bytes < FREE_BYTES_MIN or not missing:
        return Plan(None, ends)
    if len(left) >= SERVERS_MAX:
        spare = [each for each in left if each not in kept]
        if not spare:
            return Plan(None, ends)
        ends[min(spare, key=lambda each: running[each].wanted_s)] = "another is wanted"
    return Plan(missing[0], ends)


def again_s(failures: int, now_s: float) -> float:
    """Return when to start one again that has failed `failures` times in a row."""
    return now_s + min(DELAY_MAX_S, DELAY_FIRST_S * 2.0 ** max(failures - 1, 0))


def _may_start(server: Server | None, now_s: float) -> bool:
    return server is None or (server.failures < FAILURES_MAX and server.next_start_s <= now_s)


def _end(server: Server, now_s: float, free_bytes: int) -> str:
    if server.rss_bytes > RSS_BYTES_MAX:
        return "it is too large"
    if free_bytes < FREE_BYTES_MIN // 2:
        return "memory is short"
    return "nothing needs it any more" if now_s - server.wanted_s > IDLE_S else ""
