"""Hooks of rollouts with a real receiver that fails, hangs and dies, and a real control that is killed between."""

import asyncio
import base64
import hmac
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.client.releases import ReleaseClient
from stoker.client.rollouts import RolloutClient, RolloutDetail
from stoker.control.hooks import HookPost
from stoker.core import conditions
from stoker.core.rollout import untold
from stoker.core.rollout.state import Entry
from stoker.observe.notify import delivery, http
from stoker.store import endpoints, leases, outbox, projects, rollouts
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry
from stoker.types.errors import NotFound, SecretUnavailable
from stoker.types.ids import ProjectName
from stoker.types.resources import Endpoint, EndpointSpec, Metadata, Project, ProjectMetadata
from stoker.types.rollouts import Hook, Rollout
from stoker.types.statuses import Condition, EndpointStatus
from tests.cli.run import stoker_here
from tests.control.rig import WAIT_S, Rig, endpoint, infer, is_served, python_model, until
from tests.databases import migrated
from tests.observe.receivers import Webhook, tarpit
from tests.store.test_rollouts import state

SECRET = b"a secret that is long enough"


async def named(project: str, reference: str) -> str:
    """Return what a reference names, of files, for any project."""
    try:
        return Path(reference.removeprefix("file:")).read_text()
    except OSError as missing:
        raise SecretUnavailable(str(missing)) from missing


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = migrated(tmp_path / "state.db")
    database = Database(engine)
    yield database
    database.close()


def happens(database: Database, *hooks: Hook, events: tuple[str, ...] = ("began", "ready", "kept")) -> None:
    """Have a rollout with `hooks` go through `events`."""

    def work(connection: Connection) -> None:
        entries = [Entry(2e9 + at, event, "stepping", f"{event} it is") for at, event in enumerate(events)]
        rollouts.keep(connection, msgspec.structs.replace(state(), spec=Rollout(hooks=hooks)), entries)

    database.write(work)


def delivers(
    database: Database, folder: Path, claim: Callable[[], Awaitable[bool]], *, holds_lease: bool = True
) -> Registry:
    """Look at the outbox again and again, as control does, until `claim`."""
    registry = Registry("control")

    async def work() -> None:
        lease = leases.Lease("control", "me", 1) if holds_lease else None
        post = HookPost(database, folder, lambda: lease, registry, named)
        async with asyncio.timeout(WAIT_S):
            while not await claim():
                await post.look()
                await asyncio.sleep(0.01)
        await post.close()

    asyncio.run(work())
    return registry


def is_empty(database: Database) -> Callable[[], Awaitable[bool]]:
    async def claim() -> bool:
        return not await database.reading(outbox.everything)

    return claim


def test_each_event_comes_once_in_order_signed_with_all_that_it_says(
    database: Database, webhook: Webhook, tmp_path: Path
) -> None:
    (tmp_path / "release").write_bytes(SECRET + b"\n")
    happens(database, Hook(webhook.url + "/ci", secret="release"))
    registry = delivers(database, tmp_path, is_empty(database))
    assert [each.json["event"] for each in webhook.posts] == ["pre-release", "step", "promoted"]
    for each in webhook.posts:
        id_, stamp = each.headers["webhook-id"], each.headers["webhook-timestamp"]
        assert id_ == each.json["id"]
        signed = hmac.digest(SECRET, f"{id_}.{stamp}.".encode() + each.body, "sha256")
        assert each.headers["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"
    said = webhook.posts[1].json
    for field in ("project", "endpoint", "rollout", "strategy", "baseline", "canary", "weight", "because", "findings"):
        assert field in said
    assert registry.counter("stoker_rollout_hooks_total", outcome="delivered").value == 3


def test_what_fails_comes_again_under_the_same_id_and_before_what_happened_later(
    database: Database, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST_S", 0.01)
    webhook.answers = [500, 503, 302, 429]
    happens(database, Hook(webhook.url))
    delivers(database, tmp_path, is_empty(database))
    ids = [each.headers["webhook-id"] for each in webhook.posts]
    assert ids[:5] == [ids[0]] * 5
    assert [each.json["event"] for each in webhook.posts[4:]] == ["pre-release", "step", "promoted"]


def test_what_a_receiver_refuses_is_given_up_and_the_next_comes(
    database: Database, webhook: Webhook, tmp_path: Path
) -> None:
    webhook.answers = [400]
    happens(database, Hook(webhook.url))
    registry = delivers(database, tmp_path, is_empty(database))
    assert [each.json["event"] for each in webhook.posts] == ["pre-release", "step", "promoted"]
    assert registry.counter("stoker_rollout_hooks_total", outcome="lost").value == 1


def test_a_receiver_that_hangs_and_one_that_is_gone_hold_up_nobody(
    database: Database, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http.post, "__defaults__", (0.2,))

    async def work() -> None:
        async with tarpit() as url:
            happens(database, Hook(url), Hook("http://127.0.0.1:9"), Hook(webhook.url))
            lease = leases.Lease("control", "me", 1)
            post = HookPost(database, tmp_path, lambda: lease, Registry("control"), named)
            async with asyncio.timeout(WAIT_S):
                while len(webhook.posts) < 3:
                    await post.look()
                    await asyncio.sleep(0.01)
            await post.look()
            await post.close()

    asyncio.run(work())
    left = database.read(outbox.everything)
    assert {each.receiver for each in left} >= {"http://127.0.0.1:9"}
    assert len(left) >= 6


def test_a_secret_that_is_missing_is_waited_for(
    database: Database, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST_S", 0.01)
    happens(database, Hook(webhook.url, secret="late"), events=("began",))
    tries = 0

    async def claim() -> bool:
        nonlocal tries
        tries += 1
        if tries == 5:
            assert webhook.posts == []  # nothing is sent unsigned
            (tmp_path / "late").write_bytes(SECRET)
        return not await database.reading(outbox.everything)

    delivers(database, tmp_path, claim)
    assert "webhook-signature" in webhook.posts[0].headers


def test_address_and_secret_may_be_named_and_are_waited_for(
    database: Database, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST_S", 0.01)
    where, key = tmp_path / "where", tmp_path / "key"
    happens(database, Hook(webhook_from=f"file:{where}", sign_with=f"file:{key}"), events=("began", "ready"))
    (letter, _) = database.read(outbox.everything)
    assert (letter.receiver, letter.sign_with) == (f"file:{where}", f"file:{key}")  # no value is ever stored
    tries = 0

    async def claim() -> bool:
        nonlocal tries
        tries += 1
        if tries == 5:
            where.write_text(webhook.url + "/ci\n")
        if tries == 10:
            assert webhook.posts == []  # nothing is sent unsigned
            key.write_bytes(SECRET)
        return not await database.reading(outbox.everything)

    delivers(database, tmp_path, claim)
    assert [each.json["event"] for each in webhook.posts] == ["pre-release", "step"]
    for each in webhook.posts:
        id_, stamp = each.headers["webhook-id"], each.headers["webhook-timestamp"]
        signed = hmac.digest(SECRET, f"{id_}.{stamp}.".encode() + each.body, "sha256")
        assert each.headers["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"


def test_who_does_not_hold_the_lease_tells_nobody(database: Database, webhook: Webhook, tmp_path: Path) -> None:
    happens(database, Hook(webhook.url))
    looks = 0

    async def claim() -> bool:
        nonlocal looks
        looks += 1
        return looks > 20

    delivers(database, tmp_path, claim, holds_lease=False)
    assert webhook.posts == []
    assert len(database.read(outbox.everything)) == 3


def said(database: Database) -> tuple[list[tuple[str, str]], Condition | None]:
    """Return what timeline and endpoint say of hooks that are not told."""

    def ask(connection: Connection) -> tuple[list[tuple[str, str]], Condition | None]:
        entries, _ = rollouts.timeline(connection, 1)
        found = endpoints.get(connection, "default", "a").status.conditions
        told = [(each.event, each.because) for each in entries if each.event in untold.EVENTS]
        return told, conditions.find(found, conditions.HOOKS)

    return database.read(ask)


def serves(database: Database) -> None:
    """Have the endpoint of the rollout there, with a condition of somebody else."""
    ready = Condition(conditions.READY, True, "ReplicasReady", "1 of 1", 1.0)

    def work(connection: Connection) -> None:
        projects.put(connection, Project(ProjectMetadata(ProjectName("default"))), 1.0)
        endpoints.put(connection, Endpoint(Metadata("a"), EndpointSpec("m@1")), 0, 1.0)
        endpoints.set_status(connection, "default", "a", EndpointStatus(conditions=(ready,)))

    database.write(work)


def test_who_is_not_told_is_in_the_timeline_and_a_condition_until_it_is(
    database: Database, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST_S", 0.01)
    serves(database)
    webhook.answers = [500] * 1_000_000
    happens(database, Hook(webhook.url + "/secret?path", events=("pre-release", "promoted")))
    where = webhook.url.removeprefix("http://")

    async def fails() -> bool:
        return len(webhook.posts) > 5 and (await asyncio.to_thread(said, database))[1] is not None

    delivers(database, tmp_path, fails)
    lines, condition = said(database)
    assert lines == [
        ("untold", f"{where} is not told of pre-release yet: it answered 500; it is tried for an hour")
    ]  # once, however often it is tried
    assert condition is not None
    assert (condition.status, condition.reason) == (False, "ReceiverFails")
    assert condition.message.startswith(f"{where} is not told of pre-release of rollout 1: it answered 500")
    assert [each.json["event"] for each in webhook.posts if each.json["event"] != "pre-release"] == []
    webhook.answers = [500] * 3  # another control goes on, and says nothing twice

    async def recovers() -> bool:
        return await is_empty(database)() and (await asyncio.to_thread(said, database))[1] is None

    delivers(database, tmp_path, recovers)
    lines, _ = said(database)
    assert lines[1:] == [("told", f"{where} was told of pre-release at try 4")]
    kept = database.read(lambda connection: endpoints.get(connection, "default", "a").status.conditions)
    assert [each.type for each in kept] == [conditions.READY]
    assert [each.json["event"] for each in webhook.posts][-2:] == ["pre-release", "promoted"]


def test_a_missing_secret_is_said_and_what_is_given_up_stays_in_the_timeline(
    database: Database, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST_S", 0.01)
    serves(database)
    happens(database, Hook(webhook.url, secret="late"), events=("began",))

    async def fails() -> bool:
        return (await asyncio.to_thread(said, database))[1] is not None

    delivers(database, tmp_path, fails)
    lines, condition = said(database)
    assert condition is not None
    assert condition.reason == "SecretMissing"
    assert "the secret 'late' in hooks/ cannot be used: No such file" in condition.message
    assert [event for event, _ in lines] == ["untold"]
    (tmp_path / "late").write_bytes(SECRET)
    webhook.answers = [410]

    async def is_over() -> bool:
        return await is_empty(database)() and (await asyncio.to_thread(said, database))[1] is None

    delivers(database, tmp_path, is_over)
    event, because = said(database)[0][-1]
    assert (event, because.endswith("it answered 410")) == ("lost", True)


def test_a_status_that_was_written_as_it_was_before_is_put_right(
    database: Database, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST_S", 0.01)
    serves(database)
    webhook.answers = [500] * 1_000_000
    happens(database, Hook(webhook.url), events=("began",))
    stages: list[EndpointStatus] = []

    def status() -> EndpointStatus:
        return database.read(lambda connection: endpoints.get(connection, "default", "a").status)

    def write(stored: EndpointStatus) -> None:
        database.write(lambda connection: endpoints.set_status(connection, "default", "a", stored))

    async def claim() -> bool:
        now = await asyncio.to_thread(status)
        has = conditions.find(now.conditions, conditions.HOOKS) is not None
        if not stages and has:
            stages.append(now)
            await asyncio.to_thread(write, EndpointStatus())  # a turn of the loop that had not seen it
        elif len(stages) == 1 and has:
            stages.append(now)
            webhook.answers = []
        elif len(stages) == 2 and not has:
            stages.append(now)
            await asyncio.to_thread(write, stages[0])
        return len(stages) == 3 and not has and not await database.reading(outbox.everything)

    delivers(database, tmp_path, claim)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A platform with three versions of a model, times 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("hooks")
    rig = Rig(folder / "h")
    try:
        rig.start_agent()
        for scale in (1, 2, 3):
            rig.push("m", python_model(folder / f"{scale}", scale=scale), tasks=("predict",))
        yield rig
    finally:
        rig.close()


def test_a_control_that_is_killed_while_a_receiver_is_away_tells_all_of_it_afterwards(
    platform: Rig, webhook: Webhook
) -> None:
    webhook.answers = [503] * 1000  # away
    rig, name = platform, "away"
    rollout: dict[str, Any] = {"strategy": "blue-green", "keep": "0s", "hooks": [{"webhook": webhook.url}]}
    rig.request("POST", "/api/v1/apply", endpoint(name, "m@1", rollout=rollout))
    until(lambda: rig.client.endpoint("default", name).status.serving, "the first revision serves")
    rig.request("POST", "/api/v1/apply", endpoint(name, "m@2", rollout=rollout))
    until(lambda: webhook.posts, "the receiver was asked")
    first = rig.processes()["control"]
    rig.kill_control()
    until(lambda: rig.processes().get("control") not in (None, first) and rig.is_ready(), "control is back")
    until(lambda: rig.client.endpoint("default", name).status.serving == f"default.{name}-2", "it serves")
    until(lambda: "HooksTold" in page(rig, "describe", "endpoint", name), "the endpoint says who is not told")
    where, shown = webhook.url.removeprefix("http://"), page(rig, "rollouts", "show", name)
    assert f"hooks     {where} is not told of pre-release of rollout" in shown
    assert f"{where} is not told of pre-release yet: it answered 503" in shown.partition("Timeline")[2]
    before = len(webhook.posts)
    webhook.answers = []
    until(lambda: "promoted" in [each.json["event"] for each in webhook.posts[before:]], "all was told")
    events = {each.json["id"]: each.json["event"] for each in webhook.posts}
    assert list(events.values()) == ["pre-release", "step", "promoted"]
    assert webhook.posts[-1].json["canary_model"] == "m@2"
    until(lambda: "HooksTold" not in page(rig, "describe", "endpoint", name), "it is over")
    shown = page(rig, "rollouts", "show", name)
    assert "\nhooks " not in shown
    assert "was told of pre-release at try" in shown.partition("Timeline")[2]


def page(rig: Rig, *words: str) -> str:
    return stoker_here(*words, home=rig.home.root).stdout


def held(webhook: Webhook, within: str = "1h", unanswered: str = "refuse") -> dict[str, Any]:
    hook = {"webhook": webhook.url, "holds": True, "within": within, "unanswered": unanswered}
    return {"strategy": "blue-green", "keep": "0s", "hooks": [hook]}


def newest(rig: Rig, name: str) -> RolloutDetail:
    try:
        return RolloutClient(rig.client.connection).newest("default", name)
    except NotFound:  # it has yet to begin
        return RolloutDetail(0, "default", name, "blue-green", "gating", "", "", "")


def test_a_hook_holds_a_release_until_it_answers_over_the_api_whoever_dies_meanwhile(
    platform: Rig, webhook: Webhook
) -> None:
    rig, name = platform, "held"
    rig.request("POST", "/api/v1/apply", endpoint(name, "m@1", rollout=held(webhook)))
    until(lambda: rig.client.endpoint("default", name).status.serving, "the first serves, which nobody was asked about")
    assert webhook.posts == []
    rig.request("POST", "/api/v1/apply", endpoint(name, "m@2", rollout=held(webhook)))
    until(lambda: len(webhook.posts) > 1, "it is asked")
    began, asked = (each.json for each in webhook.posts[:2])
    assert (began["event"], began["phase"], began["answer"]) == ("pre-release", "gating", "")
    assert (asked["event"], asked["phase"]) == ("pre-release", "awaiting")
    assert asked["answer"] == f"/api/v1/projects/default/endpoints/{name}/rollout"
    assert asked["answer_by_s"] == pytest.approx(asked["at_s"] + 3600, abs=1)
    assert "awaits approval until" in ReleaseClient(rig.client.connection).get("default", name).verdict
    first = rig.processes()["control"]
    rig.kill_control()
    until(lambda: rig.processes().get("control") not in (None, first) and rig.is_ready(), "control is back")
    assert newest(rig, name).phase == "awaiting"
    until(lambda: is_served(rig, name), "the gateway serves what is not held")
    assert infer(rig, name) == [1.0, 1.0, 1.0, 1.0]

    def answers(order: str, number: int, reason: str) -> tuple[int, Any]:
        body = {"order": order, "reason": reason, "rollout": number}
        status, said, _ = rig.request("POST", asked["answer"], body)
        return status, said

    assert answers("approve", asked["rollout"] + 1, "another one")[0] == 409
    assert answers("approve", asked["rollout"], "change 4711")[0] == 200
    until(lambda: newest(rig, name).phase == "promoted", "it is released")
    entry = next(each for each in newest(rig, name).timeline if each.event == "approve")
    assert entry.because.startswith("approved by ")
    assert entry.because.endswith("(change 4711)")
    verdict = until(lambda: releases_verdict(rig, name), "it is told")
    assert "change 4711" in verdict
    rig.request("POST", "/api/v1/apply", endpoint(name, "m@3", rollout=held(webhook)))
    until(
        lambda: newest(rig, name).canary == f"default.{name}-3" and newest(rig, name).phase == "awaiting", "it is asked"
    )
    assert answers("deny", newest(rig, name).number, "not in the holidays")[0] == 200
    until(lambda: newest(rig, name).phase == "refused", "it is refused")
    assert "not in the holidays" in newest(rig, name).because
    until(lambda: infer(rig, name) == [2.0, 2.0, 2.0, 2.0], "what was approved serves on")
    assert answers("approve", newest(rig, name).number, "after all")[0] == 409
    until(lambda: webhook.posts[-1].json["event"] == "verdict", "it is told of its own answer")


def releases_verdict(rig: Rig, name: str) -> str:
    said = ReleaseClient(rig.client.connection).get("default", name).verdict
    return said if "promoted" in said else ""


def test_a_release_that_nobody_answers_for_is_refused_in_time(platform: Rig, webhook: Webhook) -> None:
    rig, name = platform, "unanswered"
    rig.request("POST", "/api/v1/apply", endpoint(name, "m@1", rollout=held(webhook, "1s")))
    until(lambda: rig.client.endpoint("default", name).status.serving, "the first revision serves")
    webhook.answers = [403] * 100  # somebody who does not want to hear of it approves nothing
    rig.request("POST", "/api/v1/apply", endpoint(name, "m@2", rollout=held(webhook, "1s")))
    until(lambda: newest(rig, name).phase == "refused", "it is refused")
    assert newest(rig, name).because == "127.0.0.1 did not approve it within 1s".replace(
        "127.0.0.1", webhook.url.removeprefix("http://")
    )
