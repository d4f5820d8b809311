"""What the loop knows at one moment, as values: the input of every decision about endpoints.

Written by the store and the observer, read by `reconcile`; nothing here decides.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from stoker.core.enforce import Asked
from stoker.core.gate.law import DossierState
from stoker.core.pooling import Turn
from stoker.core.revisions import ServingConfig
from stoker.core.rollout.state import RolloutState
from stoker.core.rollout.table import Order
from stoker.core.scale.bounds import Closed
from stoker.types.ids import Digest, EndpointName, NodeName, ProjectName, ReplicaId, RevisionId
from stoker.types.models import ModelVersion
from stoker.types.placement import DEFAULT_POOL
from stoker.types.process import ProcessStatus
from stoker.types.remedies import Act
from stoker.types.resources import Endpoint
from stoker.types.rollouts import Arms, RolloutCounts
from stoker.types.statuses import EndpointStatus

# wanted: it should run. draining: gateways send it nothing new. stopping: its agent was told to end it.
AssignmentPhase = Literal["wanted", "draining", "stopping"]
EndpointKey = tuple[ProjectName, EndpointName]


class EndpointState(msgspec.Struct, frozen=True):
    """An endpoint as stored. `serving` is the revision that takes traffic, "" before the first."""

    project: ProjectName
    name: EndpointName
    generation: int
    resource: Endpoint
    created_at_s: float
    is_deleting: bool = False
    serving: str = ""
    last_number: int = 0  # of its revisions; never used twice
    pinned: int = 0  # version number that a reference without one meant when it was applied; 0: none
    status: EndpointStatus = EndpointStatus()

    @property
    def key(self) -> EndpointKey:
        """Project and name."""
        return (self.project, self.name)


class Revision(msgspec.Struct, frozen=True):
    """An immutable serving configuration of an endpoint. `replicas_made` counts starts, for fresh replica names."""

    revision: RevisionId
    project: ProjectName
    endpoint: EndpointName
    number: int
    digest: Digest  # of the config
    config: ServingConfig
    created_at_s: float
    replicas_made: int = 0


class Assignment(msgspec.Struct, frozen=True):
    """A replica that was put on a node. `since_s` is when its phase began; `gpus` are those of the node it got.

    port: where it listens to gateways, on a node that joined; 0 on control's own.
    """

    replica: ReplicaId
    revision: RevisionId
    project: ProjectName
    endpoint: EndpointName
    node: NodeName
    phase: AssignmentPhase
    since_s: float
    created_at_s: float
    gpus: tuple[int, ...] = ()
    port: int = 0


class Node(msgspec.Struct, frozen=True):
    """A machine as its agent last reported it. Capacities are what replicas may use."""

    name: NodeName
    cores: float
    memory_bytes: int
    observed_at_s: float
    processes: Mapping[str, ProcessStatus] = {}  # by name
    pool: str = DEFAULT_POOL
    gpus: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    """Everything `reconcile.plan` looks at.

    `targets` holds, per endpoint, the version its spec means now; None when there is none.
    `start_failures` holds, per replica, why its last start failed before its process did.
    `asked` holds what endpoints' objectives ask for, `acts` what their incidents do (core/remedies.py); None while
    nobody has looked: what is in force stays.
    `rollouts` has the newest rollout of each endpoint, ended or not. By their number: `orders` is what people said,
    `words` who they are and why, `readings` what gateways counted (by the boot of each), `posted` what users' own
    judges told (by metric). `rates` has the requests a second of the last minutes, `dossiers` how far the gates of
    revisions are; one that is not there has none. `scaled` has how many replicas the load calls for (core/scale), of
    each endpoint that scales; None while nobody has looked: it stays as it is. `rests` has those of them without a
    replica because of others, `closed` those that may have none by their schedules. `spent` has the projects whose
    GPU-hours are used up, and why.
    Nodes are observed before the rest is read, so a process without an assignment has been forgotten, not just made.
    """

    endpoints: tuple[EndpointState, ...] = ()
    revisions: tuple[Revision, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    nodes: tuple[Node, ...] = ()
    targets: Mapping[EndpointKey, ModelVersion | None] = {}
    start_failures: Mapping[str, str] = {}
    asked: Mapping[EndpointKey, Asked] | None = None
    acts: Mapping[EndpointKey, tuple[Act, ...]] | None = {}
    rollouts: tuple[RolloutState, ...] = ()
    orders: Mapping[int, Order] = {}
    words: Mapping[int, str] = {}
    readings: Mapping[int, Mapping[str, RolloutCounts]] = {}
    posted: Mapping[int, Mapping[str, Arms]] = {}
    rates: Mapping[EndpointKey, float] = {}
    dossiers: Mapping[str, DossierState] = {}
    scaled: Mapping[EndpointKey, int] | None = {}
    rests: Mapping[EndpointKey, Turn] = {}
    closed: Mapping[EndpointKey, Closed] = {}
    spent: Mapping[str, str] = {}
