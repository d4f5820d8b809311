"""A process that an agent owns: what to run, and what became of it."""

from hashlib import sha256
from typing import Literal

import msgspec

from stoker.types.ahead import AheadStatus
from stoker.types.forks import ForkStatus
from stoker.types.placement import DEFAULT_POOL
from stoker.types.sandbox import Confinement
from stoker.types.statuses import Condition

ProcessKind = Literal["control", "gateway", "replica"]
# starting: spawned, not answering yet. loading: answers, the model is not in memory yet. stopping: signalled.
# backoff: it died and waits for its next start. stopped: gone for good (only seen in a last report).
# memory: over its limit. silent: no answer to PING. still: it finished nothing. start: no progress before it was ready.
KilledFor = Literal["", "memory", "silent", "still", "start"]
ProcessPhase = Literal["starting", "loading", "ready", "draining", "stopping", "backoff", "stopped"]


class ProcessSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent runs under one name, and keeps running until told otherwise.

    `address` is the frames address (`unix:/path`) on which the process answers HELLO and PING; an agent adopts a
    running process by it. `digest` tells two specs of the same name apart: another digest means stop, then start.
    """

    name: str  # file-name safe, unique on the node: "control", "gateway-0", "default.digits-1-k3x9a"
    kind: ProcessKind
    argv: tuple[str, ...]
    env: dict[str, str]
    address: str
    work_dir: str
    memory_bytes: int = 0  # 0: no limit
    drain_s: float = 30.0
    start_timeout_s: float = 120.0  # without progress before it is ready
    stall_s: float = 120.0  # with requests running and none of them moving on; 0: for ever
    silent_s: float = 30.0  # without an answer to PING, once it was ready
    labels: dict[str, str] = {}  # endpoint, revision, … for screens


class LoadProgress(msgspec.Struct, frozen=True):
    """How far a load is: `fraction` of the stage in 0–1, `stage` a word such as `weights` or `warm-up`."""

    stage: str = ""
    fraction: float = 0.0


class ProcessStatus(msgspec.Struct, frozen=True):
    """What an agent knows of one process."""

    name: str
    kind: ProcessKind
    phase: ProcessPhase
    pid: int = 0
    address: str = ""
    spec_digest: str = ""
    started_at_s: float = 0.0  # unix time of the current process' start
    ready_at_s: float = 0.0
    restarts: int = 0  # starts after the first, since the spec was given
    crashes_in_row: int = 0  # deaths without having been ready for 60 s in between
    ready_crashes: int = 0  # those of them that came after it had been ready
    next_start_s: float = 0.0  # unix time of the next start while phase is backoff
    last_exit: str = ""  # "exit code 3", "killed by SIGKILL", "" if it never died
    killed_for: KilledFor = ""  # by its agent, at its last death
    last_error: str = ""  # the process' own words for it, or the tail of its log
    rss_bytes: int = 0
    cpu_s: float = 0.0
    busy_s: float = 0.0  # how long the current process' engine has worked (runtime/busy.py)
    progress: LoadProgress = LoadProgress()
    engine: str = ""  # how a replica's engine was set up, in its own words
    phases: dict[str, float] = {}  # of a replica's start, those that are over (types.starts.Start)
    sandbox: Confinement | None = None  # what a replica is kept from, as it found by trying
    fault: str = ""  # put into it on purpose (`stoker gameday`), a FaultKind
    labels: dict[str, str] = {}


class NodeStatus(msgspec.Struct, frozen=True):
    """What an agent reports of its machine and its processes; `sequence` grows with every change."""

    node: str
    sequence: int
    cores: float  # usable: cgroup quota ∩ affinity
    memory_bytes: int
    memory_free_bytes: int
    processes: tuple[ProcessStatus, ...]
    started_at_s: float = 0.0
    fence: int = 0  # highest fencing token this agent has obeyed
    # Of the last moments, 0–1; None where the kernel does not say: processor time in use, by whomever, and the time in
    # which something waited for a core, or for memory.
    cpu_ratio: float | None = None
    cpu_pressure_ratio: float | None = None
    memory_pressure_ratio: float | None = None
    pool: str = DEFAULT_POOL
    gpus: int = 0
    ahead: tuple[AheadStatus, ...] = ()
    forks: tuple[ForkStatus, ...] = ()
    # Said by control: where others reach a node that joined, when its certificates end (unix time), and how it is.
    host: str = ""
    certificate_until_s: float = 0.0
    conditions: tuple[Condition, ...] = ()


def spec_digest(spec: ProcessSpec) -> str:
    """Return what tells two specs of one name apart (ProcessStatus.spec_digest)."""
    return sha256(msgspec.json.encode(spec, order="sorted")).hexdigest()[:16]
