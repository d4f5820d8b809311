"""An endpoint whose one replica got slow, as a control sees it: its database, its history, its nodes, a clock.

As a program (`python -m tests.control.remedy_scene FOLDER MOMENT`) it decides what is to be done and is killed by
SIGKILL: `before` the transaction is committed, or `after` it and before anything was made true.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
from sqlalchemy import event

from stoker.control import loop
from stoker.control.observe import as_node
from stoker.control.remedies import ROUND_S, Remedies
from stoker.core.reconcile import Plan
from stoker.core.secrets import Rules
from stoker.core.snapshot import Snapshot
from stoker.gateway.meters import Meters
from stoker.observe.history.accounts import Answer
from stoker.observe.history.history import History
from stoker.observe.incidents.evidence import Recorded
from stoker.observe.incidents.incidents import Incidents
from stoker.store import endpoints, incidents, journal, leases, models, projects, revisions
from stoker.store.engine import Connection, Database, open_engine, sqlite_url
from stoker.store.versions import Versions
from stoker.telemetry.metrics import Registry
from stoker.types.ids import ModelName
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.remedies import Act, ActKind, Remedy
from stoker.types.resources import Replicas
from stoker.types.statuses import EndpointStatus
from stoker.types.tuning import Tuning
from tests.databases import migrated
from tests.store.rows import assignment, endpoint, manifest, project, revision

START_S = 1_000_000 * 60.0
BAD, GOOD = "default.a-1-aaaaa", "default.a-1-bbbbb"


class Scene:
    """Everything of it. `acts` is what the newest incident did."""

    def __init__(self, folder: Path, now_s: float = START_S) -> None:
        self.now_s = now_s
        path = folder / "state.db"
        engine = open_engine(sqlite_url(path)) if path.exists() else migrated(path)
        self.database = Database(engine)
        self.history = History(folder / "metrics.db", clock=lambda: self.now_s)
        self.metrics = Registry("control")
        self.gateway = Registry("gateway-0")
        evidence = Recorded(self.database, self.history)
        self.lease = self.database.write(lambda each: leases.acquire(each, "control", f"{os.getpid()}", self.now_s))
        self.incidents = Incidents(
            self.database, evidence, evidence.quarantined, lambda: self.lease, clock=lambda: self.now_s
        )
        self.woken = 0
        self.started: dict[str, float] = {}  # when a process was started, of those that were so lately
        self.serving = "default.a-1"
        self.remedies = Remedies(
            self.database, self.incidents, self.nodes, self.metrics, self._wake, clock=lambda: self.now_s
        )

    def _wake(self) -> None:
        self.woken += 1

    def nodes(self) -> list[NodeStatus]:
        names = (str(each.replica) for each in self.database.read(revisions.assignments))
        processes = tuple(
            ProcessStatus(name, "replica", "ready", started_at_s=self.started.get(name, 1.0)) for name in names
        )
        return [NodeStatus("local", 1, 8.0, 8 << 30, 4 << 30, processes)]

    def make(self, *allowed: ActKind, serving: int = 1) -> None:
        """Store two revisions, of which one serves with two replicas."""
        self.serving = f"default.a-{serving}"

        def write(connection: Connection) -> None:
            projects.put(connection, project(), 1.0)
            versions = [models.add(connection, ModelName("m"), manifest(number), 1.0)[0] for number in (1, 2)]
            wanted = endpoint("a", f"m@{serving}")
            spec = msgspec.structs.replace(
                wanted.spec,
                remedies=tuple(Remedy(kind) for kind in allowed),
                replicas=Replicas(min=2, max=3),
            )
            endpoints.put(connection, msgspec.structs.replace(wanted, spec=spec), 0, 1.0)
            for number, version in enumerate(versions, 1):
                revisions.add(connection, revision(version, number=number))
            for suffix in ("aaaaa", "bbbbb"):
                revisions.assign(connection, assignment(revision(versions[serving - 1], number=serving), suffix))
            endpoints.set_serving(connection, "default", "a", self.serving)
            endpoints.set_last_number(connection, "default", "a", 2)
            endpoints.set_status(connection, "default", "a", EndpointStatus(revision=self.serving))

        self.database.write(write)

    async def minute(self, *, slow: float = 1.0, others: float = 1.0, requests: int = 30) -> None:
        """Let a minute pass in which one replica takes `slow` times as long as usual, the other `others` times."""
        meters = Meters(self.gateway, "default", "a")
        of = meters.revision(self.serving, "a")
        labels = {"project": "default", "endpoint": "a", "revision": self.serving}
        for replica, times in ((BAD, slow), (GOOD, others)):
            on = meters.replica(self.serving, replica)
            for _ in range(requests):
                of.code(200).add()
                of.duration.observe(0.1 * times)
                on.ended(200, 0.1 * times)
                self.gateway.histogram("stoker_request_phase_seconds", phase="compute", **labels).observe(0.1 * times)
        meters.turn(self.now_s)
        self.now_s += 60.0
        await self.sample()

    async def sample(self) -> None:
        await self.history.observe([Answer("gateway-0", "boot", self.gateway.snapshot())])

    async def got_slow(self, others: float = 1.0) -> None:
        """Let one replica be slow, after ten good minutes, and open the incident."""
        await self.sample()
        for _ in range(10):
            await self.minute()
        for _ in range(3):
            await self.minute(slow=20.0, others=others)
        await self.incidents.open("default", "a", "SLO latency burns")

    async def rounds(self, count: int = 2) -> None:
        for _ in range(count):
            await self.remedies.look()
            self.now_s += ROUND_S

    @property
    def acts(self) -> tuple[Act, ...]:
        (found,) = self.database.read(lambda each: incidents.newest(each, 1))
        return found.acts

    def journaled(self, *names: str) -> list[str]:
        done = self.database.read(lambda each: journal.last(each, 100, "default", "a"))
        return [entry.action for entry in reversed(done) if entry.action in names]

    def turn(self) -> Plan:
        """Have the loop decide and store once, with what is in force."""
        nodes = tuple(as_node(status, self.now_s) for status in self.nodes())
        seen = Snapshot(nodes=nodes, asked={}, acts=self.remedies.in_force())
        rules, versions = Rules("", ""), Versions()
        return self.database.write(
            lambda each: loop.decide(
                each, seen, lambda name: f"unix:/{name}", self.now_s, {}, versions, rules, Tuning()
            )
        ).plan


def play(scene: Scene, scenario: Callable[[Scene], Coroutine[None, None, None]]) -> None:
    async def whole() -> None:
        await scene.history.start()
        try:
            await scenario(scene)
        finally:
            await scene.history.close()
            scene.database.close()

    asyncio.run(whole())


async def _die(scene: Scene, moment: str) -> None:
    scene.make("restart")
    await scene.got_slow()
    await scene.remedies.look()
    scene.now_s += ROUND_S
    if moment == "before":

        def kill(connection: Connection) -> None:
            if any(act.is_in_force for one in incidents.newest(connection, 1) for act in one.acts):
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(scene.database.engine, "commit", kill)
    await scene.remedies.look()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    play(Scene(Path(sys.argv[1])), lambda scene: _die(scene, sys.argv[2]))
