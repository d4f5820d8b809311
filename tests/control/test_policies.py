"""Policies on a live platform: what is refused, what is told, what nothing can stop, and expressions that never end."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.blob.folder import FolderBlobs
from stoker.control import judge
from stoker.control.changes import Change
from stoker.control.policies import TRIES_MAX, Admission, Denied
from stoker.core import policy
from stoker.protocol import manifest
from stoker.protocol.policies import plain
from stoker.protocol.starter import STARTER
from stoker.store import endpoints, journal, policies, projects
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry
from stoker.types.errors import Conflict, StokerError
from stoker.types.policies import Actor, Document, PolicyMatch, PolicyRule, PolicySpec, PolicyVariable, ProjectFacts
from stoker.types.process import NodeStatus
from stoker.types.resources import Endpoint, EndpointSpec, Metadata, Policy, Project, ProjectMetadata
from tests.control.rig import Rig, conditions, endpoint, infer, is_served, python_model, until
from tests.databases import migrated

PATIENCE_S = 90.0  # to give up, not to be quick
MANY = f"[{','.join(['1'] * 200)}]"
# Each would run for minutes or take all memory; the guard keeps it asleep until an endpoint of that name comes.
HOSTILE = {
    "loops": f"{MANY}.all(a, {MANY}.all(b, {MANY}.all(c, {MANY}.all(d, a + b + c + d >= 0))))",
    "copies": f"{MANY}.map(a, {MANY}.map(b, {MANY}.map(c, [a, b, c]))).size() > 0",
    "doubling": "variables.g.size() > 0",
}
DOUBLING = tuple(
    PolicyVariable(name, "'" + "x" * 3000 + "'" if name == "a" else "+".join([f"variables.{before}"] * 100))
    for before, name in zip(" abcdef", "abcdefg", strict=True)
)


def one(name: str, expression: str, **more: Any) -> Policy:
    return Policy(Metadata(name), PolicySpec(rules=(PolicyRule("r", expression, f"{name} says no"),), **more))  # type: ignore[arg-type]


def asked(name: str = "e") -> Document:
    resource = plain(Endpoint(Metadata(name), EndpointSpec("m@1")))  # type: ignore[arg-type]
    return Document("create", resource, None, Actor(), ProjectFacts())


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_expression_that_takes_too_much_gives_no_answer_and_the_others_are_asked_all_the_same(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "JUDGE_S", 90.0)  # what ends it is its second of computing, not the clock on the wall
    variables = DOUBLING if kind == "doubling" else ()
    some = [one("before", "true"), one("hostile", HOSTILE[kind], variables=variables), one("after", "false")]
    first, second = judge.verdicts(some, [asked("a"), asked("b")])
    assert [verdict.outcome for verdict in first] == ["passed", "failed", "violated"]
    assert "more than" in first[1].message
    assert f"{judge.JUDGE_S:g} s" not in first[1].message
    assert [verdict.outcome for verdict in second] == [verdict.outcome for verdict in first]
    assert {verdict.policy for verdict in policy.denials(first)} == {"hostile", "after"}
    assert judge.flaws(some)[1][0][0] == "spec.rules", "it is refused when it is applied"


def test_what_one_change_asks_ends_by_the_clock_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "JUDGE_S", 0.05)  # a process does not even start in it
    began_s = time.monotonic()
    ((hostile, after),) = judge.verdicts([one("hostile", HOSTILE["loops"]), one("after", "false")], [asked()])
    assert time.monotonic() - began_s < judge.JUDGE_S + 5
    assert (hostile.outcome, after.outcome) == ("failed", "failed")
    assert all("0.05 s" in each.message for each in (hostile, after))


def test_nothing_is_asked_where_nothing_looks() -> None:
    off, other = one("off", "false", enabled=False), one("other", "false", match=PolicyMatch(operations=("delete",)))
    assert judge.verdicts([off, other], [asked()]) == [()]
    assert judge.verdicts([off, other], []) == []


def test_a_change_is_refused_told_or_only_written_down_and_a_rollback_passes(rig: Rig, tmp_path: Path) -> None:
    rig.start_agent()
    rig.push("m", python_model(tmp_path / "one", scale=1))
    rig.push("m", python_model(tmp_path / "two", scale=2))
    for version in ("m@1", "m@2"):
        rig.client.apply(manifest_of(endpoint(model=version)))
        until(lambda version=version: serves(rig, version), f"{version} serves", PATIENCE_S)  # type: ignore[misc]
    until(lambda: is_served(rig) and infer(rig) == [2, 2, 2, 2], "the gateway follows", PATIENCE_S)

    rig.client.apply(STARTER.encode())
    status, body, _ = rig.request(
        "POST",
        "/api/v1/apply",
        manifest_of(endpoint(model="m@1", resources={"cpu": 900}, replicas={"min": 0, "max": 0})),
    )
    assert (status, body["error"]["code"]) == (422, "policy_denied")
    told = {each["field"]: each["message"] for each in body["error"]["details"]}
    assert "endpoint default/a: policy signed-only, rule signed: m@1 is not signed by anyone" in told["spec.model"]
    assert "no node of the pool default has 900 cores" in told["spec.resources"]
    assert {"metadata.labels.owner", "metadata.labels.runbook"} <= set(told)
    assert infer(rig) == [2, 2, 2, 2]

    # m@1 would be refused, and is where a rollback goes.
    rig.client.rollback("default", "a")
    until(lambda: serves(rig, "m@1"), "it went back", PATIENCE_S)
    until(lambda: infer(rig) == [1, 1, 1, 1], "the gateway follows", PATIENCE_S)
    actions = [(entry.action, entry.because) for entry in rig.client.journal(limit=100)]
    assert any(action.startswith("PolicyDeny") and "900 cores" in because for action, because in actions)
    assert sum(action.startswith("EnablePolicy") for action, _ in actions) == 6


def test_a_policy_that_never_ends_refuses_its_own_endpoint_and_holds_up_nothing_else(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    rig.push("m", python_model(tmp_path / "one"))
    trap = f"resource.metadata.name != 'slow' || {HOSTILE['loops']}"
    rig.client.apply(manifest.to_yaml([one("trap", trap)]).encode())
    answers: list[tuple[int, Any]] = []

    def slowly() -> None:
        answers.append(rig.request("POST", "/api/v1/apply", manifest_of(endpoint("slow")))[:2])

    waiting = threading.Thread(target=slowly)
    waiting.start()
    slowest_s = 0.0
    looks = 0
    while waiting.is_alive():
        began_s = time.monotonic()
        assert rig.client.is_ready()
        rig.client.projects()
        slowest_s = max(slowest_s, time.monotonic() - began_s)
        looks += 1
    waiting.join()
    assert looks > 3, "control answered meanwhile"
    assert slowest_s < 5.0
    ((status, body),) = answers
    assert (status, body["error"]["code"]) == (422, "policy_denied")
    assert "it gave no answer (more than 1 s of computing)" in body["error"]["message"]
    assert rig.request("POST", "/api/v1/apply", endpoint("quick"))[0] == 200


def test_control_that_dies_while_it_asks_has_stored_nothing(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    rig.push("m", python_model(tmp_path / "one"))
    rig.client.apply(
        manifest.to_yaml([one("trap", f"resource.metadata.name != 'slow' || {HOSTILE['loops']}")]).encode()
    )

    def ask() -> None:
        try:
            rig.client.apply(manifest_of(endpoint("slow")))
        except StokerError:
            return

    asking = threading.Thread(target=ask)
    asking.start()
    assert rig.process is not None
    control = rig.process.pid
    evaluating = until(lambda: children(control), "a process evaluates")
    rig.kill()
    asking.join()
    rig.start()
    assert [view.name for view in rig.client.endpoints()] == []
    until(lambda: not any(map(is_alive, evaluating)), "nothing is left of it", PATIENCE_S)
    assert rig.request("POST", "/api/v1/apply", endpoint("quick"))[0] == 200


# ── between asking and storing ───────────────────────────────────────────────────────────────────────────────────


class Nodes:
    """Stands for what control sees of nodes; `on_look` happens while policies are being asked."""

    def __init__(self) -> None:
        self.on_look: Any = lambda: None

    @property
    def statuses(self) -> list[NodeStatus]:
        self.on_look()
        return []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    engine = migrated(tmp_path / "state.db")
    database = Database(engine)
    database.write(lambda connection: projects.put(connection, project(), 1.0))
    database.write(lambda connection: policies.put(connection, LABELLED, 1.0))
    yield database
    database.close()


LABELLED = one("labelled", "project.labels.open == 'yes'")
BEHIND = Endpoint(Metadata("e"), EndpointSpec(backends=()))  # type: ignore[arg-type]


def project(**labels: str) -> Project:
    return Project(ProjectMetadata("default", {"open": "yes"} | labels))


def put(connection: Connection) -> tuple[None, list[Change]]:
    endpoints.put(connection, BEHIND, 0, 1.0)
    return None, [Change("create", BEHIND)]


def admission(database: Database, nodes: Nodes, tmp_path: Path) -> Admission:
    blobs = FolderBlobs(tmp_path / "blobs", tmp_path / "tmp")
    return Admission(database, blobs, nodes, Registry("control"))  # type: ignore[arg-type]


def test_what_changes_while_policies_are_asked_is_asked_about_again(store: Database, tmp_path: Path) -> None:
    nodes = Nodes()
    changes = [lambda: store.write(lambda connection: projects.put(connection, project(open="no"), 2.0))]
    nodes.on_look = lambda: changes.pop()() if changes else None
    with pytest.raises(Denied, match="labelled says no"):
        asyncio.run(admission(store, nodes, tmp_path).make(put, Actor("k", "default", is_admin=True)))
    assert store.read(endpoints.everything) == []
    (entry,) = store.read(lambda connection: journal.last(connection, 10))
    assert (entry.action, entry.endpoint, entry.subject) == ("PolicyDeny", "e", "default/labelled/r")


def test_a_change_whose_surroundings_never_rest_is_given_up_and_not_stored(store: Database, tmp_path: Path) -> None:
    nodes = Nodes()
    turns = iter(range(100))
    nodes.on_look = lambda: store.write(
        lambda connection: projects.put(connection, project(turn=str(next(turns))), 2.0)
    )
    with pytest.raises(Conflict, match="keeps changing"):
        asyncio.run(admission(store, nodes, tmp_path).make(put, Actor()))
    assert store.read(endpoints.everything) == []
    assert next(turns) == TRIES_MAX


def test_a_policy_that_comes_while_others_are_asked_is_asked_too(store: Database, tmp_path: Path) -> None:
    nodes = Nodes()
    comes = [lambda: store.write(lambda connection: policies.put(connection, one("late", "false"), 2.0))]
    nodes.on_look = lambda: comes.pop()() if comes else None
    with pytest.raises(Denied, match="late says no"):
        asyncio.run(admission(store, nodes, tmp_path).make(put, Actor()))


def test_a_release_is_asked_with_its_dossier(store: Database, tmp_path: Path) -> None:
    gate = one("gated", "dossier != null && dossier.verdict == 'passed'", match=PolicyMatch(operations=("release",)))
    store.write(lambda connection: policies.put(connection, gate, 1.0))
    door = admission(store, Nodes(), tmp_path)
    good = asyncio.run(door.release(BEHIND, None, {"verdict": "passed"}))
    bad = asyncio.run(door.release(BEHIND, None, {"verdict": "failed"}))
    assert (policy.denials(good), [each.policy for each in policy.denials(bad)]) == ((), ["gated"])


def manifest_of(resource: dict[str, Any]) -> bytes:
    """Return a resource over several lines, as a person writes it."""
    return msgspec.json.format(msgspec.json.encode(resource), indent=2)


def serves(rig: Rig, version: str) -> bool:
    detail = rig.client.endpoint("default", "a")
    ready = conditions(rig).get("Ready")
    serving = next((each for each in detail.revisions if each.serving), None)
    return bool(ready and ready.status and serving is not None and serving.model == version)


def children(parent: int) -> list[int]:
    """Return the processes that evaluate for a control, by its pid."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes()
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if b"stoker.control.judge_main" in words and int(fields[1]) == parent:
                found.append(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process runs, a zombie that nobody has fetched does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
