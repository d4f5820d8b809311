"""What to do next so that what runs becomes what was asked for. Pure: a snapshot in, typed actions out.

Per endpoint, in this order, whatever state a crash left behind:

0. what its objectives and incidents ask for begins or ends (core/enforce.py, core/remedies.py); how many replicas the
   load calls for was decided before (core/scale)
1. its spec and the version it means make a serving config; a config never seen becomes a new revision (the target)
2. which revisions run, how many replicas of each, and who gets the traffic, is what its rollout says (core/rollout)
3. replicas that are missing are placed beside what runs, where they fit, or sheddable ones make room
4. replicas that nobody wants any more are drained: first out of the route table, SETTLE_S later stopped, then forgotten

Shape after Nomad's reconcile_cluster.go: the caller applies, safety has names (tests/core/test_reconcile_safety.py).
"""

from base64 import b32encode
from hashlib import sha256

import msgspec

from stoker.core import enforce, enough, leaving, place, preemption, remedies, tiers
from stoker.core.actions import (
    Action,
    BeginMove,
    BeginRollout,
    ChangeRollout,
    CreateRevision,
    EndMove,
    SetServing,
    StartReplica,
)
from stoker.core.capacity import Demand, Held
from stoker.core.conditions import is_crash_looping
from stoker.core.revisions import ServingConfig, Unservable, config_digest, revision_id, serving_config
from stoker.core.rollout.release import Release, Scene, end, release
from stoker.core.rollout.room import Room, look
from stoker.core.rollout.state import Entry, RolloutState
from stoker.core.scale.policy import is_scaled
from stoker.core.shortage import NoRoom
from stoker.core.snapshot import Assignment, EndpointKey, EndpointState, Revision, Snapshot
from stoker.core.statuses import Sight, endpoint_status, no_room
from stoker.core.world import World
from stoker.types.ids import ReplicaId, RevisionId
from stoker.types.remedies import ActKind
from stoker.types.slos import MoveInForce
from stoker.types.statuses import EndpointStatus


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
    leaving.stop_strays(world)
    return Plan(actions=tuple(world.actions), statuses=tuple(statuses), again_s=world.again_s)


def _turn(endpoint: EndpointState) -> tuple[bool, int, float, EndpointKey]:
    """Critical ones first, then the oldest; those with backends last, so that they know how their backends are now."""
    return (bool(endpoint.resource.spec.backends), preemption.rank(endpoint), endpoint.created_at_s, endpoint.key)


def replica_name(endpoint: EndpointState, revision: Revision, number: int) -> ReplicaId:
    """Return the name of the `number`-th replica ever made of `revision`.

    The birth of the endpoint is in it, so that a deleted and recreated endpoint reuses no name.
    """
    seed = f"{revision.revision}/{endpoint.created_at_s}/{number}"
    return ReplicaId(f"{revision.revision}-{b32encode(sha256(seed.encode()).digest())[:5].decode().lower()}")


class _Endpoint:
    """One endpoint's turn."""

    def __init__(self, world: World, endpoint: EndpointState) -> None:
        self.world = world
        self.endpoint = endpoint
        self.mine = world.assigned(endpoint.key)
        self.revisions = world.revisions_of(endpoint.key)
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
        self.spent = enough.spent(self.world, endpoint)  # why it may not have more of GPUs
        self.usual = enough.usual(self.world, endpoint, self.mine, self.held, is_spent=bool(self.spent))
        self.wanted_count = enforce.replicas(self.usual, endpoint.resource.spec.replicas, self.moves)
        self.room = Room()
        self.blocked: str | None = None  # why a replica has no node
        self.short: Demand | None = None  # what it needs
        self.problem: Unservable | None = None  # why the spec has no target of its own
        self.release: Release | None = None

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
        leaving.finish(self.world, self.endpoint, self.mine)
        if self.endpoint.is_deleting:
            self._end_rollout("the endpoint is deleted")
            leaving.delete(self.world, self.endpoint, self.mine)
            return self._status(None)
        if self.endpoint.resource.spec.backends:
            self._end_rollout("other endpoints serve for it now")
            return self._hand_over()
        target = self._target()
        if target is not None:
            asked = enough.called(self.world, self.endpoint)
            self.room = look(self.world, self.endpoint, target, self.mine, asked)
            self.release = release(self.world, self._scene(target))
            self._follow(self.release)
            for revision in self.release.grows:
                self._start_missing(self._known(revision, target), self.release.counts[revision])
            if self._waits() and not self.usual:
                self.blocked = self.room.beside or None  # it sleeps, and would have none when it is woken
            self._drain_unwanted(self.release)
            self._preempt()
            self._restart_lost(self.release)
        leaving.forget_history(self.world, self.endpoint, self.mine, self.revisions, target)
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
        leaving.forget_history(self.world, self.endpoint, self.mine, self.revisions, None)
        return tiers.status(self.endpoint, self.world.known, len(self.mine), self.world.now_s)

    def _target(self) -> Revision | None:
        """Return the revision that the spec asks for; make it when its config is new."""
        version = self.world.snapshot.targets.get(self.endpoint.key)
        config: ServingConfig | Unservable
        if version is None:
            config = Unservable(f"no version {self.endpoint.resource.spec.model} in the registry", "spec.model")
        else:
            config = serving_config(self.endpoint.resource.spec, version)
        config = enough.held_back(config, self.revisions, self.spent)
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

    def _scene(self, target: Revision) -> Scene:
        return Scene(
            endpoint=self.endpoint,
            target=target,
            revisions=self.revisions,
            mine=self.mine,
            counted=[each for each in self.mine if each.phase == "wanted" and each.replica not in self.held],
            wanted=self.wanted_count,
            usual=self._enough(),
            called=self.usual if is_scaled(self.endpoint.resource.spec) else 0,
            least=self.endpoint.resource.spec.replicas.min,
            blocked=no_room(self.endpoint.status),
            room=self.room,
        )

    def _enough(self) -> int:
        """Return how many ready replicas of a new revision can take all traffic: as many as serve now, one at least."""
        if not self.endpoint.serving:
            return self.usual
        serves = sum(self.world.is_ready(each) for each in self._counted(self.endpoint.serving))
        return max(min(self.usual, max(serves, 1)), self._least())

    def _least(self) -> int:
        """Return how many ready replicas there must be at any time."""
        found = min(self.endpoint.resource.spec.replicas.min, self.usual)
        return max(found - self._missing(), min(found, 1))

    def _missing(self) -> int:
        """Return how many may be missing now: those that a rollout without room may do without."""
        is_blocked = self.blocked is not None or no_room(self.endpoint.status)
        return self.endpoint.resource.spec.rollout.unavailable_max if is_blocked else 0

    def _known(self, revision: str, target: Revision) -> Revision:
        return next((each for each in self.revisions if each.revision == revision), target)

    def _end_rollout(self, because: str) -> None:
        if (ended := end(self.world, self.endpoint, because)) is not None:
            self._change_rollout(ended.state, ended.entries)

    def _change_rollout(self, state: RolloutState, entries: tuple[Entry, ...]) -> None:
        owner = (self.endpoint.project, self.endpoint.name)
        self._do(ChangeRollout(*owner, RevisionId(state.canary), state, entries, state.because))

    def _follow(self, found: Release) -> None:
        """Add what changes of the rollout, and of who gets the traffic."""
        owner = (self.endpoint.project, self.endpoint.name)
        if found.ended is not None:
            self._change_rollout(found.ended.state, found.ended.entries)
        state = found.rollout
        if state is not None:
            if found.is_new:
                begun = BeginRollout(*owner, RevisionId(state.canary), state, found.entries, found.entries[0].because)
                self._do(begun)
            elif state != self.world.rollouts.get(self.endpoint.key):
                self._change_rollout(state, found.entries)
            if found.again_s is not None:
                self.world.wake_at(self.world.now_s + found.again_s)
        if found.serving is not None:
            self._do(SetServing(*owner, RevisionId(found.serving[0]), found.serving[1]))

    def _start_missing(self, target: Revision, wanted: int) -> None:
        have = len(self._counted(target.revision))
        for extra in range(wanted - have):
            demand = self.world.demand(target)
            where = place.choose(demand, self.world.capacities, self.world.held)
            if isinstance(where, NoRoom):
                self.blocked, self.short = where.message, demand
                return
            self.world.held.append(Held(where.node, demand, where.gpus))
            self._do(
                StartReplica(
                    project=self.endpoint.project,
                    endpoint=self.endpoint.name,
                    revision=target.revision,
                    replica=replica_name(self.endpoint, target, target.replicas_made + extra + 1),
                    node=where.node,
                    drain_s=leaving.drain_seconds(self.endpoint),
                    is_new=True,
                    because=f"{have + extra} of {wanted} wanted replicas are there; {where.because}",
                    gpus=where.gpus,
                )
            )

    def _preempt(self) -> None:
        """Have others make room for what has none, after what this endpoint can do without has gone."""
        made = preemption.preempt(self.world, self.endpoint, self.short) if self.short is not None else ""
        if made:
            self.blocked = f"{self.blocked}; {made}"

    def _drain_unwanted(self, found: Release) -> None:
        """Drain surplus replicas, and those of revisions that neither serve nor are wanted."""
        target, serving = found.revision.revision, self.endpoint.serving
        if target in found.counts:
            self._replace_held(target, found.counts[target])
        ready = sum(self.world.is_ready(each) for each in self._counted(target))
        missing = self._missing()
        spare = self._kept_first(serving)[max(self._least(), self.usual - missing - ready, min(missing, 1)) :]
        for each in self.mine:
            if each.phase != "wanted" or each.revision == target:
                continue
            if not found.counts.get(each.revision) and (each.revision != serving or found.clears(serving)):
                self._drain(each, found.why_gone(each.revision))
            elif each.revision == serving and found.is_waiting and self.room.is_idle and self.room.alone:
                self._drain(each, f"nobody asks for it: it sleeps, and wakes while {target} has no room")
            elif each.revision == serving and self.blocked is not None and is_crash_looping(self.world.process(each)):
                self._drain(each, f"it crashes and holds the room that {target} needs")
            elif each.revision == serving and self.blocked is not None and each in spare:
                why = (
                    f"{missing} of {self.usual} may be missing, and it" if missing else "it is more than is needed and"
                )
                self._drain(each, f"{why} holds the room that {target} needs")

    def _replace_held(self, target: str, wanted: int) -> None:
        """Drain what the revision has too many of, and what an incident has replaced."""
        kept_first = self._kept_first(target)
        for surplus in kept_first[wanted:]:
            self._drain(surplus, f"{len(kept_first)} replicas run and {wanted} are wanted")
        ready = sum(self.world.is_ready(each) for each in kept_first)
        for each in self.mine:
            if each.phase == "wanted" and self.held.get(each.replica) == "restart" and each.revision == target:
                if ready >= wanted:
                    self._drain(each, "an incident has it replaced, and its replacement is ready")
                elif self.blocked is not None and (ready or wanted == 1):
                    self._drain(each, "an incident has it replaced, and there is no room for both")

    def _restart_lost(self, found: Release) -> None:
        for each in self.mine:
            is_used = found.counts.get(each.revision) or each.revision == self.endpoint.serving
            if each.phase == "wanted" and is_used and self.world.is_seen(each) and self.world.process(each) is None:
                self._do(
                    StartReplica(
                        project=each.project,
                        endpoint=each.endpoint,
                        revision=each.revision,
                        replica=each.replica,
                        node=each.node,
                        drain_s=leaving.drain_seconds(self.endpoint),
                        is_new=False,
                        because=f"node {each.node} does not run it",
                        gpus=each.gpus,
                    )
                )

    def _status(self, target: Revision | None) -> EndpointStatus | None:
        if any(not self.world.is_seen(each) for each in self.mine):
            return None  # its agent does not answer: what is known stays, the data plane goes on
        return endpoint_status(
            self.endpoint,
            Sight(
                target=self.release.revision.revision if self.release is not None else "",
                wanted_count=self.wanted_count,
                processes=tuple(
                    (each, self.world.process(each))
                    for each in self.mine
                    if each.phase != "wanted" or each.replica not in self.held
                ),
                blocked=self.room.told(self.blocked, self.endpoint.serving) if self._waits() else self.blocked,
                is_idle=self.room.is_idle,
                preempted_by=self.world.preempted.get(self.endpoint.key, ""),
                problem=self.problem.message if self.problem is not None else None,
                rest=self.world.snapshot.rests.get(self.endpoint.key),
                closed=self.world.snapshot.closed.get(self.endpoint.key),
                asked=target.revision if target is not None else "",
                rollout=self._rollout(),
                start_failures=self.world.snapshot.start_failures,
                release=self.world.snapshot.dossiers.get(target.revision) if target is not None else None,
            ),
            self.world.now_s,
        )

    def _waits(self) -> bool:
        return self.release is not None and self.release.is_waiting

    def _rollout(self) -> RolloutState | None:
        found = self.release
        return None if found is None else found.rejected if found.rejected is not None else found.rollout

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
        leaving.drain(self.world, each, because)

    def _do(self, action: Action) -> None:
        self.world.actions.append(action)
