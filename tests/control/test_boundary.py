"""Duties are looked at where they can be seen, said in a condition that others' words do not disturb, and only once."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stoker.control import boundary as control_boundary
from stoker.control.boundary import RUNBOOKS_S, BoundaryWatch, Sources
from stoker.control.observe import Observer
from stoker.core import conditions
from stoker.core.slo import SloDecision, SloMemory
from stoker.observe.objectives.judge import Standing
from stoker.placement.local import LocalDriver
from stoker.store import endpoints, leases, notifiers, projects
from stoker.store.engine import Database
from stoker.store.leases import Lease, LeaseLost
from stoker.types.boundary import Boundary
from stoker.types.errors import NotFound
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.notifiers import NotifierSpec
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.resources import Endpoint, EndpointSpec, Metadata, Notifier, Project, ProjectMetadata
from stoker.types.slos import Objective
from stoker.types.statuses import Condition, EndpointStatus
from tests.databases import migrated

NOW = 1_800_000_000.0
KEY = (ProjectName("default"), EndpointName("a"))
ANSWERS = Objective(name="answers", target=0.999)
BURNS_NOT = SloDecision("none", "", None, 1.0, 0.0, None, (), (), SloMemory())
READY = Condition("Ready", True, "ReplicasReady", "all are ready", 1.0)


class Pages:
    """A server of runbooks: /there can be read, all else cannot. `asked` has the paths of its requests."""

    def __init__(self) -> None:
        pages = self
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pages.asked.append(self.path)
                self.send_response(200 if self.path == "/there" else 404)
                self.end_headers()

            def log_message(self, *_words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"


class Node(LocalDriver):
    """A node with one gateway of the two there should be."""

    def __init__(self) -> None:
        super().__init__("/nowhere")

    async def observe(self) -> tuple[NodeStatus, ...]:
        processes = (ProcessStatus("gateway-0", "gateway", "ready"), ProcessStatus("gateway-1", "gateway", "backoff"))
        return (NodeStatus("local", 1, 8.0, 8 << 30, 4 << 30, processes),)


class Scene:
    """A database with an endpoint, and a watch that the test makes look."""

    def __init__(self, path: Path, runbook: str) -> None:
        engine = migrated(path)
        self.database = Database(engine)
        self.now_s = NOW
        self.written_s: float | None = NOW - 10
        self.backed_up_s: float | None = None
        self.lease: Lease | None = self.database.write(lambda each: leases.acquire(each, "control", "me", NOW))
        given = Endpoint(Metadata("a", labels={"runbook": runbook}), EndpointSpec(model="m", slos=(ANSWERS,)))
        self.database.write(lambda each: projects.put(each, Project(ProjectMetadata("default")), NOW))
        self.database.write(lambda each: endpoints.put(each, given, 0, NOW))
        self.database.write(lambda each: endpoints.set_status(each, *KEY, EndpointStatus(conditions=(READY,))))
        self.observer = Observer(Node())
        standing = Standing("default", "a", ANSWERS, BURNS_NOT)
        sources = Sources(
            self.observer, lambda: [standing], lambda _: None, lambda: self.written_s, lambda: self.backed_up_s, 2
        )
        self.watch = BoundaryWatch(self.database, sources, lambda: self.lease, lambda: self.now_s)

    async def look(self, after_s: float = 60.0) -> Condition | None:
        self.now_s += after_s
        await self.observer.look()
        await self.watch.look()
        state = self.database.read(lambda each: endpoints.get(each, *KEY))
        return conditions.find(state.status.conditions, conditions.BOUNDARY)

    async def seen(self, name: str) -> tuple[str, str]:
        found: Boundary = await self.watch.view("default", "a")
        return next((each.standing, each.because) for each in found.duties if each.name == name)


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def scene(tmp_path: Path, pages: Pages) -> Iterator[Scene]:
    made = Scene(tmp_path / "state.db", pages.address("/there"))
    yield made
    made.database.close()


def test_what_is_not_kept_is_a_condition_beside_the_others_until_it_is(scene: Scene) -> None:
    async def work() -> None:
        said = await scene.look()
        assert said is not None
        assert (said.status, said.reason) == (False, "Gateways")
        assert "1 of 2 gateways answer; no receiver hears its pages" in said.message
        state = scene.database.read(lambda each: endpoints.get(each, *KEY))
        assert conditions.find(state.status.conditions, "Ready") == READY
        again = await scene.look()
        assert again is not None
        assert again.since_s == said.since_s

    asyncio.run(work())


def test_who_hears_only_some_pages_is_no_route(scene: Scene) -> None:
    def tell(name: str, **spec: object) -> None:
        made = Notifier(Metadata(name), NotifierSpec("webhook", url="http://x", **spec))  # type: ignore[arg-type]
        scene.database.write(lambda each: notifiers.put(each, made, NOW))

    async def work() -> None:
        tell("only-slow", match={"sli": "latency"})
        tell("other", match={"endpoint": "b"})
        assert (await scene.seen("alert-route"))[0] == "fails"
        tell("pager", match={"endpoint": "a"}, min_severity="page")
        assert await scene.seen("alert-route") == ("holds", "told: pager")

    asyncio.run(work())


def test_runbooks_are_asked_for_now_and_then_and_named_when_they_are_gone(scene: Scene, pages: Pages) -> None:
    async def work() -> None:
        assert (await scene.seen("runbook"))[0] == "unknown"
        await scene.look()
        await scene.look()
        assert await scene.seen("runbook") == ("holds", f"{pages.address('/there')} can be read")
        assert pages.asked == ["/there"]
        gone = pages.address("/gone")
        given = Endpoint(Metadata("a", labels={"runbook": gone}), EndpointSpec(model="m", slos=(ANSWERS,)))
        scene.database.write(lambda each: endpoints.put(each, given, 0, NOW))
        await scene.look()
        assert await scene.seen("runbook") == ("fails", f"{gone}: it answers 404")
        await scene.look(RUNBOOKS_S)
        assert pages.asked == ["/there", "/gone", "/gone"]

    asyncio.run(work())


def test_many_runbooks_are_asked_for_in_turns_and_one_whose_server_is_gone_says_so(
    scene: Scene, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_boundary, "ASKED_MAX", 1)
    gone = Endpoint(Metadata("b", labels={"runbook": "http://127.0.0.1:9/"}), EndpointSpec(model="m"))
    scene.database.write(lambda each: endpoints.put(each, gone, 0, NOW))

    async def work() -> None:
        await scene.look()
        assert pages.asked == ["/there"]
        seen = await scene.watch.view("default", "b")
        assert next(each.standing for each in seen.duties if each.name == "runbook") == "unknown"
        await scene.look()
        assert pages.asked == ["/there"]  # the other one's turn
        (said,) = [each for each in (await scene.watch.view("default", "b")).duties if each.name == "runbook"]
        assert said.standing == "fails"
        assert said.because.startswith("http://127.0.0.1:9/: it cannot be told")

    asyncio.run(work())


def test_a_platform_that_was_not_backed_up_for_long_says_so(scene: Scene) -> None:
    async def work() -> None:
        assert (await scene.seen("backup"))[0] == "unknown"
        scene.backed_up_s = NOW
        assert (await scene.seen("backup"))[0] == "holds"
        scene.now_s += 10 * 86_400.0
        assert await scene.seen("backup") == ("fails", "the last backup was made 10 days ago")

    asyncio.run(work())


def test_numbers_that_are_not_written_any_more_are_seen(scene: Scene) -> None:
    async def work() -> None:
        assert (await scene.seen("history"))[0] == "holds"
        scene.now_s += 3600.0
        assert await scene.seen("history") == ("fails", "written 3610 s ago")
        scene.written_s = None
        assert (await scene.seen("history"))[0] == "unknown"

    asyncio.run(work())


def test_who_does_not_act_looks_at_nothing_and_who_lost_the_lease_writes_nothing(scene: Scene) -> None:
    async def work() -> None:
        lease, scene.lease = scene.lease, None
        assert await scene.look() is None
        scene.lease = lease
        scene.database.write(lambda each: leases.break_lease(each, "control"))
        scene.database.write(lambda each: leases.acquire(each, "control", "another", scene.now_s))
        with pytest.raises(LeaseLost):
            await scene.look()

    asyncio.run(work())


def test_an_endpoint_that_is_not_there_has_no_boundary(scene: Scene) -> None:
    with pytest.raises(NotFound):
        asyncio.run(scene.watch.view("default", "b"))
