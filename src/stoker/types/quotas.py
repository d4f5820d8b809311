"""How much of the platform a project may ask for, as its manifest says, and how much it does.

The platform's own quota has the same form: it bounds all projects together.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stoker.types.budgets import BudgetScope
from stoker.types.fields import Bytes

_Count = Annotated[int, Meta(ge=0, le=100_000)]
_Amount = Annotated[float, Meta(ge=0, le=1_000_000)]
GpuPeriod = Literal["day", "week", "month"]


class ProjectQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The most that a project may have and ask for; null: any. Replicas count as their `replicas.max`."""

    endpoints: Annotated[_Count | None, Meta(description="how many endpoints")] = None
    replicas: Annotated[_Count | None, Meta(description="replicas of all of them, at their `replicas.max`")] = None
    cpu: Annotated[_Amount | None, Meta(description="cores of these replicas")] = None
    memory: Annotated[Bytes | None, Meta(description="memory of these replicas")] = None
    gpu: Annotated[_Amount | None, Meta(description="GPUs of these replicas")] = None
    keys: Annotated[_Count | None, Meta(description="keys that are not expired")] = None
    storage: Annotated[
        Bytes | None, Meta(description="bytes of model versions, each file counted once, and of kept samples")
    ] = None
    gpu_hours: Annotated[
        _Amount | None,
        Meta(
            description="hours of GPUs that replicas held in a `gpu_period`; when they are used up, what runs goes on, "
            "and nothing grows or is rolled out on GPUs"
        ),
    ] = None
    gpu_period: Annotated[GpuPeriod, Meta(description="when GPU-hours begin anew; weeks begin on Monday")] = "month"
    timezone: Annotated[str, Meta(max_length=64, description="whose calendar: a name such as Europe/Berlin")] = "UTC"
    requests_per_s: Annotated[
        float, Meta(ge=0, le=1e6, description="requests a second of all keys together, on average; 0: any")
    ] = 0.0
    burst: Annotated[
        int, Meta(ge=0, le=1_000_000, description="requests that may come at once; 0: those of one second")
    ] = 0
    tokens_per_min: Annotated[float, Meta(ge=0, le=1e9, description="tokens a minute of all keys together; 0: any")] = (
        0.0
    )
    requests_at_once: Annotated[
        int, Meta(ge=0, le=1_000_000, description="requests of all keys that may run at the same time; 0: any")
    ] = 0
    warn_at: Annotated[
        float, Meta(gt=0, le=1, description="from this share on who applies something is warned, and an alert tells")
    ] = 0.8
    on_limit: Annotated[
        Literal["refuse", "warn"],
        Meta(description="of what is applied, pushed, made or started over it: refuse, or only warn; rates refuse"),
    ] = "refuse"


class Use(msgspec.Struct, frozen=True):
    """How much is asked for of one thing, and of how much; both are what people read: bytes as bytes.

    used: None where only gateways know it, for a moment. resets_at_s: unix seconds; 0: it never begins anew.
    """

    name: str
    used: float | None
    limit: float
    is_hard: bool = True
    warn_at: float = 0.8
    resets_at_s: float = 0.0


class QuotaView(msgspec.Struct, frozen=True):
    """One quota. scope: whose requests or things; of: the key or tag; project: "" for the platform's own.

    name: endpoints, requests_per_s, … or, of a total in a period, that of its Budget, with `unit` and `period`.
    """

    project: str
    scope: BudgetScope
    of: str
    name: str
    used: float | None
    limit: float
    is_hard: bool
    state: Literal["within", "near", "used up", "unknown"]
    resets_at_s: float = 0.0
    unit: str = ""
    period: str = ""
