"""What the platform says of an endpoint: its conditions with reasons, and how many replicas it has."""

import msgspec

from stoker.types.ids import EndpointName, ProjectName
from stoker.types.loading import Progress
from stoker.types.resources import Endpoint
from stoker.types.slos import MoveInForce


class Condition(msgspec.Struct, frozen=True):
    """One claim about a resource with its reason: `Ready=False because: replica crashed 3 times loading: …`."""

    type: str
    status: bool
    reason: str  # CamelCase, stable, for programs
    message: str  # a sentence, for people
    since_s: float  # unix time of the last change of `status`


class EndpointStatus(msgspec.Struct, frozen=True):
    """What the platform says of an endpoint."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    revision: str = ""  # the revision the spec asks for
    serving: str = ""  # the revision that takes traffic, "" for none
    replicas_ready: int = 0
    replicas_wanted: int = 0
    moves: tuple[MoveInForce, ...] = ()  # of its budgets' policies and its incidents
    out: tuple[str, ...] = ()  # replicas that an incident keeps without traffic


class EndpointView(msgspec.Struct, frozen=True):
    """An endpoint as the API returns it. progress: of the replica that will be ready first, while none is."""

    name: EndpointName
    project: ProjectName
    generation: int
    resource: Endpoint
    status: EndpointStatus
    progress: Progress = Progress()
