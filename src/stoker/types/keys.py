"""How much one key may ask for, and how urgent what it asks is."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Priority = Literal["critical", "standard", "sheddable"]
PRIORITIES: Final[tuple[Priority, ...]] = ("critical", "standard", "sheddable")


class KeyLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one key is held to, over all gateways together. 0: no limit."""

    requests_per_s: Annotated[float, Meta(ge=0, le=1e6, description="requests a second, on average; 0: any")] = 0.0
    burst: Annotated[
        int, Meta(ge=0, le=1_000_000, description="requests that may come at once; 0: those of one second")
    ] = 0
    tokens_per_min: Annotated[
        float, Meta(ge=0, le=1e9, description="tokens a minute, prompts and answers together; 0: any")
    ] = 0.0
    requests_at_once: Annotated[
        int, Meta(ge=0, le=1_000_000, description="requests that may run at the same time; 0: any")
    ] = 0
    priority: Annotated[
        Priority, Meta(description="the most urgent band it may use; x-stoker-priority can ask for less")
    ] = "standard"
    weight: Annotated[
        float, Meta(ge=0.01, le=100, description="its share of a busy endpoint, against the other tenants'")
    ] = 1.0
    tenant: Annotated[
        str, Meta(max_length=64, description="keys of one tenant share one share; by default each key is its own")
    ] = ""
    tags: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=64)]],
        Meta(max_length=8, description="names and values its usage is counted by, such as team=search"),
    ] = {}
    samples: Annotated[bool, Meta(description="its requests may be kept as samples, where an endpoint keeps any")] = (
        True
    )


UNLIMITED: Final = KeyLimits()
