"""How much of the platform a project may ask for, as its manifest says, and how much it does."""

from typing import Annotated

import msgspec
from msgspec import Meta

from stoker.types.fields import Bytes

_Count = Annotated[int, Meta(ge=0, le=100_000)]
_Amount = Annotated[float, Meta(ge=0, le=1_000_000)]


class ProjectQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The most that a project's endpoints may ask for together; null: any. Replicas count as their `replicas.max`."""

    endpoints: Annotated[_Count | None, Meta(description="how many endpoints")] = None
    replicas: Annotated[_Count | None, Meta(description="replicas of all of them, at their `replicas.max`")] = None
    cpu: Annotated[_Amount | None, Meta(description="cores of these replicas")] = None
    memory: Annotated[Bytes | None, Meta(description="memory of these replicas")] = None
    gpu: Annotated[_Amount | None, Meta(description="GPUs of these replicas")] = None
    warn_at: Annotated[float, Meta(gt=0, le=1, description="from this share on who applies something is warned")] = 0.8


class Use(msgspec.Struct, frozen=True):
    """How much is asked for of one thing, and of how much; both are what people read: bytes as bytes."""

    name: str
    used: float
    limit: float
