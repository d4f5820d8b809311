"""What to do next so that what runs becomes what was asked for. Pure: a snapshot in, typed actions out.

Per endpoint, in this order, whatever state a crash left behind:

0. what its objectives and incidents ask for begins or ends (core/enforce.py, core/remedies.py)
1. its spec and the version it means make a serving config; a config never seen becomes a new revision (the target)
2. replicas of the target that are missing are placed beside what runs, where they fit
3. traffic moves to the target when all its wanted replicas are ready, or when the serving revision has none ready
4. replicas that nobody wants any more are drained: first out of the route table, SETTLE_S later stopped, then forgotten

Shape after Nomad's reconcile_cluster.go: the caller applies, safety has names (tests/core/test_reconcile_safety.py).
"""

from base64 import b32encode
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from stoker.core import enforce, place, remedies, tiers
from stoker.core.actions import (
    Action,
    BeginMove,
    CreateRevision,
    DrainReplica,
    EndMove,
    ForgetReplica,
    ForgetRevision,
    RemoveEndpoint,
    SetServing,
    StartReplica,
    StopReplica,
    StopStray,
)
from stoker.core.conditions import is_crash_looping
from stoker.core.place import Held, NoRoom
from stoker.core.revisions import ServingConfig, Unservable, config_digest, revision_id, serving_config
from stoker.core.snapshot import Assignment, EndpointKey, EndpointState, Revision, Snapshot
from stoker.core.statuses import Sight, endpoint_status
from stoker.core.world import World, demand
from stoker.types.ids import ReplicaId
from stoker.types.process import ProcessStatus
from stoker.types.remedies import ActKind
from stoker.types.slos import MoveInForce
from stoker.types.statuses import EndpointStatus
from stoker.types.units import parse_seconds

# How long gateways have to hear that a replica takes no more traffic before it is told to drain. They long-poll and
# hear within milliseconds; one that hears later is refused by the draining replica with an error it retries.
SETTLE_S = 1.0
# A replica may finish what it admitted: the endpoint's own deadline, within these bounds.
DRAIN_MIN_S = 2.0
DRAIN_MAX_S = 600.0
REVISIONS_KEPT = 10  # newest ones, besides those in use: what a rollback can return to


class Plan(msgspec.Struct, frozen=True):
    """What to do, in order; the statuses that changed; when time alone makes something due (None: never)."""

    actions: tuple[Action, ...] = ()
    statuses: tuple[tuple[EndpointKey, EndpointStatus], ...] = ()
    again_s: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done now."""
        return not self.actions and not self.statuses


def plan(snapshot: Snapshot, now_s: float) -> Plan:
    """Return the next steps for every endpoint. `now_s` is unix time, as are the times in `snapshot`."""
    world = World(snapshot, now_s)
    statuses = []
    for endpoint in sorted(snapshot.endpoints, key=_turn):
        status = _Endpoint(world, endpoint).turn()
        if status is not None:
            world.known[endpoint.key] = status
        if status is not None and status != endpoint.status:
            statuses.append((endpoint.key, status))
    _stop_strays(world)
    return Plan(actions=tuple(world.actions), statuses=tuple(statuses), again_s=world.again_s)


def _turn(endpoint: EndpointState) -> tuple[bool, float, EndpointKey]:
    """Oldest first; those with backends last, so that they know how their backends are now."""
    return (bool(endpoint.resource.spec.backends), endpoint.created_at_s, endpoint.key)


def replica_name(endpoint: EndpointState, revision: Revision, number: int) -> ReplicaId:
    """Return the name of the `number`-th replica ever made of `revision`.

    The birth of the endpoint is in it, so that a deleted and recreated endpoint reuses no name.
    """
    seed = f"{revision.revision}/{endpoint.created_at_s}/{number}"
    return ReplicaId(f"{revision.revision}-{b32encode(sha256(seed.encode()).digest())[:5].decode().lower()}")


def drain_seconds(endpoint: EndpointState) -> float:
    """Return how long a replica of `endpoint` may take to finish what it admitted."""
    return min(max(parse_seconds(endpoint.resource.spec.limits.timeout), DRAIN_MIN_S), DRAIN_MAX_S)


class _Endpoint:
    """One endpoint's turn."""

    def __init__(self, world: World, endpoint: EndpointState) -> None:
        self.world = world
        self.endpoint = endpoint
        self.mine = [each for each in world.snapshot.assignments if (each.project, each.endpoint) == endpoint.key]
        self.revisions = [each for each in world.snapshot.revisions if (each.project, each.endpoint) == endpoint.key]
        self.moves = endpoint.status.moves
        asked, acts = world.snapshot.asked, world.snapshot.acts
        mine = acts.get(endpoint.key, ()) if acts is not None else ()
        if asked is not None and acts is not None and not endpoint.is_deleting:
            self.moves = enforce.decide(
                self.moves, {**remedies.moves(mine), **asked.get(endpoint.key, {})}, world.now_s
            )
        # Replicas that are not counted on, and what is done with each; while nobody knows, those without traffic.
        self.held: dict[str, ActKind] = (
            remedies.held_out(mine) if acts is not None else dict.fromkeys(endpoint.status.out, "eject")
        )
        self.wanted_count = enforce.replicas(endpoint.resource.spec.replicas, self.moves)
        self.blocked: str | None = None  # why a replica of the target has no node
        self.problem: Unservable | None = None  # why the spec has no target of its own

    def turn(self) -> EndpointStatus | None:
        """Decide, and return the status with the moves that are in force; None when nothing of it is known anew."""
        before = self.endpoint.status
        self._change_moves(before.moves)
        status = self.decide()
        out = self._out()
        if status is None and self.moves == before.moves and out == before.out:
            return None
        return msgspec.structs.replace(status if status is not None else before, moves=self.moves, out=out)

    def decide(self) -> EndpointStatus | None:
        """Add this endpoint's actions to the world and return its status; None when it cannot be known now."""
        self._finish_leaving()
        if self.endpoint.is_deleting:
            self._delete()
            return self._status(None)
        if self.endpoint.resource.spec.backends:
            return self._hand_over()
        target = self._target()
        if target is not None:
            self._start_missing(target)
            self._switch(target)
            self._drain_unwanted(target)
            self._restart_lost(target)
        self._forget_history(target)
        return self._status(target)

    def _change_moves(self, before: tuple[MoveInForce, ...]) -> None:
        owner = (self.endpoint.project, self.endpoint.name)
        for each in self.moves:
            if not enforce.is_in_force(each.move, before):
                self._do(BeginMove(*owner, each.move, because=each.because))
        for each in before:
            if not enforce.is_in_force(each.move, self.moves):
                self._do(EndMove(*owner, each.move, because="nothing asks for it any more"))

    def _out(self) -> tuple[str, ...]:
        """Return the replicas that get no traffic: those held out, while another one of the revision is ready."""
        if any(not self.world.is_seen(each) for each in self.mine):
            return self.endpoint.status.out
        wanted = [each for each in self.mine if each.phase == "wanted"]
        able = {each.revision for each in wanted if self.world.is_ready(each) and each.replica not in self.held}
        return tuple(sorted(each.replica for each in wanted if each.replica in self.held and each.revision in able))

    def _hand_over(self) -> EndpointStatus:
        """Let the backends serve; replicas of a model that it had before go when one of them is ready."""
        if tiers.is_ready(self.endpoint, self.world.known):
            for each in self.mine:
                if each.phase == "wanted":
                    self._drain(each, "its backends serve now")
        self._forget_history(None)
        return tiers.status(self.endpoint, self.world.known, len(self.mine), self.world.now_s)

    def _target(self) -> Revision | None:
        """Return the revision that the spec asks for; make it when its config is new."""
        version = self.world.snapshot.targets.get(self.endpoint.key)
        config: ServingConfig | Unservable
        if version is None:
            config = Unservable(f"no version {self.endpoint.resource.spec.model} in the registry", "spec.model")
        else:
            config = serving_config(self.endpoint.resource.spec, version)
        if isinstance(config, Unservable):
            self.problem = config
            kept = (self.endpoint.status.revision, self.endpoint.serving)
            return next((each for name in kept for each in self.revisions if each.revision == name), None)
        digest = config_digest(config)
        same = [each for each in self.revisions if each.digest == digest]
        if same:
            return max(same, key=lambda each: each.number)
        number = self.endpoint.last_number + 1
        name = revision_id(self.endpoint.project, self.endpoint.name, number)
        because = f"the spec (generation {self.endpoint.generation}) and model {config.ref} make a new configuration"
        owner = (self.endpoint.project, self.endpoint.name)
        self._do(CreateRevision(*owner, name, number, digest, config, because=because))
        return Revision(name, *owner, number, digest, config, self.world.now_s)

    def _start_missing(self, target: Revision) -> None:
        have = len(self._counted(target.revision))
        for extra in range(self.wanted_count - have):
            where = place.choose(demand(target), self.world.capacities, self.world.held)
            if isinstance(where, NoRoom):
                self.blocked = where.message
                return
            self.world.held.append(Held(where.node, demand(target)))
            self._do(
                StartReplica(
                    project=self.endpoint.project,
                    endpoint=self.endpoint.name,
                    revision=target.revision,
                    replica=replica_name(self.endpoint, target, target.replicas_made + extra + 1),
                    node=where.node,
                    drain_s=drain_seconds(self.endpoint),
                    is_new=True,
                    because=f"{have + extra} of {self.wanted_count} wanted replicas are there; {where.because}",
                )
            )

    def _switch(self, target: Revision) -> None:
        serving = self.endpoint.serving
        if serving == target.revision:
            return
        ready = [each for each in self._wanted(target.revision) if self.world.is_ready(each)]
        old = self._wanted(serving)
        usual = self.endpoint.resource.spec.replicas.min
        if len(ready) >= usual:
            because = f"all {usual} wanted replicas of {target.revision} are ready"
        elif ready and all(self.world.is_seen(each) and not self.world.is_ready(each) for each in old):
            because = f"{len(ready)} of {usual} replicas of {target.revision} are ready, and " + (
                f"{serving} has none" if serving else "nothing served before"
            )
        else:
            return
        self._do(SetServing(self.endpoint.project, self.endpoint.name, target.revision, because))

    def _drain_unwanted(self, target: Revision) -> None:
        """Drain surplus replicas of the target, and those of revisions that neither serve nor are wanted."""
        kept_first = self._kept_first(target.revision)
        for surplus in kept_first[self.wanted_count :]:
            self._drain(surplus, f"{len(kept_first)} replicas run and {self.wanted_count} are wanted")
        ready = sum(self.world.is_ready(each) for each in kept_first)
        spare = self._kept_first(self.endpoint.serving)[self.endpoint.resource.spec.replicas.min :]
        for each in self.mine:
            if each.phase == "wanted" and self.held.get(each.replica) == "restart" and each.revision == target.revision:
                if ready >= self.wanted_count:
                    self._drain(each, "an incident has it replaced, and its replacement is ready")
                elif self.blocked is not None and (ready or self.wanted_count == 1):
                    self._drain(each, "an incident has it replaced, and there is no room for both")
            if each.phase != "wanted" or each.revision == target.revision:
                continue
            if each.revision != self.endpoint.serving:
                self._drain(each, f"{target.revision} took the place of {each.revision}")
            elif self.blocked is not None and is_crash_looping(self.world.process(each)):
                self._drain(each, f"it crashes and holds the room that {target.revision} needs")
            elif self.blocked is not None and each in spare:  # added by scale-up
                self._drain(each, f"it is one more than usual and holds the room that {target.revision} needs")

    def _restart_lost(self, target: Revision) -> None:
        for each in self.mine:
            is_used = each.revision in (target.revision, self.endpoint.serving)
            if each.phase == "wanted" and is_used and self.world.is_seen(each) and self.world.process(each) is None:
                self._do(
                    StartReplica(
                        project=each.project,
                        endpoint=each.endpoint,
                        revision=each.revision,
                        replica=each.replica,
                        node=each.node,
                        drain_s=drain_seconds(self.endpoint),
                        is_new=False,
                        because=f"node {each.node} does not run it",
                    )
                )

    def _finish_leaving(self) -> None:
        """Take draining replicas to stopping, and stopping ones out of the books, each when it is time."""
        for each in self.mine:
            if each.phase == "wanted" or not self.world.is_seen(each):
                continue
            process = self.world.process(each)
            if each.phase == "draining":
                due_s = each.since_s + SETTLE_S
                if process is None or self.world.now_s >= due_s or each.since_s > self.world.now_s:
                    self._stop(each, "it takes no traffic any more and may finish what it holds")
                else:
                    self.world.wake_at(due_s)
            elif process is not None and process.phase not in ("draining", "stopping", "stopped"):
                self._stop(each, "its agent has not begun to stop it")
            elif process is None and self.world.is_after(self.world.nodes[each.node].observed_at_s, each.since_s):
                self._do(ForgetReplica(each.project, each.endpoint, each.replica, because="its process is gone"))

    def _delete(self) -> None:
        for each in self.mine:
            if each.phase == "wanted":
                self._drain(each, "the endpoint is deleted")
        if not self.mine:
            self._do(
                RemoveEndpoint(
                    self.endpoint.project, self.endpoint.name, because="it was deleted and its replicas are gone"
                )
            )

    def _forget_history(self, target: Revision | None) -> None:
        used = {each.revision for each in self.mine} | {self.endpoint.serving, self.endpoint.status.revision}
        if target is not None:
            used.add(target.revision)
        newest_first = sorted(self.revisions, key=lambda each: -each.number)
        for each in newest_first[REVISIONS_KEPT:]:
            if each.revision not in used:
                because = f"{REVISIONS_KEPT} newer revisions are kept"
                self._do(ForgetRevision(each.project, each.endpoint, each.revision, because))

    def _status(self, target: Revision | None) -> EndpointStatus | None:
        if any(not self.world.is_seen(each) for each in self.mine):
            return None  # its agent does not answer: what is known stays, the data plane goes on
        return endpoint_status(
            self.endpoint,
            Sight(
                target=target.revision if target is not None else "",
                wanted_count=self.wanted_count,
                processes=tuple(
                    (each, self.world.process(each))
                    for each in self.mine
                    if each.phase != "wanted" or each.replica not in self.held
                ),
                blocked=self.blocked,
                problem=self.problem.message if self.problem is not None else None,
                start_failures=self.world.snapshot.start_failures,
            ),
            self.world.now_s,
        )

    def _wanted(self, revision: str) -> list[Assignment]:
        return [each for each in self.mine if each.revision == revision and each.phase == "wanted"]

    def _counted(self, revision: str) -> list[Assignment]:
        return [each for each in self._wanted(revision) if each.replica not in self.held]

    def _kept_first(self, revision: str) -> list[Assignment]:
        return sorted(
            self._counted(revision),
            key=lambda each: (not self.world.is_ready(each), each.created_at_s, each.replica),
        )

    def _drain(self, each: Assignment, because: str) -> None:
        self._do(DrainReplica(each.project, each.endpoint, each.replica, because))

    def _stop(self, each: Assignment, because: str) -> None:
        drain_s = drain_seconds(self.endpoint)
        self._do(StopReplica(each.project, each.endpoint, each.replica, each.node, drain_s, because))

    def _do(self, action: Action) -> None:
        self.world.actions.append(action)


def _stop_strays(world: World) -> None:
    known = {each.replica for each in world.snapshot.assignments}
    for node in world.snapshot.nodes:
        for name in _replicas(node.processes.values()):
            if name not in known:
                world.actions.append(StopStray(name, node.name, because="no assignment accounts for it"))


def _replicas(processes: Iterable[ProcessStatus]) -> list[ReplicaId]:
    leaving = ("draining", "stopping", "stopped")
    return [ReplicaId(each.name) for each in processes if each.kind == "replica" and each.phase not in leaving]
