"""`stoker deploy` of what others change at the same moment: nothing is lost, and who stands against it is said."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stoker.cli import openslo
from stoker.cli.deploy import TRIES_MAX, apply_endpoint
from stoker.cli.exits import Exit
from stoker.cli.wish import Wish
from stoker.client.connection import Answer, Connection
from stoker.client.control import ControlClient
from stoker.types.errors import Conflict, NotFound
from stoker.types.resources import EndpointSpec
from tests.cli.conftest import Run
from tests.cli.run import stoker


@pytest.fixture(autouse=True, scope="module")
def _model(home: Path, digits_model: str) -> None:
    done = stoker("push", "scores", digits_model, home=home)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True, slots=True)
class Between(Connection):
    """A connection whose user does something in front of each write, behind the read that it is made of."""

    does: Callable[[], object] = lambda: None

    def exchange(self, method: Any, path: str, **given: Any) -> Answer:
        if method in ("PUT", "POST"):
            self.does()
        return Connection.exchange(self, method, path, **given)


def between(control: ControlClient, *steps: Callable[[], object]) -> ControlClient:
    """Return a client in front of whose first writes something else is done, one of `steps` each."""
    left = list(steps)
    there = control.connection
    return ControlClient(
        Between(there.base, there.key, there.timeout_s, there.trust, lambda: left.pop(0)() if left else None)
    )


def spec(control: ControlClient, name: str) -> EndpointSpec:
    return control.endpoint("default", name).resource.spec


def test_two_deploys_of_different_fields_at_once_are_both_kept(run: Run, control: ControlClient) -> None:
    assert run("deploy", "both", "--model", "scores@1", "--env", "A=1").returncode == Exit.OK

    def other() -> None:
        done = run("deploy", "both", "--memory", "300Mi", "--env", "B=2")
        assert done.returncode == Exit.OK, done.stderr

    written = apply_endpoint(between(control, other), "default", "both", Wish(cpu=0.5, env={"A": "3"}))
    found = spec(control, "both")
    assert (found.resources.cpu, found.resources.memory, found.env) == (0.5, "300Mi", {"A": "3", "B": "2"})
    assert sorted(each.path for each in written.applied.diff) == ["spec.env.A", "spec.resources.cpu"]


def test_many_deploys_at_the_same_moment_are_all_kept(control: ControlClient, run: Run) -> None:
    assert run("deploy", "many", "--model", "scores@1").returncode == Exit.OK
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda key: apply_endpoint(control, "default", "many", Wish(labels={key: "x"})), "abcdef"))
    assert control.endpoint("default", "many").resource.metadata.labels == dict.fromkeys("abcdef", "x")


def test_what_somebody_else_set_meanwhile_is_not_overwritten_and_is_said(run: Run, control: ControlClient) -> None:
    run("deploy", "same", "--model", "scores@1", "--cpu", "1", "--env", "GREETING=first")
    theirs = between(control, lambda: run("deploy", "same", "--cpu", "0.5", "--env", "GREETING=second"))
    with pytest.raises(Conflict) as told:
        apply_endpoint(theirs, "default", "same", Wish(cpu=2.0, memory="512Mi", env={"GREETING": "third"}))
    assert "it has --cpu 0.5" in told.value.message
    assert "you asked for --env GREETING --cpu 2" in told.value.message
    assert "--memory" not in told.value.message
    assert "second" not in told.value.message
    assert spec(control, "same").resources.cpu == 0.5
    assert spec(control, "same").resources.memory != "512Mi"
    agreeing = between(control, lambda: run("deploy", "same", "--cpu", "2", "--memory", "256Mi"))
    assert apply_endpoint(agreeing, "default", "same", Wish(cpu=2.0)).applied.action == "unchanged"


def test_of_two_who_make_an_endpoint_the_second_changes_nothing_unless_it_wants_the_same(
    run: Run, control: ControlClient
) -> None:
    made = between(control, lambda: run("deploy", "twice", "--model", "scores@1", "--cpu", "0.5"))
    with pytest.raises(Conflict, match="somebody else made endpoint default/twice"):
        apply_endpoint(made, "default", "twice", Wish(model="scores", cpu=1.0))
    assert (spec(control, "twice").model, spec(control, "twice").resources.cpu) == ("scores@1", 0.5)
    also = between(control, lambda: run("deploy", "alike", "--model", "scores@1"))
    assert apply_endpoint(also, "default", "alike", Wish(model="scores@1")).applied.action == "unchanged"


def test_what_was_deleted_meanwhile_does_not_come_back(run: Run, control: ControlClient) -> None:
    run("deploy", "gone", "--model", "scores@1")
    deleted = between(control, lambda: run("delete", "endpoint", "gone"))
    with pytest.raises(Conflict, match="default/gone was deleted while"):
        apply_endpoint(deleted, "default", "gone", Wish(cpu=0.5))
    with contextlib.suppress(NotFound):  # it may still leave
        assert spec(control, "gone").resources.cpu != 0.5


def test_who_never_comes_between_others_gives_up_and_says_so(control: ControlClient, run: Run) -> None:
    run("deploy", "busy", "--model", "scores@1")
    others = [
        lambda at=at: apply_endpoint(control, "default", "busy", Wish(labels={"at": str(at)}))  # type: ignore[misc]
        for at in range(TRIES_MAX)
    ]
    with pytest.raises(Conflict, match=f"changed by others {TRIES_MAX} times"):
        apply_endpoint(between(control, *others), "default", "busy", Wish(cpu=0.5))
    assert control.endpoint("default", "busy").resource.metadata.labels == {"at": str(TRIES_MAX - 1)}


def test_objectives_of_openslo_undo_nothing_that_others_change_meanwhile(run: Run, control: ControlClient) -> None:
    for name in ("slo-a", "slo-b"):
        run("deploy", name, "--model", "scores@1", "--cpu", "0.5")
    slos = "slos: [{name: answers, sli: availability, target: 0.99}]"
    for name in ("slo-a", "slo-b"):
        text = f"apiVersion: stoker/v1\nkind: Endpoint\nmetadata: {{name: {name}}}\nspec: {{model: scores@1, {slos}}}"
        assert run("apply", "-f", "-", stdin=text).returncode == Exit.OK
    documents = "\n---\n".join(run("slo", "export", name).stdout for name in ("slo-a", "slo-b"))
    wanted = documents.replace("target: 0.99", "target: 0.95").encode()

    def other() -> None:
        done = run("deploy", "slo-b", "--memory", "300Mi")
        assert done.returncode == Exit.OK, done.stderr

    results = openslo.applied(between(control, other), wanted)
    assert [each.action for each in results] == ["updated", "updated"]
    assert spec(control, "slo-b").resources.memory == "300Mi"
    assert [spec(control, name).slos[0].target for name in ("slo-a", "slo-b")] == [0.95, 0.95]
    busy = [lambda at=at: run("deploy", "slo-a", "--label", f"at={at}") for at in range(TRIES_MAX)]  # type: ignore[misc]
    with pytest.raises(Conflict, match="changed by others"):
        openslo.applied(between(control, *busy), wanted.replace(b"0.95", b"0.9"))
    assert spec(control, "slo-b").slos[0].target == 0.95  # all, or none


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "nobody@3"), "--model nobody@3: no model 'nobody'; push it first"),
        (("--model", "scores@1", "--memory", "lots"), "--memory lots: "),
        (("--model", "scores@1", "--dwell", "soon"), "--dwell soon: "),
        (("--model", "scores@1", "--steps", "50,5"), "--steps 50,5: "),
        (("--model", "scores@1", "--task", "chat"), "--task chat: model scores@1 cannot do 'chat'"),
        (("--model", "scores@1", "-p", "nobodys"), "-p nobodys: no project 'nobodys'"),
    ],
)
def test_errors_speak_of_what_was_typed(run: Run, words: tuple[str, ...], said: str) -> None:
    done = run("deploy", "wrong", *words)
    assert done.returncode == Exit.REFUSED
    assert said in done.stderr
    assert "manifest" not in done.stderr
    assert "nothing was changed" in done.stderr
