"""The watch with a real database and a real receiver: what it decides is stored before it is told, and survives."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from stoker.client.views import Chart, Line
from stoker.control import specs
from stoker.core.alerts import Silence
from stoker.core.slo import SloMemory
from stoker.observe.notify.post import Post
from stoker.observe.objectives import slis
from stoker.observe.objectives.watch import Watch
from stoker.store import alerts, endpoints, journal, leases, notifiers, projects
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.store.leases import Lease
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.metrics import Registry
from stoker.types.errors import InvalidInput, NotFound, Unavailable
from stoker.types.notifiers import NotifierSpec
from stoker.types.resources import Endpoint, EndpointSpec, Metadata, Notifier, Project, ProjectMetadata
from stoker.types.slos import TIMED, BudgetStep, Objective, Sli
from tests.control.rig import until
from tests.databases import migrated
from tests.observe.named import resolve
from tests.observe.receivers import Webhook
from tests.observe.sums import Sums

ROOT = Path(__file__).parents[2]
QUICK = Objective(name="quick", sli="latency", under="300ms", target=0.99)
YOUNG = Objective(name="young", sli="freshness", under="1h", target=0.9)
ANSWERS = Objective(name="answers", target=0.999, owner="ada", policy=(BudgetStep("freeze-rollouts"),))


class Desk:
    """A watch that the test makes look."""

    def __init__(self, database: Database, webhook: Webhook, sums: Sums) -> None:
        self.database = database
        self.now_s = 1_790_000_000.0
        self.lease: Lease | None = database.write(lambda connection: leases.acquire(connection, "control", "me", 1.0))
        self.sums = sums
        self.post = Post(Registry("control"), "http://control", resolve, lambda: self.now_s)
        self.watch = self.new()

    def new(self) -> Watch:
        async def never() -> None:
            await asyncio.Event().wait()

        return Watch(
            self.database, self.sums, self.post, lambda: self.lease, Registry("control"), never, lambda: self.now_s
        )

    async def look(self, after_s: float = 5.0) -> None:
        self.now_s += after_s
        await self.watch.look()


def filled(path: Path, url: str) -> Database:
    """Make a database with an endpoint that promises three things, and a receiver."""
    database = Database(migrated(path))
    endpoint = Endpoint(Metadata("digits"), EndpointSpec(model="digits", slos=(ANSWERS, QUICK, YOUNG)))
    quiet = Endpoint(Metadata("plain"), EndpointSpec(model="digits"))
    database.write(lambda connection: projects.put(connection, Project(ProjectMetadata("default")), 1.0))
    for each in (endpoint, quiet):
        database.write(lambda connection, each=each: endpoints.put(connection, each, 0, 1.0))  # type: ignore[misc]
    phone = Notifier(Metadata("phone"), NotifierSpec("webhook", url=url))
    database.write(lambda connection: notifiers.put(connection, phone, 1.0))
    return database


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.close()


@pytest.fixture
def database(tmp_path: Path, webhook: Webhook) -> Iterator[Database]:
    made = filled(tmp_path / "state.db", webhook.url)
    yield made
    made.close()


def test_an_objective_that_burns_is_told_stored_and_shown_and_its_end_too(database: Database, webhook: Webhook) -> None:
    async def work() -> None:
        desk = Desk(database, webhook, Sums(first_attempts_total=1.0, request_duration_seconds=1.0))
        await desk.look()
        await asyncio.to_thread(until, lambda: webhook.posts, "the webhook hears")
        states = {each.labels["slo"]: each.state for each in desk.watch.memory.alerts.values()}
        assert states == {"answers": "firing", "quick": "silenced"}
        assert database.read(alerts.load).alerts == desk.watch.memory
        await desk.look()
        assert desk.watch.memory.outbox == ()
        desk.sums.bad_ratio = dict.fromkeys(desk.sums.bad_ratio, 0.5)
        await desk.look()
        said = {each.labels["slo"]: each.because for each in desk.watch.seen()}
        now = {each.objective.name: each.decision.because for each in desk.watch.standings}
        assert said == {name: now[name] for name in ("answers", "quick")}
        assert said != {each.labels["slo"]: each.because for each in desk.watch.memory.alerts.values()}
        desk.sums.bad_ratio = {}
        for _ in range(4):
            await desk.look(61.0)
        for _ in range(3):
            await desk.look(400.0)
        await asyncio.to_thread(until, lambda: len(webhook.posts) >= 2, "the webhook hears of the end")
        await desk.look()
        assert {each.state for each in desk.watch.memory.alerts.values()} == {"resolved"}
        await desk.post.close()

    asyncio.run(work())
    first, *_, last = webhook.posts
    assert first.json["alerts"][0]["labels"]["owner"] == "ada"
    assert [first.json["status"], last.json["status"]] == ["firing", "resolved"]
    actions = [entry.action for entry in database.read(lambda connection: journal.last(connection, 100))]
    assert {"AlertFiring", "AlertSilenced", "AlertResolved"} <= set(actions)


def test_an_endpoint_without_promises_is_only_tracked(database: Database, webhook: Webhook) -> None:
    async def work() -> None:
        desk = Desk(database, webhook, Sums(first_attempts_total=1.0))
        await desk.look()
        shown = {(each.endpoint, each.objective.name): each.decision for each in desk.watch.standings}
        tracked = shown["plain", "availability"]
        assert tracked.budget_left < 0
        assert tracked.severity == "none"
        answers = shown["digits", "answers"]
        assert [due.move for due in answers.due] == ["freeze-rollouts"]
        await desk.post.close()

    asyncio.run(work())


def test_long_windows_are_asked_once_a_minute_and_short_ones_at_every_look(
    database: Database, webhook: Webhook
) -> None:
    async def work() -> None:
        desk = Desk(database, webhook, Sums())
        for _ in range(13):
            await desk.look()
        await desk.post.close()
        first, *rest = [max(windows) for _, windows in desk.sums.asked]
        assert first == 30 * 86_400.0
        assert rest[:11] == [300.0] * 11
        assert all(5.0 * number in desk.sums.asked[number][1] for number in range(1, 12))  # what happened since
        long_ones = sum(longest == 30 * 86_400.0 for longest in rest)
        assert 1 <= long_ones <= 3  # three sources, a few at each look

    asyncio.run(work())


def test_only_the_holder_of_the_lease_looks_and_a_lost_one_writes_nothing(database: Database, webhook: Webhook) -> None:
    async def work() -> None:
        desk = Desk(database, webhook, Sums(first_attempts_total=1.0))
        held, desk.lease = desk.lease, None
        await desk.look()
        with pytest.raises(Unavailable):
            await desk.watch.silence(Silence("1", {"slo": "answers"}, 2e9))
        desk.lease = held
        database.write(lambda connection: leases.break_lease(connection, "control"))
        database.write(lambda connection: leases.acquire(connection, "control", "another", 1e9))
        with pytest.raises(leases.LeaseLost):
            await desk.look()
        assert database.read(alerts.load).alerts.alerts == {}
        await desk.post.close()

    asyncio.run(work())
    assert webhook.posts == []


def test_a_person_takes_and_silences_and_it_is_kept_before_it_is_answered(database: Database, webhook: Webhook) -> None:
    async def work() -> None:
        desk = Desk(database, webhook, Sums(first_attempts_total=1.0))
        await desk.look()
        (key,) = [each.id for each in desk.watch.memory.alerts.values()]
        assert (await desk.watch.acknowledge(key, "ada")).state == "acknowledged"
        await desk.watch.silence(Silence("1", {"slo": "quick"}, desk.now_s + 60, "ada"))
        stored = database.read(alerts.load).alerts
        assert stored.alerts[key].acknowledged_by == "ada"
        assert stored.silences.keys() == {"1"}
        with pytest.raises(NotFound):
            await desk.watch.acknowledge("nothing", "ada")
        with pytest.raises(InvalidInput):
            await desk.watch.silence(Silence("2", {}, 2e9))
        await desk.watch.unsilence("1")
        with pytest.raises(NotFound):
            await desk.watch.unsilence("1")
        desk.watch = desk.new()  # another process
        await desk.look()
        assert desk.watch.memory.alerts[key].state == "acknowledged"
        await desk.post.close()

    asyncio.run(work())


def test_a_watch_that_is_killed_before_anybody_heard_tells_it_when_it_is_back_and_goes_on_with_the_same_alert(
    tmp_path: Path, webhook: Webhook
) -> None:
    filled(tmp_path / "state.db", webhook.url).close()
    webhook.answers = [503] * 100
    command = [sys.executable, "-m", "tests.observe.watch_alone", str(tmp_path / "state.db")]
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        until(lambda: webhook.posts, "the webhook is asked, and fails")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    database = Database(open_engine(sqlite_url(tmp_path / "state.db")))
    before = database.read(alerts.load)
    assert len(before.alerts.outbox) == 1
    assert before.slos["default/digits/answers"] != SloMemory()
    webhook.answers = []
    tries = len(webhook.posts)
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        until(lambda: len(webhook.posts) > tries, "the webhook hears")
        until(lambda: database.read(alerts.load).alerts.outbox == (), "it is noted as delivered")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    first, last = webhook.posts[0].json, webhook.posts[-1].json
    assert first == last
    after = database.read(alerts.load)
    assert {each.began_s for each in after.alerts.alerts.values()} == {
        each.began_s for each in before.alerts.alerts.values()
    }
    database.close()


def test_a_receiver_that_needs_apprise_is_refused_where_that_is_not_installed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # as if it were not
    pager = Notifier(Metadata("pager"), NotifierSpec("apprise", url_from="env:WHERE"))
    with pytest.raises(specs.Refusal, match=r"spec.type: .*stoker\[apprise\]"):
        database.write(lambda connection: specs.apply(connection, [pager], 1.0))
    assert [each.metadata.name for each in database.read(notifiers.everything)] == ["phone"]


def test_every_kind_of_objective_is_counted_somewhere() -> None:
    for sli in get_args(Sli):
        limits = {
            "under": "1s" if sli in TIMED else None,
            "at_most": 0.2 if sli == "drift" else None,
            "at_least": 0.5 if sli in ("quality", "business") else None,
            "metric": "revenue" if sli == "business" else None,
        }
        found = slis.source("default", "a", Objective(name="a", target=0.9, sli=sli, **limits), {"a-1": 1.0}, 1e9)
        assert {found.total.metric, *(each.metric for each in found.parts)} <= BY_NAME.keys()
        assert found.parts


class Told(Sums):
    """A history that says what a test has it say of open breakers, or fails."""

    def __init__(self, *states: float | None) -> None:
        super().__init__()
        self.states = list(states)  # one a question, None: it fails

    async def query(self, text: str, *, end_s: float | None = None) -> Chart:
        if "breaker" not in text:
            return await super().query(text, end_s=end_s)
        state = self.states.pop(0)
        if state is None:
            raise Unavailable("the history cannot be read")
        labels = {"project": "default", "endpoint": "plain"}
        return Chart([end_s or 0.0], [Line(labels, [state])] if state else [])


@pytest.mark.parametrize("first", [None, 0.0], ids=["the first question fails", "nothing was heard of it yet"])
def test_an_alarm_goes_on_over_a_restart_until_the_history_can_say_that_it_is_over(
    database: Database, webhook: Webhook, first: float | None
) -> None:
    async def main() -> None:
        desk = Desk(database, webhook, Told(2.0, 2.0, 2.0, first, 2.0, 0.0))

        def breaker() -> tuple[str, float]:
            (one,) = (each for each in desk.watch.memory.alerts.values() if each.labels["alertname"] == "BreakerOpen")
            return one.state, one.began_s

        for _ in range(3):
            await desk.look(30.0)
        firing = breaker()
        assert firing[0] == "firing"
        desk.watch = desk.new()  # control starts again
        for _ in range(2):
            await desk.look(30.0)
            assert breaker() == firing
        await desk.look(30.0)
        assert breaker()[0] == "resolved"

    asyncio.run(main())


def test_an_alarm_that_was_over_while_nobody_looked_ends_with_the_second_answer(
    database: Database, webhook: Webhook
) -> None:
    async def main() -> None:
        desk = Desk(database, webhook, Told(2.0, 2.0, 2.0, 0.0, 0.0))
        for _ in range(3):
            await desk.look(30.0)
        desk.watch = desk.new()
        for state in ("firing", "resolved"):
            await desk.look(30.0)
            assert [
                each.state for each in desk.watch.memory.alerts.values() if each.labels["alertname"] == "BreakerOpen"
            ] == [state]

    asyncio.run(main())
