"""Where replicas of an endpoint may be put, and whose go when there is no room for all: the manifest's side."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.fields import Name
from stoker.types.keys import Priority

Spread = Literal["preferred", "required"]
DEFAULT_POOL: Final = "default"


class PlacementSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which nodes replicas are put on, beside whom, and who goes when there is no room for all."""

    pool: Annotated[
        Name, Meta(description="which nodes: those whose agent has this STOKER_POOL; another pool makes a new revision")
    ] = DEFAULT_POOL
    spread: Annotated[
        Spread,
        Meta(
            description="preferred: over as many nodes as have room; required: never two replicas of a revision on "
            "one node. Holds for replicas that are placed from now on"
        ),
    ] = "preferred"
    apart: Annotated[
        tuple[Name, ...],
        Meta(max_length=16, description="endpoints of the project that it shares no node with, nor they with it"),
    ] = ()
    priority: Annotated[
        Priority,
        Meta(
            description="critical ones are placed first; replicas of sheddable endpoints go where one of another "
            "endpoint has no room"
        ),
    ] = "standard"
