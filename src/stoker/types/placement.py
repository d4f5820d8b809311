"""Where replicas of an endpoint may be put: the manifest's side."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.fields import Name

Spread = Literal["preferred", "required"]
DEFAULT_POOL: Final = "default"


class PlacementSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which nodes replicas are put on, and beside whom."""

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
