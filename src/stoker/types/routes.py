"""The route table: all that a gateway needs to serve, made by control, kept on disk by each gateway.

Hashes, never keys. A gateway without control serves from the last table it has.
"""

import msgspec

from stoker.types.budgets import BudgetRoute
from stoker.types.identity import ProviderRoute
from stoker.types.ids import EndpointName, KeyId, ProjectName, ReplicaId, RevisionId
from stoker.types.keys import UNLIMITED, KeyLimits
from stoker.types.loading import Usual
from stoker.types.models import Signature
from stoker.types.prices import DatedCard
from stoker.types.resources import FALLBACK_REASONS, Affinity, FallbackReason, ResumeMode, Task
from stoker.types.rollouts import RolloutRoute
from stoker.types.tuning import Tuning


class ReplicaRoute(msgspec.Struct, frozen=True):
    """One replica that should exist. Whether it is ready, a gateway sees itself over the connection."""

    replica: ReplicaId
    address: str


class RevisionRoute(msgspec.Struct, frozen=True):
    """A revision and the share of traffic it takes. Weights are relative; 0 takes nothing (draining or warming)."""

    revision: RevisionId
    version: str  # "1": what the protocols show as model version
    weight: int
    replicas: tuple[ReplicaRoute, ...]
    signature: Signature = Signature()
    platform: str = ""  # "onnx", "llamacpp": the OIP model metadata's platform is made of it
    secrets: tuple[str, ...] = ()  # references that its replicas are handed the values of (gateway/remote/keys.py)
    key: str = ""  # the one of them that is the key of the server behind it


class CacheRoute(msgspec.Struct, frozen=True):
    """What a gateway may keep of an endpoint's answers; as in the manifest."""

    ttl_s: float
    max_bytes: int
    shared: bool


class SamplesRoute(msgspec.Struct, frozen=True):
    """Which requests a gateway keeps, and how much of them; see resources.Samples."""

    rate: float = 0.01
    errors: bool = True
    slow_s: float = 0.0  # 0: the endpoint's own p99; negative: never
    max_bytes: int = 64 << 10
    per_hour: int = 1000
    ttl_s: float = 7 * 86_400.0
    request: bool = True
    response: bool = True
    tensors: bool = False
    patterns: dict[str, str] = {}


class BackendRoute(msgspec.Struct, frozen=True):
    """An endpoint of the same project that serves for another. `when` is a rule (protocol/rules.py), "" for none."""

    endpoint: EndpointName
    weight: int = 1
    when: str = ""


class BreakerRoute(msgspec.Struct, frozen=True):
    """When an endpoint counts as broken; see resources.Breaker."""

    failure_ratio: float = 0.5
    requests_min: int = 10
    window_s: float = 30.0
    open_s: float = 5.0
    refuse: bool = False


class EndpointRoute(msgspec.Struct, frozen=True):
    """One endpoint as the data plane sees it."""

    project: ProjectName
    endpoint: EndpointName
    task: Task
    created_at_s: float
    revisions: tuple[RevisionRoute, ...]
    max_body_bytes: int = 32 * 2**20
    timeout_s: float = 60.0
    queue_max: int = 512
    queue_max_bytes: int = 256 * 2**20
    concurrency: int = 256  # in flight in one replica, at the most
    affinity: Affinity = "auto"
    hedge: bool = False  # a second try beside a slow first one (core/hedge.py)
    resume: ResumeMode = "exact"  # which streams go on elsewhere (core/failover.py)
    cache: CacheRoute | None = None
    coalesce: bool = False
    backends: tuple[BackendRoute, ...] = ()  # not empty: it has no replicas of its own
    fallback: tuple[EndpointName, ...] = ()
    fallback_on: tuple[FallbackReason, ...] = FALLBACK_REASONS
    fallback_after_s: float = 0.0  # 0: an even share of the deadline
    breaker: BreakerRoute = BreakerRoute()
    samples: SamplesRoute | None = None
    promised_to: tuple[str, ...] = ()  # tenants whose first attempts are counted for an objective of their own
    timed_for: dict[str, tuple[str, ...]] = {}  # and those whose times are, with the metrics of those times
    trace_ratio: float | None = None  # share of its requests that leave a trace; None: the platform's
    rollout: RolloutRoute | None = None  # while one runs
    # Without a replica requests wait for the next one, within their deadlines: they are being replaced, or it sleeps.
    holds: bool = False
    closed: str = ""  # until when it may have no replica, and why; "": it may
    opens_at_s: float = 0.0  # when one may again; unix seconds, 0: nobody knows
    sheds: bool = False  # the sheddable band is refused: its budget is gone, and its policy says so
    prices: tuple[DatedCard, ...] = ()  # what its requests cost, by time; (): nothing
    start: Usual = ()  # what the phases of a replica's start usually take


class KeyRoute(msgspec.Struct, frozen=True):
    """A key by the sha256 (hex) of its whole text."""

    sha256: str
    key: KeyId
    project: ProjectName
    is_admin: bool = False  # holds everywhere: may name any project, `x-stoker-project` or `project/endpoint`
    expires_at_s: float = 0.0  # 0: never
    limits: KeyLimits = UNLIMITED
    calls: bool = True  # it is known, but may not call endpoints
    endpoints: tuple[str, ...] = ()  # names or patterns of those it is for; none: all
    sees: bool = False  # may read the numbers of everybody
    projects: tuple[str, ...] = ()  # others whose endpoints it may call; a person's, never a key's


class QuotaRoute(msgspec.Struct, frozen=True):
    """What the keys of a project may ask for together, "": all keys of the platform. 0: any; see types/quotas.py."""

    project: str
    requests_per_s: float = 0.0
    burst: int = 0
    tokens_per_min: float = 0.0
    requests_at_once: int = 0


class RouteTable(msgspec.Struct, frozen=True):
    """One version of the table. `version` only grows; a gateway ignores an older one."""

    version: int
    endpoints: tuple[EndpointRoute, ...] = ()
    keys: tuple[KeyRoute, ...] = ()
    budgets: tuple[BudgetRoute, ...] = ()
    quotas: tuple[QuotaRoute, ...] = ()
    providers: tuple[ProviderRoute, ...] = ()
    tuning: Tuning = Tuning()
