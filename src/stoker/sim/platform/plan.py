"""What is simulated: endpoints with their engines and load, gateways, nodes, faults and rollouts."""

import math
from dataclasses import dataclass, field
from typing import Final, Literal

from stoker.core.capacity import Capacity
from stoker.sim.arrivals import Arrivals
from stoker.sim.endpoint import Terms
from stoker.sim.policies import Make, named
from stoker.sim.service import Drawn, Service
from stoker.types.rollouts import Rollout

GIB: Final = 1 << 30
SPELL_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Places:
    """An engine that works on so many requests at once, each for itself."""

    places: int = 4
    service: Service = field(default_factory=Drawn)


@dataclass(frozen=True, slots=True)
class Batching:
    """An engine that runs one batch after the other, each for `base_s + row_s * rows` (core/latency.py fits it).

    least_s: no batch takes less, however small: where only larger ones were measured.
    spread: quantiles of what calls take over what the line says, at even shares from 0 to 1; empty: always that.
    """

    base_s: float = 0.004
    row_s: float = 0.0005
    max_rows: int = 32
    spread: tuple[float, ...] = ()
    least_s: float = 0.0

    def call_s(self, rows: int) -> float:
        """Return what a batch takes."""
        return max(self.base_s + self.row_s * rows, self.least_s)


@dataclass(frozen=True, slots=True)
class Generating:
    """A language model with continuous batching.

    A step takes `step_s + sequence_s * sequences`, and `least_s` at least, and writes a token in each. Prompts are read
    in what room that leaves of a chunk, which makes the steps they ride on longer. The defaults are a 7B model on one
    mid-range GPU, about.

    slowness: how many times as long steps take that begin in each SPELL_S from the beginning, and in the last one from
    then on; empty: as long as they do. So a machine that others use too is as fast as it was measured to be.
    """

    slots: int = 16
    step_s: float = 0.02
    sequence_s: float = 0.0006
    read_token_s: float = 0.0002
    chunk_tokens: int = 512
    cache_blocks: int = 200  # of prompts, kept for the next that begins with them; 512 tokens each
    least_s: float = 0.0
    slowness: tuple[float, ...] = ()

    def pace_s(self, sequences: float) -> float:
        """Return what a step takes that writes for so many, beside what it reads."""
        return max(self.step_s + self.sequence_s * sequences, self.least_s)

    def slowness_at(self, now_s: float) -> tuple[float, float]:
        """Return how many times as long steps take now, and until when that holds."""
        spell = int(now_s / SPELL_S)
        if spell < len(self.slowness):
            return self.slowness[spell], (spell + 1) * SPELL_S
        return (self.slowness[-1] if self.slowness else 1.0), math.inf


Engine = Places | Batching | Generating


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who calls: a share of the arrivals, the weight of its fair share, and how urgent it is (0 critical … 2)."""

    name: str
    share: float = 1.0
    weight: float = 1.0
    band: int = 1


@dataclass(frozen=True, slots=True)
class Started:
    """A start that was measured. at_s: when, in the time that is simulated; nothing is simulated by what it was itself.

    Without a moment it was before all of that.
    """

    took_s: float
    at_s: float = -math.inf


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """One endpoint: its load, its engine, how it scales, and its limits.

    starts: what starts took, of which each is drawn; none: always terms.cold_start_s. known_start_s: what control
    takes a start for before it sees one; 0: it has never seen any. looks_from_s: when it looks first.
    """

    name: str
    arrivals: Arrivals
    engine: Engine = field(default_factory=Places)
    terms: Terms = field(default_factory=Terms)
    policy: Make = field(default_factory=lambda: named("stoker"))
    tenants: tuple[Tenant, ...] = (Tenant("all"),)
    deadline_s: float = math.inf
    queue_max: int = 100_000
    cores: float = 1.0
    memory_bytes: int = GIB
    starts: tuple[Started, ...] = ()
    known_start_s: float = 0.0
    looks_from_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What breaks: a replica of `target` (an endpoint) crashes, or the node `target` goes dark for `lasts_s`."""

    kind: Literal["replica", "node"]
    at_s: float
    target: str
    lasts_s: float = math.inf


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """A new revision of an endpoint: it takes `slower` times as long, and this share of its answers are errors."""

    endpoint: str
    at_s: float
    spec: Rollout = field(default_factory=lambda: Rollout(strategy="canary"))
    slower: float = 1.0
    error_ratio: float = 0.0
    slow_s: float = 0.0  # later than this is a bad event; 0: nothing is


@dataclass(frozen=True, slots=True)
class PlatformPlan:
    """All of it. Without nodes there is room for everything.

    table_lag_s: from a decision of control until gateways have heard of it. report_s: between two words of a replica
    about what all gateways have in it. node_lost_s: silence after which a node's replicas are placed elsewhere.
    """

    endpoints: tuple[EndpointPlan, ...]
    gateways: int = 1
    nodes: tuple[Capacity, ...] = ()
    faults: tuple[Fault, ...] = ()
    rollouts: tuple[RolloutPlan, ...] = ()
    error_ratio: float = 0.0  # of every answer, whatever the revision
    table_lag_s: float = 0.05
    report_s: float = 0.25
    node_lost_s: float = 15.0
    seed: int = 1
