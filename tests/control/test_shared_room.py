"""Pooling and preemption on one full node: the real decisions on virtual time, whatever comes in whatever order."""

from typing import Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.control.observe import State
from stoker.control.scaling import pooled
from stoker.core.actions import DrainReplica, StartReplica
from stoker.core.pooling import Turn
from stoker.core.reconcile import Plan
from stoker.core.scale.decide import Decision, decide
from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import policy_of
from stoker.core.scale.sight import Sight
from stoker.core.snapshot import EndpointKey, Snapshot
from stoker.types.placement import PlacementSpec
from stoker.types.process import ProcessStatus
from stoker.types.resources import Replicas
from stoker.types.scaling import Scaling
from tests.core.worlds import World

STEP_S: Final = 1.0
SERVICE_S: Final = 1.0
PRIORITIES: Final = ("critical", "standard", "sheddable")


class Shared(World):
    """Pooled endpoints p0, p1, … of one core each, of given priorities and starts, on one node of `room` cores."""

    def __init__(self, pool: list[tuple[str, float]], room: int) -> None:
        super().__init__((float(room),))
        self.cold_s: dict[str, float] = {}
        self.queue: dict[str, list[float]] = {}
        self.works_s: dict[str, float] = {}
        self.began_s: dict[str, float] = {}  # by replica
        self.memories: dict[EndpointKey, Memory] = {}
        self.rests: dict[EndpointKey, Turn] = {}
        self.lines: list[tuple[float, str, str]] = []  # when, "drain" or "start", and the words
        for at, (priority, cold_s) in enumerate(pool):
            name = f"p{at}"
            self.apply(name, placement=PlacementSpec(priority=priority), scaling=Scaling(idle_timeout="30s"))
            self._set(name, Replicas(min=0, max=1))
            self.cold_s[name] = cold_s

    def _set(self, name: str, replicas: Replicas) -> None:
        state = self.endpoints[name]
        spec = msgspec.structs.replace(state.resource.spec, replicas=replicas)
        resource = msgspec.structs.replace(state.resource, spec=spec)
        self.endpoints[name] = msgspec.structs.replace(state, resource=resource)

    def fix(self, name: str, priority: str, cores: float) -> None:
        """Have an endpoint that may not sleep."""
        self.apply(name, cpu=cores, placement=PlacementSpec(priority=priority))
        self._set(name, Replicas(min=1, max=1))
        self.cold_s[name] = 2.0

    def snapshot(self) -> Snapshot:
        return msgspec.structs.replace(super().snapshot(), rests=self.rests)

    def ask(self, name: str, count: int = 1) -> None:  # type: ignore[override]
        self.queue.setdefault(name, []).extend([self.now_s] * count)

    def step(self) -> Plan:
        """Agents, gateways, scaling, pooling, and a turn of the loop, in this order."""
        self.now_s += STEP_S
        arrived = {name: sum(at_s >= self.now_s - STEP_S for at_s in each) for name, each in self.queue.items()}
        self._agents()
        self._gateways()
        looked = {key: self._looked(key, arrived.get(key[1], 0)) for key in self._pooled()}
        snapshot = self.snapshot()
        state = State(snapshot.endpoints, snapshot.revisions, snapshot.assignments, {}, {})
        turns = pooled.turns(state, snapshot.nodes, looked, self.now_s)
        for key, (decision, _) in looked.items():
            turn = turns.get(key)
            memory = decision.memory
            if turn is not None:
                standing = msgspec.structs.replace(memory.pooled, out=turn.out)
                memory = msgspec.structs.replace(memory, desired=turn.count, pooled=standing)
            self.memories[key] = memory
        self.scaled = {key: self.memories[key].desired or 0 for key in looked}
        self.rests = {key: turn for key, turn in turns.items() if turn.because and (turn.is_waiting or not turn.count)}
        plan = self.turn()
        for each in plan.actions:
            if isinstance(each, DrainReplica):
                self.lines.append((self.now_s, f"drain {each.endpoint}", each.because))
            elif isinstance(each, StartReplica):
                self.lines.append((self.now_s, f"start {each.endpoint}", each.because))
                self.began_s[each.replica] = self.now_s
        return plan

    def is_sheddable(self, name: str) -> bool:
        return name in self.endpoints and self.endpoints[name].resource.spec.placement.priority == "sheddable"

    def demand_of(self, replica: str) -> float:
        """Return the cores of a process."""
        assignment = self.assignments.get(replica)
        return self.revisions[assignment.revision].config.cpu if assignment is not None else 0.0

    def _pooled(self) -> list[EndpointKey]:
        return [each.key for each in self.endpoints.values() if not each.resource.spec.replicas.min]

    def _agents(self) -> None:
        table = self.processes["n0"]
        for name, process in list(table.items()):
            endpoint = self.assignments[name].endpoint if name in self.assignments else ""
            if process.phase == "stopping" or not endpoint:
                if self.works_s.get(endpoint, 0.0) <= self.now_s:
                    del table[name]
            elif process.phase == "starting" and self.now_s - self.began_s[name] >= self.cold_s[endpoint]:
                table[name] = ProcessStatus(name, "replica", "ready", started_at_s=1.0, ready_at_s=self.now_s)

    def _ready(self, name: str) -> list[ProcessStatus]:
        table = self.processes["n0"]
        mine = [each for each in self.assignments.values() if each.endpoint == name and each.phase == "wanted"]
        return [table[each.replica] for each in mine if each.replica in table and table[each.replica].phase == "ready"]

    def _gateways(self) -> None:
        for name, queue in self.queue.items():
            if queue and self._ready(name):
                self.works_s[name] = self.now_s + SERVICE_S
                queue.clear()

    def _looked(self, key: EndpointKey, arrived: int) -> tuple[Decision, Sight]:
        name = key[1]
        ready = self._ready(name)
        mine = [each for each in self.assignments.values() if each.endpoint == name and each.phase == "wanted"]
        sight = Sight(
            at_s=self.now_s,
            arrived=arrived,
            since_s=STEP_S,
            rate_short=arrived / 6.0,
            places=8.0,
            waiting=len(self.queue.get(name, ())),
            in_flight=int(self.works_s.get(name, 0.0) > self.now_s),
            ready=len(ready),
            pending=len(mine) - len(ready),
            cold_start_s=self.cold_s[name],
            loaded_s=max((each.ready_at_s for each in ready), default=0.0),
        )
        spec = self.endpoints[name].resource.spec
        found = decide(sight, policy_of(spec, 1), self.memories.get(key, Memory()), self.now_s)
        memory = msgspec.structs.replace(found.memory, pooled=pooled.standing(found, sight, self.now_s))
        return msgspec.structs.replace(found, memory=memory), sight


def went(world: Shared) -> set[tuple[str, str]]:
    """Return who sleeps for whom by pooling now."""
    return {(key[1], turn.out.partition(".")[2]) for key, turn in world.rests.items() if "so that" in turn.because}


def play(world: Shared, script: list[tuple[str, int]]) -> None:
    """Play it with a step after each operation, and check what must hold at every one."""
    swapped: dict[tuple[str, str], float] = {}  # when one went for another
    for what, which in [*script, ("wait", 8)]:
        pool = sorted(world.cold_s.keys() - {"urgent", "jobs"})
        match what:
            case "ask":
                world.ask(pool[which % len(pool)])
            case "urgent" | "jobs" if what not in world.endpoints:
                world.fix(what, "critical" if what == "urgent" else "sheddable", 1.0)
            case "urgent" | "jobs":
                world.delete(what)
        for _ in range(which if what == "wait" else 1):
            before = len(world.lines)
            world.step()
            told = [(line.partition(" ")[2], why) for _, line, why in world.lines[before:] if "sheddable" in why]
            shed = {(name, why.partition("default.")[2].partition(" ")[0]) for name, why in told}
            _check(world, swapped, went(world), shed)


def _check(
    world: Shared, swapped: dict[tuple[str, str], float], pooled_out: set[tuple[str, str]], shed: set[tuple[str, str]]
) -> None:
    used = sum(world.demand_of(each) for each in world.processes["n0"])
    assert used <= world.capacity["n0"][0], f"the node is overcommitted: {used} cores, {world.lines[-9:]}"
    both = {comer for _, comer in pooled_out} & {comer for _, comer in shed}
    twice = {each for each in pooled_out ^ shed if each[1] in both}
    assert not twice, f"others go twice: {pooled_out}, {shed}"
    for gone, comer in pooled_out | shed:
        since_s = world.now_s - swapped.get((comer, gone), -1e9)
        is_back = world.is_sheddable(comer) and not world.is_sheddable(gone) and since_s < world.cold_s[comer]
        assert not is_back, f"{gone} and {comer} swap back and forth: {world.lines[-9:]}"
        swapped[gone, comer] = world.now_s


POOLS = st.lists(st.tuples(st.sampled_from(PRIORITIES), st.sampled_from((1.0, 3.0, 8.0))), min_size=2, max_size=4)
SCRIPTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3)),
        st.tuples(st.just("ask"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from((1, 4, 9))),
        st.tuples(st.just("urgent"), st.just(0)),
        st.tuples(st.just("jobs"), st.just(0)),
    ),
    min_size=5,
    max_size=20,
)


@settings(max_examples=12, deadline=None)
@given(POOLS, st.integers(1, 3), SCRIPTS)
def test_nobody_goes_twice_or_back_and_forth_and_the_node_is_never_overcommitted(
    pool: list[tuple[str, float]], room: int, script: list[tuple[str, int]]
) -> None:
    play(Shared(pool, room), script)


@settings(max_examples=8, deadline=None)
@given(POOLS, st.integers(1, 3), SCRIPTS)
def test_everybody_is_answered_once_the_more_urgent_pause(
    pool: list[tuple[str, float]], room: int, script: list[tuple[str, int]]
) -> None:
    world = Shared(pool, room)
    play(world, script)
    for name in ("urgent", "jobs"):
        world.delete(name)
    ends_s = world.now_s + 2 * sum(cold_s + 10.0 for _, cold_s in pool)
    while any(world.queue.values()) and world.now_s < ends_s:
        world.step()
    assert not any(world.queue.values()), world.lines[-20:]
