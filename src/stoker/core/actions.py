"""What the loop can do, one class each. Every action says why, and applying one twice changes nothing more."""

import msgspec

from stoker.core.revisions import ServingConfig
from stoker.core.rollout.state import Entry, RolloutState
from stoker.types.ids import Digest, EndpointName, NodeName, ProjectName, ReplicaId, RevisionId
from stoker.types.slos import Move


class CreateRevision(msgspec.Struct, frozen=True):
    """Keep `config` as the endpoint's next revision."""

    project: ProjectName
    endpoint: EndpointName
    revision: RevisionId
    number: int
    digest: Digest
    config: ServingConfig
    because: str


class StartReplica(msgspec.Struct, frozen=True):
    """Put a replica on a node. Not new: its assignment is there, but its agent does not run it."""

    project: ProjectName
    endpoint: EndpointName
    revision: RevisionId
    replica: ReplicaId
    node: NodeName
    drain_s: float
    is_new: bool
    because: str
    gpus: tuple[int, ...] = ()


class SetServing(msgspec.Struct, frozen=True):
    """Move the endpoint's traffic to a revision."""

    project: ProjectName
    endpoint: EndpointName
    revision: RevisionId
    because: str


class DrainReplica(msgspec.Struct, frozen=True):
    """Take a replica out of the route table; what it holds goes on."""

    project: ProjectName
    endpoint: EndpointName
    replica: ReplicaId
    because: str


class StopReplica(msgspec.Struct, frozen=True):
    """Tell the agent to drain and end a replica."""

    project: ProjectName
    endpoint: EndpointName
    replica: ReplicaId
    node: NodeName
    drain_s: float
    because: str


class ForgetReplica(msgspec.Struct, frozen=True):
    """Drop the assignment of a replica whose process is gone, and its files."""

    project: ProjectName
    endpoint: EndpointName
    replica: ReplicaId
    because: str


class StopStray(msgspec.Struct, frozen=True):
    """End a replica process that no assignment accounts for."""

    replica: ReplicaId
    node: NodeName
    because: str


class ForgetRevision(msgspec.Struct, frozen=True):
    """Drop a revision from the history."""

    project: ProjectName
    endpoint: EndpointName
    revision: RevisionId
    because: str


class RemoveEndpoint(msgspec.Struct, frozen=True):
    """Drop a deleted endpoint whose replicas are all gone."""

    project: ProjectName
    endpoint: EndpointName
    because: str


class BeginMove(msgspec.Struct, frozen=True):
    """Put an endpoint under a move of its budget's policy (core/enforce.py). The plan's status has it."""

    project: ProjectName
    endpoint: EndpointName
    move: Move
    because: str


class EndMove(msgspec.Struct, frozen=True):
    """Take an endpoint out from under a move."""

    project: ProjectName
    endpoint: EndpointName
    move: Move
    because: str


class BeginRollout(msgspec.Struct, frozen=True):
    """Keep a new rollout, and the beginning of its timeline. `state` has no number yet."""

    project: ProjectName
    endpoint: EndpointName
    revision: RevisionId  # the canary
    state: RolloutState
    entries: tuple[Entry, ...]
    because: str


class ChangeRollout(msgspec.Struct, frozen=True):
    """Keep how far a rollout is, and what is new in its timeline. What somebody said to it is done with."""

    project: ProjectName
    endpoint: EndpointName
    revision: RevisionId
    state: RolloutState
    entries: tuple[Entry, ...]
    because: str

    @property
    def is_news(self) -> bool:
        """Whether it went on to another phase; else it was only looked at."""
        return any(each.event != "look" for each in self.entries)


Action = (
    CreateRevision
    | StartReplica
    | SetServing
    | DrainReplica
    | StopReplica
    | ForgetReplica
    | StopStray
    | ForgetRevision
    | RemoveEndpoint
    | BeginMove
    | EndMove
    | BeginRollout
    | ChangeRollout
)
