"""What the simulated endpoint is made of: its settings, requests, replicas and revisions."""

from collections import deque
from dataclasses import dataclass, field

TOKENS_MAX = 512  # of an answer


@dataclass
class Method:
    weight: float
    prompt: float  # median tokens
    output: float


@dataclass
class Knobs:
    """What faults turn. Times in seconds."""

    rate: float = 3.0
    swing: float = 0.15  # of the day's load
    day_s: float = 86_400.0
    burst: tuple[float, float] = (0.0, 0.0)  # seconds on, seconds off; (0, 0): always on
    tenants: dict[str, float] = field(
        default_factory=lambda: {"a": 0.34, "b": 0.25, "c": 0.18, "d": 0.12, "e": 0.07, "f": 0.04}
    )
    methods: dict[str, Method] = field(
        default_factory=lambda: {"chat": Method(0.8, 220, 60), "complete": Method(0.15, 400, 40),
                                 "extract": Method(0.05, 1500, 150)}
    )  # fmt: skip
    prompt_times: float = 1.0
    output_times: float = 1.0
    slots: int = 4
    kv_tokens: float = 6000.0
    prefill_token_s: float = 0.0004
    step_s: float = 0.020
    crowding: float = 0.08
    replicas_min: int = 3
    replicas_max: int = 6
    idle_s: float = 0.0  # without requests, before the last replica stops; 0: never
    start_s: float = 20.0
    target_ratio: float = 0.6
    network_s: float = 0.0008
    network_jitter_s: float = 0.0005
    dependency_s: float = 0.015
    dependency_fails: float = 0.0005
    fails: float = 0.0005
    others_load: float = 0.0  # of the nodes' cores, by somebody else
    gpu_load: float = 0.0  # of the nodes' GPUs, by somebody else
    disk_short_ratio: float = 0.0
    is_unwritable: bool = False
    timeout_s: float = 60.0
    tries_max: int = 3
    backoff_s: float = 0.5
    empty: float = 0.003
    repeating: float = 0.002
    drift: float = 0.06
    poison_every_s: float = 0.0


class Request:
    __slots__ = (
        "again",
        "began_s",
        "call_s",
        "came_s",
        "deaths",
        "decode_s",
        "dependency_s",
        "done",
        "extra_s",
        "first_s",
        "generation",
        "is_poison",
        "kind",
        "method",
        "network_s",
        "output",
        "prefill_s",
        "prompt",
        "put_back",
        "replica",
        "revision",
        "sent_s",
        "tenant",
        "tries",
    )  # fmt: skip


@dataclass
class Replica:
    name: str
    revision: str
    node: str
    ready: bool = False
    gone: bool = False
    running: list = field(default_factory=list)
    waiting: deque = field(default_factory=deque)
    slow: float = 1.0
    fails: float = 0.0
    is_still: bool = False
    generation: int = 0

    @property
    def held(self) -> int:
        return len(self.running) + len(self.waiting)

    @property
    def kv(self) -> int:
        return sum(each.prompt + each.output for each in self.running)


@dataclass
class Arm:
    """A revision: its share of the traffic and how it differs."""

    share: float
    pace: float = 1.0
    fails: float = 0.0
    slots: int = 0  # 0: the knobs'
