"""Where replicas of an endpoint may be put."""

from typing import Final, Literal

# preferred: over as many nodes as have room. required: never two replicas of a revision on one node.
Spread = Literal["preferred", "required"]
DEFAULT_POOL: Final = "default"
