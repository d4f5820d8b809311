"""What an agent and its fork servers say to each other: processes that have imports done, and fork replicas."""

from typing import Final, Literal, NamedTuple

import msgspec

ORDER_BYTES_MAX: Final = 64 << 10  # one message
# What every replica has in its environment, unless its manifest says otherwise. Libraries read them when they are
# imported. GOMP: threads that spin while they wait eat the cores of the others, seen to cost more than half the speed.
USUAL_ENV: Final = {"LANG": "C.UTF-8", "GOMP_SPINCOUNT": "10000"}
THREADS_ENV: Final = "OMP_NUM_THREADS"

ForkPhase = Literal["starting", "ready", "failed"]


class ForkKey(NamedTuple):
    """What tells fork servers apart: imports, and the threads that a library counts while it is imported."""

    imports: str
    threads: int

    @property
    def name(self) -> str:
        """Return the name of its process; no replica's, which have no slash."""
        return f"forks/{self.imports}-{self.threads}"


class ForkOrder(msgspec.Struct, frozen=True):
    """Agent → server, with two descriptors: the log, and the pipe on which the new process waits for the word to go.

    A pipe that is closed without a word ends the new process: whoever asked has given it up.
    """

    argv: tuple[str, ...]
    env: dict[str, str]  # the whole environment
    work_dir: str


class ForkAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Server → agent: once when its imports are done (pid 0), then for each order the process, or why there is none."""

    pid: int = 0
    problem: str = ""


class ForkStatus(msgspec.Struct, frozen=True):
    """One fork server of a node, for screens."""

    imports: str
    threads: int
    phase: ForkPhase
    pid: int = 0
    rss_bytes: int = 0
    forked: int = 0  # replicas, since it was started
    problem: str = ""  # of its last failure
