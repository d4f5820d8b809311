"""When an endpoint counts as broken, as a manifest says it."""

from typing import Annotated

import msgspec
from msgspec import Meta

from stoker.types.fields import Seconds


class Breaker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an endpoint counts as broken, so that nothing waits for it but a few probes."""

    failure_ratio: Annotated[
        float, Meta(gt=0, le=1, description="failed share of the window's requests that opens")
    ] = 0.5
    requests_min: Annotated[int, Meta(ge=1, le=10_000, description="fewer in the window say nothing")] = 10
    window: Annotated[Seconds, Meta(description="how far back requests count")] = "30s"
    open_for: Annotated[Seconds, Meta(description="until the first probe; doubled by each that fails, up to 60s")] = (
        "5s"
    )
    refuse: Annotated[bool, Meta(description="refuse with 503 while open and nothing else can serve")] = False
