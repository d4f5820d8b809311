"""A small platform without processes: what `plan` decides is applied to values, and agents do as they are told.

Scripts of operations (a list of tuples, so that hypothesis can shrink them) drive it; checks look at each turn.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st

from stoker.core import actions, reconcile
from stoker.core.gate.law import DossierState
from stoker.core.reconcile import Plan
from stoker.core.rollout.state import Entry, RolloutState
from stoker.core.rollout.table import ORDERS, Order
from stoker.core.snapshot import Assignment, EndpointKey, EndpointState, Node, Revision, Snapshot
from stoker.types.ids import Digest, EndpointName, ModelName, NodeName, ProjectName
from stoker.types.models import ModelVersion, VersionManifest
from stoker.types.placement import DEFAULT_POOL
from stoker.types.process import ProcessStatus
from stoker.types.releases import Gates, GoldenGate, LikenessGate
from stoker.types.remedies import Act, ActKind
from stoker.types.resources import Backend, Endpoint, EndpointSpec, Limits, Metadata, Replicas, Resources
from stoker.types.rollouts import ArmCounts, Arms, Hook, Rollout, RolloutCounts
from stoker.types.slos import Move
from stoker.types.statuses import EndpointStatus

PROJECT = ProjectName("default")
Check = Callable[[Snapshot, Plan, "World"], None]


def version(number: int, **fields: Any) -> ModelVersion:
    manifest = VersionManifest(format="onnx", files=(), entry="model.onnx", tasks=("predict",), **fields)
    return ModelVersion(ModelName("m"), number, Digest(f"sha256:{number:064x}"), manifest, 0.0, 10)


# Nobody makes dossiers here but tests that put one into `World.dossiers`.
NO_GATES = Gates(schema="off", golden=GoldenGate(set="off"), likeness=LikenessGate(when="off"), policy="off")


def resource(name: str, replicas: int = 1, cpu: float = 1.0, gpu: float = 0.0, **spec: Any) -> Endpoint:
    return Endpoint(
        metadata=Metadata(name=name),
        spec=EndpointSpec(
            model="m@1",
            resources=Resources(cpu=cpu, memory="100Mi", gpu=gpu),
            replicas=Replicas(min=replicas, max=replicas + 1 if replicas else 0),  # one more under scale-up
            **({"gates": NO_GATES, "limits": Limits(timeout="5s")} | spec),
        ),
    )


FAR_S = 3600.0  # what is due after so long is nothing to wait for, such as the end of a step without requests


class World:
    """State, clock and agents. Versions in `broken` crash while they load."""

    def __init__(self, cores: tuple[float, ...] = (4.0,), memory_bytes: int = 1 << 30) -> None:
        self.now_s = 1000.0
        self.endpoints: dict[str, EndpointState] = {}
        self.revisions: dict[str, Revision] = {}
        self.assignments: dict[str, Assignment] = {}
        self.models: dict[str, int] = {}
        self.broken: set[int] = set()
        self.processes: dict[str, dict[str, ProcessStatus]] = {f"n{at}": {} for at in range(len(cores))}
        self.capacity = {f"n{at}": (each, memory_bytes) for at, each in enumerate(cores)}
        self.pools: dict[str, str] = {}  # of nodes that are not in the usual one
        self.gpus: dict[str, int] = {}
        self.silent: set[str] = set()
        self.start_failures: dict[str, str] = {}
        self.asked: dict[EndpointKey, dict[Move, str]] | None = {}
        self.acts: dict[EndpointKey, tuple[Act, ...]] | None = {}
        self.rollouts: list[RolloutState] = []  # the newest last; a number is its place
        self.timeline: list[Entry] = []
        self.orders: dict[int, Order] = {}
        self.readings: dict[int, dict[str, RolloutCounts]] = {}
        self.posted: dict[int, dict[str, Arms]] = {}
        self.rates: dict[EndpointKey, float] = {}
        self.dossiers: dict[str, DossierState] = {}
        self.scaled: dict[EndpointKey, int] | None = {}  # what the load calls for
        self.spent: dict[str, str] = {}  # projects without GPU-hours

    # what people and their objectives do

    def apply(self, name: str, model: int = 1, replicas: int = 1, cpu: float = 1.0, **spec: Any) -> None:
        old = self.endpoints.get(name)
        self.models[name] = model
        wanted = resource(name, replicas, cpu, **spec)
        if old is None:
            self.endpoints[name] = EndpointState(PROJECT, EndpointName(name), 1, wanted, self.now_s)
        else:
            self.endpoints[name] = msgspec.structs.replace(
                old, resource=wanted, generation=old.generation + 1, is_deleting=False
            )

    def stand_for(self, name: str, *backends: str) -> None:
        """Make `name` an endpoint whose backends are others."""
        spec = EndpointSpec(backends=tuple(Backend(each) for each in backends))
        wanted = Endpoint(metadata=Metadata(name=name), spec=spec)
        old = self.endpoints.get(name, EndpointState(PROJECT, EndpointName(name), 0, wanted, self.now_s))
        self.endpoints[name] = msgspec.structs.replace(old, resource=wanted, generation=old.generation + 1)

    def delete(self, name: str) -> None:
        if name in self.endpoints:
            self.endpoints[name] = msgspec.structs.replace(self.endpoints[name], is_deleting=True, serving="")

    def ask(self, name: str, *moves: Move) -> None:
        """Have the objectives of `name` ask for `moves`, and for nothing else."""
        self.asked = {**(self.asked or {}), (PROJECT, EndpointName(name)): dict.fromkeys(moves, "its budget is gone")}

    def scale(self, name: str, replicas: int) -> None:
        """Have the load of `name` call for so many replicas."""
        self.scaled = {**(self.scaled or {}), (PROJECT, EndpointName(name)): replicas}

    def act(self, name: str, *acts: tuple[ActKind, str]) -> None:
        """Have an incident of `name` do this (kind, subject), and nothing else."""
        made = tuple(Act(at, kind, subject, "a test", self.now_s) for at, (kind, subject) in enumerate(acts, 1))
        self.acts = {**(self.acts or {}), (PROJECT, EndpointName(name)): made}

    # what gateways and people do in a rollout

    def count(
        self,
        canary: tuple[int, int],
        baseline: tuple[int, int],
        boot: str = "g0",
        unjudged: tuple[int, int] = (0, 0),
        **more: Any,
    ) -> None:
        """Have a gateway count (all, failed) more tries of either arm of the newest rollout, and `unjudged` ones."""
        if not self.rollouts:
            return
        number = len(self.rollouts)
        table = self.readings.setdefault(number, {})
        old = table.get(boot, RolloutCounts(number))
        arms = Arms(_more(old.arms.canary, *canary, unjudged[0]), _more(old.arms.baseline, *baseline, unjudged[1]))
        table[boot] = RolloutCounts(number, arms, **more)

    def order(self, said: Order) -> None:
        if self.rollouts:
            self.orders[len(self.rollouts)] = said

    def reload(self) -> None:
        """Control is killed and reads what it had stored."""
        self.rollouts = msgspec.json.decode(msgspec.json.encode(self.rollouts), type=list[RolloutState])

    @property
    def rollout(self) -> RolloutState:
        return self.rollouts[-1]

    # what agents do

    def work(self, seed: int = 0) -> None:
        """Every process goes one step on; stopping ones end, broken ones crash."""
        for node, table in self.processes.items():
            if node in self.silent:
                continue
            for name, process in list(table.items()):
                number = self._model_of(name)
                if process.phase == "stopping":
                    del table[name]
                elif number in self.broken and process.phase != "ready":
                    table[name] = msgspec.structs.replace(
                        process, phase="backoff", crashes_in_row=process.crashes_in_row + 1, last_error="bad weights"
                    )
                elif process.phase in ("starting", "backoff") and (seed + len(name)) % 3 != 1:
                    table[name] = msgspec.structs.replace(process, phase="ready", ready_at_s=self.now_s)
                elif process.phase in ("starting", "backoff"):
                    table[name] = msgspec.structs.replace(process, phase="loading")
                elif process.phase == "loading":
                    table[name] = msgspec.structs.replace(process, phase="ready", ready_at_s=self.now_s)

    def crash(self, which: int) -> None:
        names = [(node, name) for node, table in self.processes.items() for name in table]
        if names:
            node, name = names[which % len(names)]
            process = self.processes[node][name]
            if process.phase != "stopping":
                self.processes[node][name] = msgspec.structs.replace(
                    process, phase="backoff", crashes_in_row=process.crashes_in_row + 1, last_exit="killed by SIGKILL"
                )

    def lose(self, which: int) -> None:
        """An agent forgets a process: its record is gone with its disk."""
        names = [(node, name) for node, table in self.processes.items() for name in table]
        if names:
            node, name = names[which % len(names)]
            del self.processes[node][name]

    def _model_of(self, replica: str) -> int:
        assignment = self.assignments.get(replica)
        return self.revisions[assignment.revision].config.number if assignment is not None else 0

    # what control does

    def snapshot(self) -> Snapshot:
        nodes = tuple(
            Node(
                NodeName(name),
                *self.capacity[name],
                observed_at_s=self.now_s,
                processes=dict(table),
                pool=self.pools.get(name, DEFAULT_POOL),
                gpus=self.gpus.get(name, 0),
            )
            for name, table in self.processes.items()
            if name not in self.silent
        )
        return Snapshot(
            endpoints=tuple(self.endpoints.values()),
            revisions=tuple(self.revisions.values()),
            assignments=tuple(self.assignments.values()),
            nodes=nodes,
            targets={
                each.key: None if each.resource.spec.backends else version(self.models[each.name])
                for each in self.endpoints.values()
            },
            start_failures=self.start_failures,
            asked=self.asked,
            acts=self.acts,
            rollouts=tuple({each.endpoint: each for each in self.rollouts}.values()),
            orders=dict(self.orders),
            words={number: f"{said} by a test" for number, said in self.orders.items() if said in ("approve", "deny")},
            readings=self.readings,
            posted=self.posted,
            rates=self.rates,
            dossiers=self.dossiers,
            scaled=self.scaled,
            spent=self.spent,
        )

    def turn(self, *, checks: tuple[Check, ...] = (), effects: bool = True) -> Plan:
        """Decide and apply. Without effects the rows are written and the agents never hear: control was killed."""
        self.now_s += 0.01
        snapshot = self.snapshot()
        plan = reconcile.plan(snapshot, self.now_s)
        for check in checks:
            check(snapshot, plan, self)
        for action in plan.actions:
            self._write(action)
        for key, status in plan.statuses:
            if key[1] in self.endpoints:
                self.endpoints[key[1]] = msgspec.structs.replace(self.endpoints[key[1]], status=status)
        if effects:
            for action in plan.actions:
                self._effect(action)
        return plan

    def settle(self, turns: int = 60) -> int:
        """Turn, let agents work and let time pass until nothing is left to do; return how many turns it took."""
        for taken in range(turns):
            plan = self.turn()
            if plan.is_empty and (plan.again_s or FAR_S) >= FAR_S and self._is_quiet():
                return taken
            self.work()
            self.now_s += 1.0
        raise AssertionError(f"not settled after {turns} turns: {plan}")

    def status(self, name: str) -> EndpointStatus:
        return self.endpoints[name].status

    def replicas(self, revision: str) -> list[str]:
        return sorted(each.replica for each in self.assignments.values() if each.revision == revision)

    def _is_quiet(self) -> bool:
        return all(
            process.phase == "ready" or (process.phase != "stopping" and self._model_of(process.name) in self.broken)
            for table in self.processes.values()
            for process in table.values()
        )

    def _write(self, action: actions.Action) -> None:
        match action:
            case actions.CreateRevision():
                self.revisions[action.revision] = Revision(
                    action.revision,
                    action.project,
                    action.endpoint,
                    action.number,
                    action.digest,
                    action.config,
                    self.now_s,
                )
                self._change(action.endpoint, last_number=action.number)
            case actions.StartReplica(is_new=True):
                self.assignments[action.replica] = Assignment(
                    action.replica,
                    action.revision,
                    action.project,
                    action.endpoint,
                    action.node,
                    "wanted",
                    self.now_s,
                    self.now_s,
                    action.gpus,
                )
                made = self.revisions[action.revision]
                self.revisions[action.revision] = msgspec.structs.replace(made, replicas_made=made.replicas_made + 1)
            case actions.SetServing():
                self._change(action.endpoint, serving=action.revision)
            case actions.DrainReplica():
                self._phase(action.replica, "draining")
            case actions.StopReplica():
                self._phase(action.replica, "stopping")
            case actions.ForgetReplica():
                del self.assignments[action.replica]
            case actions.ForgetRevision():
                del self.revisions[action.revision]
            case actions.BeginRollout():
                self.rollouts.append(msgspec.structs.replace(action.state, number=len(self.rollouts) + 1))
                self.timeline.extend(action.entries)
            case actions.ChangeRollout():
                self.rollouts[action.state.number - 1] = action.state
                self.orders.pop(action.state.number, None)
                self.timeline.extend(action.entries)
            case actions.RemoveEndpoint():
                del self.endpoints[action.endpoint]
                self.revisions = {k: v for k, v in self.revisions.items() if v.endpoint != action.endpoint}

    def _effect(self, action: actions.Action) -> None:
        match action:
            case actions.StartReplica() if action.node not in self.silent:
                self.processes[action.node].setdefault(
                    action.replica, ProcessStatus(name=action.replica, kind="replica", phase="starting")
                )
            case actions.StopReplica() | actions.StopStray() if action.node not in self.silent:
                process = self.processes[action.node].get(action.replica)
                if process is not None:
                    self.processes[action.node][action.replica] = msgspec.structs.replace(process, phase="stopping")

    def _phase(self, replica: str, phase: Any) -> None:
        old = self.assignments[replica]
        if old.phase != phase:
            self.assignments[replica] = msgspec.structs.replace(old, phase=phase, since_s=self.now_s)

    def _change(self, name: str, **fields: Any) -> None:
        self.endpoints[name] = msgspec.structs.replace(self.endpoints[name], **fields)


def _more(arm: ArmCounts, total: int, failed: int, unjudged: int = 0) -> ArmCounts:
    latencies = {**arm.latencies, 0: arm.latencies.get(0, 0) + total - failed}
    bad = {"error": arm.bad.get("error", 0) + failed}
    return ArmCounts(arm.total + total, bad, latencies, arm.unjudged + unjudged)


_NAMES = st.sampled_from(("a", "a", "b"))
_APPLY = st.tuples(
    st.just("apply"), _NAMES, st.integers(1, 3), st.sampled_from((1, 2, 3, 0)), st.sampled_from((0.5, 1.0, 1.5))
)
# A round is the ordinary case: control and agents both get on with it.
_ROUND = st.tuples(st.just("round"), st.integers(1, 4))
OPERATIONS = st.one_of(
    _ROUND,
    _APPLY,
    st.tuples(st.just("turn"), st.booleans()),
    _ROUND,
    st.tuples(st.just("work"), st.integers(0, 2)),
    st.tuples(st.just("crash"), st.integers(0, 9)),
    _APPLY,
    st.tuples(st.just("wait"), st.sampled_from((0.3, 1.0, 5.0))),
    st.tuples(st.just("lose"), st.integers(0, 9)),
    st.tuples(st.just("silence"), st.integers(0, 1)),
    st.tuples(st.just("speak"), st.integers(0, 1)),
    st.tuples(st.just("break"), st.integers(1, 3)),
    st.tuples(st.just("fix"), st.integers(1, 3)),
    st.tuples(st.just("delete"), _NAMES),
    st.tuples(st.just("ask"), _NAMES, st.sampled_from(("scale-up", "shed-sheddable"))),
    st.tuples(st.just("ask"), _NAMES),
    st.tuples(st.just("unwatch")),
    st.tuples(st.just("scale"), _NAMES, st.integers(0, 4)),
    st.tuples(st.just("blind")),
)
SCRIPTS = st.lists(OPERATIONS, min_size=5, max_size=40).map(
    lambda rest: [("apply", "a", 1, 2, 1.0), ("round", 4), *rest]
)


HELD_MODEL = 3  # the version that somebody must approve
HELD = (Hook("https://ci.example/approve", holds=True, within="10m"),)
STRATEGIES = ("canary", "blue-green", "shadow", "a-b", "recreate", "direct")
_RELEASE = st.tuples(
    st.just("release"), st.just("a"), st.integers(1, 3), st.integers(1, 3), st.sampled_from(STRATEGIES)
)
_COUNT = st.tuples(
    st.just("count"),
    st.sampled_from(((40, 0), (40, 1), (40, 40), (0, 0))),
    st.sampled_from(((200, 2), (200, 0), (0, 0), (200, 150))),
    st.sampled_from(("g0", "g1")),
)
RELEASES = st.lists(
    st.one_of(
        _ROUND,
        _RELEASE,
        _COUNT,
        _ROUND,
        _COUNT,
        st.tuples(st.just("order"), st.sampled_from(ORDERS)),
        st.tuples(st.just("turn"), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from((1.0, 61.0, 700.0, 2000.0))),
        st.tuples(st.just("crash"), st.integers(0, 9)),
        st.tuples(st.just("lose"), st.integers(0, 9)),
        st.tuples(st.just("silence"), st.integers(0, 1)),
        st.tuples(st.just("speak"), st.integers(0, 1)),
        st.tuples(st.just("break"), st.integers(2, 3)),
        st.tuples(st.just("fix"), st.integers(1, 3)),
        st.tuples(st.just("gate"), st.sampled_from(("pending", "swaps", "complete", "refused"))),
        st.tuples(st.just("restart")),
        st.tuples(st.just("scale"), st.just("a"), st.integers(1, 4)),
        st.tuples(st.just("delete"), st.just("a")),
    ),
    min_size=5,
    max_size=50,
).map(lambda rest: [("release", "a", 1, 2, "direct"), ("round", 4), ("release", "a", 2, 2, "canary"), *rest])


def play(script: list[tuple[Any, ...]], *checks: Check, cores: tuple[float, ...] = (3.0, 2.0)) -> World:
    """Play a script; every turn goes through `checks`."""
    world = World(cores)
    for operation, *arguments in script:
        match operation:
            case "apply":
                world.apply(*arguments)
            case "round":
                for _ in range(arguments[0]):
                    world.turn(checks=checks)
                    world.work()
                    world.now_s += 0.6
            case "delete":
                world.delete(*arguments)
            case "work":
                world.work(*arguments)
            case "crash":
                world.crash(*arguments)
            case "lose":
                world.lose(*arguments)
            case "turn":
                world.turn(checks=checks, effects=arguments[0])
            case "wait":
                world.now_s += arguments[0]
            case "ask":
                world.ask(*arguments)
            case "unwatch":
                world.asked = None
            case "scale":
                world.scale(*arguments)
            case "blind":
                world.scaled = None
            case "silence":
                world.silent.add(f"n{arguments[0]}")
            case "speak":
                world.silent.discard(f"n{arguments[0]}")
            case "release":
                name, model, replicas, strategy = arguments
                world.apply(
                    name,
                    model,
                    replicas,
                    rollout=Rollout(
                        strategy=strategy,
                        requests_min=50,
                        dwell="60s",
                        unavailable_max=model - 1,
                        hooks=HELD if model == HELD_MODEL else (),
                    ),
                )
            case "count":
                world.count(*arguments)
            case "order":
                world.order(*arguments)
            case "gate":
                found = DossierState(arguments[0], "a test")
                if arguments[0] == "swaps":
                    found = DossierState("pending", "a test", swaps=True)
                world.dossiers = dict.fromkeys(("default.a-2", "default.a-3"), found)
            case "restart":
                world.reload()
            case "break":
                world.broken.add(arguments[0])
            case "fix":
                world.broken.discard(arguments[0])
    return world
