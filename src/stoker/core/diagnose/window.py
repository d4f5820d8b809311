"""What is compared: the numbers of one endpoint over one stretch of time, and what was changed around it.

A number that nothing measured is None (or absent from its dict), never zero: a cause that rests on it is then not
judged, rather than cleared.
"""

from typing import Final, Literal

import msgspec

Phase = Literal[
    "receive", "auth", "admit", "retry", "queue", "route", "network", "replica_queue", "batch_wait", "dependency",
    "prefill", "decode", "compute",
]  # fmt: skip
# In the order a request passes them. `receive` is the body on its way, `retry` tries that failed; `dependency` is the
# work of a server elsewhere. `compute` stands for prefill and decode where an engine does not tell them apart.
PHASES: Final[tuple[Phase, ...]] = (
    "receive", "auth", "admit", "retry", "queue", "route", "network", "replica_queue", "batch_wait", "dependency",
    "prefill", "decode", "compute",
)  # fmt: skip
QUEUES: Final[frozenset[Phase]] = frozenset(("admit", "queue", "replica_queue"))
WORK: Final[frozenset[Phase]] = frozenset(("prefill", "decode", "compute"))

Axis = Literal["replica", "node", "tenant", "revision"]
REST: Final = "_other"  # all tenants that have no name in the numbers
PARTS_MAX: Final = 64  # of one axis; the builder keeps the busiest
CHANGES_MAX: Final = 64
SINCE_MAX_S: Final = 7200.0  # of a stretch that is asked about
UNTIL_MAX_S: Final = 7 * 86_400.0  # for so long the history has minutes


class Spread(msgspec.Struct, frozen=True):
    """How one quantity was spread over the requests of a window."""

    count: float = 0.0
    sum: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    deviation: float = 0.0  # standard, of the values

    @property
    def mean(self) -> float:
        """The mean; 0 when nothing was observed."""
        return self.sum / self.count if self.count > 0 else 0.0


class Part(msgspec.Struct, frozen=True):
    """What one replica, node, tenant, revision or method had of a window.

    time_s: of all its requests together, as that axis sees them. tokens: input and output. group: what it belongs to
    and is compared within (a replica: its revision). stalled_s: how long it held requests and showed no progress.
    """

    requests: float = 0.0
    errors: float = 0.0
    time_s: float = 0.0
    tokens: float = 0.0
    group: str = ""
    stalled_s: float = 0.0

    @property
    def mean_s(self) -> float:
        """Seconds a request."""
        return self.time_s / self.requests if self.requests > 0 else 0.0

    @property
    def error_ratio(self) -> float:
        """Share of its requests that failed."""
        return min(self.errors / self.requests, 1.0) if self.requests > 0 else 0.0


class Signals(msgspec.Struct, frozen=True):
    """What else was measured. Counts are of the window; gauges are means over it; ratios are 0–1."""

    cpu_ratio: float | None = None  # of the endpoint's nodes
    cpu_pressure_ratio: float | None = None  # of the time, something waited for a core (Linux PSI, "some")
    memory_ratio: float | None = None
    unwritable_ratio: float | None = None  # of the replicas' time, they could write to no file
    disk_short_ratio: float | None = None  # how short of room the fullest of the nodes' disks is
    clock_stepped_s: float | None = None  # by which clocks of nodes and replicas were set
    clock_apart_s: float | None = None  # of the node that is farthest from control
    gpu_memory_ratio: float | None = None  # of the GPU with the least left
    memory_pressure_ratio: float | None = None  # of the time, something waited for memory (Linux PSI, "some")
    memory_deaths: float | None = None  # replicas that were killed for taking more than they may
    kv_ratio: float | None = None
    preemptions: float | None = None
    batch_rows: float | None = None  # requests or rows that ran together
    replicas_ready: float | None = None
    replicas_wanted: float | None = None
    starts: float | None = None  # of replicas
    restarts: float | None = None  # of replicas that died
    ejections: float | None = None
    quarantined: float | None = None
    cold_requests: float | None = None  # came while no replica was ready
    client_retries: float | None = None  # requests that say they are tried again
    retries: float | None = None  # by the gateway
    hedges: float | None = None
    fallbacks: float | None = None
    dependency_errors: float | None = None
    drift: float | None = None  # score of the inputs or outputs; from 0.25 on it is a shift
    empty_outputs: float | None = None
    repeating_outputs: float | None = None


class Window(msgspec.Struct, frozen=True):
    """An endpoint from `start_s` to `end_s` (unix time).

    requests: all that came. errors: answered 5xx after they were let in. refused: turned away, by error code; limits
    of a caller's own key are not among them. abandoned: their client left. latency: seconds of those let in. phases:
    seconds a request spent in each. slow: requests that took longer than slow_over_s, which is the same for both
    windows of a comparison. gpus: of the endpoint's nodes, as `node/number`, the share of the time each worked.
    """

    start_s: float
    end_s: float
    requests: float = 0.0
    errors: float = 0.0
    refused: dict[str, float] = {}
    abandoned: float = 0.0
    latency: Spread = Spread()
    slow: float = 0.0
    slow_over_s: float = 0.0
    phases: dict[Phase, Spread] = {}
    prompt_tokens: Spread | None = None
    output_tokens: Spread | None = None
    rows: Spread | None = None
    methods: dict[str, Part] = {}
    parts: dict[Axis, dict[str, Part]] = {}
    signals: Signals = Signals()
    gpus: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """How long it is."""
        return max(self.end_s - self.start_s, 1e-9)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    def of(self, axis: Axis) -> dict[str, Part]:
        """Return the parts of one axis; none when it was not measured."""
        return self.parts.get(axis, {})

    def phase_s(self, phase: Phase) -> float:
        """Return the mean seconds in `phase`, over all answered requests; those that skipped it spent none."""
        spread = self.phases.get(phase)
        return spread.sum / self.latency.count if spread is not None and self.latency.count > 0 else 0.0


ChangeKind = Literal["version", "config", "traffic", "scale", "node", "restart"]


class Change(msgspec.Struct, frozen=True):
    """Something that was done, from the journal. subject: the revision, replica or node."""

    at_s: float
    kind: ChangeKind
    what: str
    subject: str = ""
