"""Gates on a live platform: what does not pass takes no request, whoever dies meanwhile, and a way back is free."""

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from stoker.cli.exits import Exit
from stoker.client import access
from stoker.client.registration import Registration
from stoker.client.releases import ReleaseClient
from stoker.client.rollouts import RolloutClient
from stoker.client.upload import LocalFile, push
from stoker.protocol import dossier as wire
from stoker.protocol import signing
from stoker.types.access import KeyAccess
from stoker.types.errors import Conflict, NotFound, RefusedArtifact
from stoker.types.releases import GOLDEN_FILE, GateResult, ReleaseView
from tests.cli.run import stoker_here
from tests.control.rig import Rig, conditions, endpoint, infer, is_served, python_model, until

PATIENCE_S = 90.0  # to give up, not to be quick: processes start on the way


def pushed(rig: Rig, source: Path, golden: Path | None = None, name: str = "m") -> None:
    beside = () if golden is None else (LocalFile(golden, GOLDEN_FILE, golden.stat().st_size),)
    push(rig.client, name, source, Registration(files=()), lambda *_: None, beside)


def examples(path: Path, *rows: tuple[list[float], Any]) -> Path:
    path.write_text("\n".join(json.dumps({"input": row, "expected": expected}) for row, expected in rows))
    return path


def apply(rig: Rig, **spec: Any) -> None:
    status, answer, _ = rig.request("POST", "/api/v1/apply", endpoint(**spec))
    assert status == 200, answer


def releases(rig: Rig) -> ReleaseClient:
    return ReleaseClient(rig.client.connection)


def decided(rig: Rig, number: int, name: str = "a") -> ReleaseView:
    """Wait until the dossier of a revision is decided, whether or not control answers meanwhile."""

    def found() -> ReleaseView | None:
        try:
            view = releases(rig).get("default", name, number)
        except NotFound:
            return None
        return view if view.dossier.state != "pending" else None

    view: ReleaseView = until(found, f"dossier of revision {number}", PATIENCE_S)
    return view


def found(view: ReleaseView, kind: str) -> GateResult:
    return next(each for each in view.dossier.results if each.kind == kind)


def serving(rig: Rig, name: str = "a") -> str:
    return str(rig.client.endpoint("default", name).status.serving)


@contextmanager
def traffic(rig: Rig, body: bytes) -> Iterator[list[str]]:
    """Ask endpoint `a` without a pause; the list has the version that answered each time, or what went wrong."""
    said: list[str] = []
    over = threading.Event()

    def ask() -> None:
        headers = {"Authorization": f"Bearer {rig.key}", "Content-Type": "application/json"}
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=PATIENCE_S)
            connection.request("POST", "/v2/models/a/infer", body, headers)
            answer = connection.getresponse()
            raw = answer.read()
            said.append(json.loads(raw)["model_version"] if answer.status == 200 else raw.decode())
            connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield said
    finally:
        over.set()
        thread.join(PATIENCE_S)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier, one that was trained on shuffled labels, one of other inputs, and examples."""
    folder = tmp_path_factory.mktemp("digits")
    data, labels = load_digits(return_X_y=True)
    data, chance = data.astype(np.float32), np.random.default_rng(1)
    shuffled = chance.permutation(labels[:1000])
    for name, rows, wanted in (
        ("good", data[:1000] / 16, labels[:1000]),
        ("bad", data[:1000] / 16, shuffled),
        ("narrow", data[:1000, :32] / 16, labels[:1000]),
    ):
        model = LogisticRegression(max_iter=1000).fit(rows, wanted)
        made = to_onnx(model, rows[:1], options={"zipmap": False}).SerializeToString()
        (folder / f"{name}.onnx").write_bytes(made)
    chosen = [((data[at] / 16).tolist(), int(labels[at])) for at in range(1000, 1200)]
    examples(folder / "golden.jsonl", *chosen)
    return folder


def test_a_model_of_shuffled_labels_and_one_of_other_inputs_never_take_a_request(rig: Rig, digits: Path) -> None:
    rig.start_agent()
    golden = digits / "golden.jsonl"
    pushed(rig, digits / "good.onnx", golden)
    apply(rig, model="m@1")
    first = decided(rig, 1)
    assert first.dossier.state == "complete"
    assert [each.state for each in first.dossier.results] == ["skipped", "skipped", "passed", "skipped"]
    until(lambda: is_served(rig), "it serves", PATIENCE_S)
    pushed(rig, digits / "bad.onnx", golden)
    pushed(rig, digits / "narrow.onnx")
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}
    with traffic(rig, json.dumps({"inputs": [tensor]}).encode()) as said:
        apply(rig, model="m@2")
        bad = decided(rig, 2)
        until(lambda: conditions(rig)["Released"].reason == "GoldenFailed", "the condition says so", PATIENCE_S)
        apply(rig, model="m@3")
        narrow = decided(rig, 3)
        until(lambda: conditions(rig)["Released"].reason == "SchemaIncompatible", "the condition says so", PATIENCE_S)
        until(lambda: len(said) > 20, "it is asked all the while", PATIENCE_S)
    assert set(said) == {"1"}, set(said)
    assert serving(rig) == "default.a-1"
    for reference, code in (("a@1", Exit.OK), ("a@2", Exit.REFUSED), ("a@9", Exit.TIMED_OUT), ("b", Exit.NOT_FOUND)):
        assert stoker_here("release", "wait", reference, "--timeout", "0", home=rig.home.root).returncode == code
    assert bad.dossier.state == narrow.dossier.state == "refused"
    assert "accuracy" in bad.dossier.because
    assert "chance does not explain it" in bad.dossier.because
    assert found(bad, "golden").numbers["accuracy_serving"] > 0.8
    assert "input 'X' takes 32 in dimension 1, where clients send 64" in conditions(rig)["Released"].message
    public = signing.public_key(releases(rig).key().public_key)
    for view in (first, bad, narrow):
        said_of = wire.verify(view.statements[0], public)
        assert said_of["predicate"]["revision"] == view.dossier.revision
        assert said_of["predicate"]["state"] == view.dossier.state
    # Another name has no clients that it could break.
    status, answer, _ = rig.request("POST", "/api/v1/apply", endpoint("b", model="m@3"))
    assert status == 200, answer
    assert decided(rig, 1, "b").dossier.state == "complete"
    # What was refused is judged anew when the gates change, and a way back meets none.
    apply(rig, model="m@1", gates={"golden": {"at_least": 1.0}})
    until(lambda: conditions(rig)["Progressing"].reason == "Complete", "the old one is asked for again", PATIENCE_S)
    assert serving(rig) == "default.a-1"


def test_a_way_back_passes_whatever_the_gates_are_and_past_what_never_served(rig: Rig, tmp_path: Path) -> None:
    rig.start_agent()
    for scale in (1, 2, 3):
        pushed(rig, python_model(tmp_path / f"m{scale}", scale=scale))
    for number in (1, 2):
        apply(rig, model=f"m@{number}")
        until(lambda number=number: serving(rig) == f"default.a-{number}", f"{number} serves", PATIENCE_S)
    golden = examples(tmp_path / "golden.jsonl", *[([1.0, 1.0, 1.0, 1.0], [9.5, 9.5, 9.5, 9.5])] * 3)
    data = golden.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    rig.client.put_blob(f"sha256:{digest}", len(data), (data,))
    assert releases(rig).set_golden("default", "a", f"sha256:{digest}").rows == 3
    apply(rig, model="m@3", gates={"golden": {"at_most": 0.1}})
    assert "at most 0.1 is asked" in decided(rig, 3).dossier.because
    rig.client.rollback("default", "a")  # 3 never served: back to what does
    until(lambda: rig.client.endpoint("default", "a").status.revision == "default.a-2", "2 is asked for", PATIENCE_S)
    rig.client.rollback("default", "a")
    until(lambda: serving(rig) == "default.a-1", "1 serves again, whose examples fail", PATIENCE_S)
    until(lambda: is_served(rig) and infer(rig) == [1, 1, 1, 1], "and answers", PATIENCE_S)
    with pytest.raises(Conflict, match="no earlier revision that served"):
        rig.client.rollback("default", "a")


SLOW = "time.sleep(0.05)"


@pytest.mark.parametrize("moment", ["begun", "golden: runs", "profile: runs"])
def test_a_control_that_is_killed_while_gates_run_makes_the_dossier_again_and_once(
    rig: Rig, tmp_path: Path, moment: str
) -> None:
    rig.start_apart()
    pushed(rig, python_model(tmp_path / "m1", work=SLOW))
    apply(rig, model="m@1")
    until(lambda: serving(rig) == "default.a-1", "it serves", PATIENCE_S)
    golden = examples(tmp_path / "golden.jsonl", *[([1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0])] * 40)
    pushed(rig, python_model(tmp_path / "m2", work=SLOW, scale=2), golden)
    apply(rig, model="m@2", gates={"profile": {"requests": 40}})

    def is_there() -> bool:
        try:
            dossier = releases(rig).get("default", "a", 2).dossier
        except NotFound:
            return False
        assert dossier.state == "pending", "it was decided before it could be seen"
        return moment == "begun" or dossier.because == moment

    until(is_there, moment, PATIENCE_S)
    rig.kill()
    rig.start()
    assert serving(rig) == "default.a-1"
    view = decided(rig, 2)
    assert view.dossier.state == "complete", view.dossier.because
    assert (found(view, "golden").state, found(view, "profile").state) == ("passed", "passed")
    assert found(view, "profile").numbers["requests"] == 40
    until(lambda: serving(rig) == "default.a-2", "it takes the traffic", PATIENCE_S)
    rig.kill()
    rig.start()
    again = releases(rig).get("default", "a", 2)
    assert (again.number, again.dossier, again.statements[:1]) == (view.number, view.dossier, view.statements[:1])
    assert [each.dossier.revision for each in releases(rig).all("default", "a")] == ["default.a-2", "default.a-1"]


def test_examples_that_do_not_fit_the_model_are_refused_with_their_line_at_the_push(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    golden = examples(tmp_path / "golden.jsonl", ([1.0] * 4, [1.0] * 4), ([1.0] * 5, [1.0] * 4))
    with pytest.raises(RefusedArtifact, match=r"stoker.golden.jsonl: line 2: input 'x' has the shape \[1, 5\]"):
        pushed(rig, python_model(tmp_path / "m"), golden)
    golden.write_text('{"input": [1,1,1,1]}')
    with pytest.raises(RefusedArtifact, match="line 1: no `expected`"):
        pushed(rig, python_model(tmp_path / "n"), golden)


def ends(view: ReleaseView, rig: Rig) -> list[tuple[int, str]]:
    """Return the ends of rollouts that are signed into a dossier: their numbers and what became of them."""
    public = signing.public_key(releases(rig).key().public_key)
    said = [wire.verify(each, public) for each in view.statements]
    assert said[0]["predicateType"] == wire.GATES
    assert all(each["predicateType"] == wire.ROLLOUT for each in said[1:])
    return [(each["predicate"]["rollout"], each["predicate"]["verdict"]) for each in said[1:]]


def phase(rig: Rig, canary: int) -> tuple[int, str]:
    """Return the number and the phase of the newest rollout, if it is of that revision."""
    try:
        found = RolloutClient(rig.client.connection).newest("default", "a")
    except NotFound:
        return 0, ""
    return (found.number, found.phase) if found.canary == f"default.a-{canary}" else (0, "")


def test_how_each_rollout_ended_is_signed_into_its_dossier_once_whoever_dies_meanwhile(
    rig: Rig, tmp_path: Path
) -> None:
    def of(number: int) -> list[tuple[int, str]]:
        return ends(releases(rig).get("default", "a", number), rig)

    rig.start_apart()
    for scale in (1, 2):
        pushed(rig, python_model(tmp_path / f"m{scale}", scale=scale))
    direct = {"strategy": "direct"}
    apply(rig, model="m@1", rollout=direct)
    until(lambda: serving(rig) == "default.a-1", "it serves", PATIENCE_S)
    apply(rig, model="m@2", rollout=direct)
    until(lambda: phase(rig, 2)[1] == "promoted", "the rollout ends", PATIENCE_S)
    rig.kill()
    rig.start()
    number, _ = phase(rig, 2)
    until(lambda: of(2) == [(number, "promoted")], "its end is in the dossier", PATIENCE_S)
    assert releases(rig).get("default", "a", 2).verdict.startswith(f"{number} promoted (direct): ")
    held = {"strategy": "canary", "steps": [5], "requests_min": 1_000_000}
    apply(rig, model="m@1", rollout=held, resources={"cpu": 0.3, "memory": "256Mi"})
    until(lambda: phase(rig, 3)[1] == "stepping", "the canary has its share", PATIENCE_S)
    RolloutClient(rig.client.connection).say("default", "a", "abort")
    until(lambda: len(of(3)) == 1, "its end is in the dossier", PATIENCE_S)
    RolloutClient(rig.client.connection).say("default", "a", "retry")
    until(lambda: phase(rig, 3)[1] == "stepping", "it is tried again", PATIENCE_S)
    apply(rig, model="m@2", rollout=direct)
    until(lambda: len(of(3)) == 2, "and that end is there too", PATIENCE_S)
    rig.kill()
    rig.start()
    assert [verdict for _, verdict in of(3)] == ["rolled-back", "superseded"]
    assert of(2) == [(number, "promoted")]


RECREATE = {"strategy": "recreate"}


def numbers(view: ReleaseView, kind: str) -> dict[str, float]:
    return found(view, kind).numbers


def test_gates_of_recreate_are_asked_in_the_place_of_what_served_while_requests_wait(rig: Rig, digits: Path) -> None:
    """What is refused gives the place back by itself, what passes keeps it; no request is lost or meets the bad one."""
    rig.start_agent()
    golden = digits / "golden.jsonl"
    gates = {"golden": {"set": "endpoint"}, "profile": {"requests": 40, "latency_worse_max": 50, "memory_worse_max": 9}}
    spec = {"rollout": RECREATE, "gates": gates}
    for name in ("good", "bad", "narrow"):
        pushed(rig, digits / f"{name}.onnx")
    apply(rig, model="m@1", rollout=RECREATE)
    until(lambda: serving(rig) == "default.a-1", "it serves", PATIENCE_S)
    status, body, _ = rig.request("PUT", f"/api/v1/blobs/{digest_of(golden)}", golden.read_bytes())
    assert status < 300, body
    status, body, _ = rig.request("PUT", "/api/v1/projects/default/endpoints/a/golden", {"digest": digest_of(golden)})
    assert status == 200, body
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}
    with traffic(rig, json.dumps({"inputs": [tensor]}).encode()) as said:
        apply(rig, model="m@3", **spec)  # what needs no replica is refused before anybody goes
        until(lambda: phase(rig, 2)[1] == "refused", "its inputs are others", PATIENCE_S)
        apply(rig, model="m@2", **spec)
        until(lambda: phase(rig, 3)[1] == "rolled-back", "what served is back", PATIENCE_S)
        count = len(said)
        until(lambda: len(said) > count + 20, "and answers", PATIENCE_S)
    bad = decided(rig, 3)
    assert bad.dossier.swapped
    assert bad.dossier.because.startswith("golden: ")
    assert numbers(bad, "golden")["accuracy"] < 0.5 < 0.9 < numbers(bad, "golden")["accuracy_serving"]
    assert found(bad, "profile").state == "skipped"
    assert set(said) == {"1"}
    assert "rolled-back" in bad.verdict or until(lambda: releases(rig).get("default", "a", 3).verdict, "it is told")
    timeline = [each.event for each in RolloutClient(rig.client.connection).newest("default", "a").timeline]
    assert timeline == ["began", "measured", "cleared", "refused", "returned"]
    until(lambda: not list(rig.home.gates.iterdir()), "what was noted is gone", PATIENCE_S)

    with traffic(rig, json.dumps({"inputs": [tensor]}).encode()) as said:
        apply(rig, model="m@1", resources={"cpu": 0.3, "memory": "256Mi"}, **spec)
        until(lambda: phase(rig, 4)[1] == "promoted", "it is let through", PATIENCE_S)
    good = decided(rig, 4)
    assert (found(good, "golden").state, found(good, "profile").state) == ("passed", "passed")
    assert numbers(good, "golden")["accuracy_serving"] == numbers(good, "golden")["accuracy"]
    assert numbers(good, "profile")["median_serving_s"] > 0
    assert set(said) == {"1"}


def digest_of(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("moment", ["asked before it goes", "golden: runs", "profile: runs"])
def test_a_control_that_is_killed_while_gates_of_recreate_run_still_knows_what_served(
    rig: Rig, tmp_path: Path, moment: str
) -> None:
    rig.start_apart()
    pushed(rig, python_model(tmp_path / "m1", work=SLOW))
    apply(rig, model="m@1", rollout=RECREATE)
    until(lambda: serving(rig) == "default.a-1", "it serves", PATIENCE_S)
    golden = examples(tmp_path / "golden.jsonl", *[([1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0])] * 40)
    pushed(rig, python_model(tmp_path / "m2", work=SLOW, scale=2), golden)
    apply(rig, model="m@2", rollout=RECREATE, gates={"profile": {"requests": 40}})

    def is_there() -> bool:
        try:
            dossier = releases(rig).get("default", "a", 2).dossier
        except NotFound:
            return False
        assert dossier.state == "pending", "it was decided before it could be seen"
        return moment in dossier.because

    until(is_there, moment, PATIENCE_S)
    rig.kill()
    rig.start()
    assert serving(rig) == "default.a-1"
    view = decided(rig, 2)
    assert view.dossier.state == "complete", view.dossier.because
    assert numbers(view, "golden")["rmse_serving"] == 1.0
    assert numbers(view, "profile")["median_serving_s"] > 0.05
    until(lambda: serving(rig) == "default.a-2", "it takes the traffic", PATIENCE_S)


def test_what_served_is_not_guessed_where_its_answers_were_lost(rig: Rig, tmp_path: Path) -> None:
    rig.start_apart()
    pushed(rig, python_model(tmp_path / "m1"))
    apply(rig, model="m@1", rollout=RECREATE)
    until(lambda: serving(rig) == "default.a-1", "it serves", PATIENCE_S)
    golden = examples(tmp_path / "golden.jsonl", *[([1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0])] * 60)
    pushed(rig, python_model(tmp_path / "m2", work=SLOW, scale=2), golden)
    apply(rig, model="m@2", rollout=RECREATE)
    until(lambda: "runs" in because(rig, 2), "its examples are asked", PATIENCE_S)
    rig.kill()
    for file in rig.home.gates.iterdir():
        file.unlink()
    rig.start()
    view = decided(rig, 2)
    assert (
        view.dossier.because
        == "golden: what default.a-1 said before it went is lost; `stoker rollouts retry` asks anew"
    )
    until(lambda: phase(rig, 2)[1] == "rolled-back", "what served is back", PATIENCE_S)
    assert serving(rig) == "default.a-1"
    RolloutClient(rig.client.connection).say("default", "a", "retry")
    until(lambda: phase(rig, 2)[1] == "promoted", "with its answers known it is let through", PATIENCE_S)
    states = [
        each.dossier.state for each in releases(rig).all("default", "a") if each.dossier.revision == "default.a-2"
    ]
    assert states == ["complete", "refused"]


def because(rig: Rig, number: int) -> str:
    try:
        return releases(rig).get("default", "a", number).dossier.because
    except NotFound:
        return ""


def test_one_key_of_role_deployer_drives_a_release_from_the_push_to_the_way_back(rig: Rig, tmp_path: Path) -> None:
    """What a pipeline does, with the command, from a machine that has nothing but the address and the key."""
    rig.start_agent()
    made = access.create_key(rig.client, "default", "ci", KeyAccess(role="deployer"))
    api = {"STOKER_API": f"http://127.0.0.1:{rig.port + 1}", "STOKER_KEY": made.key}

    def run(*arguments: str, code: int = 0) -> str:
        done = stoker_here(*arguments, home=tmp_path / "elsewhere", **api)
        assert done.returncode == code, (arguments, done.stdout + done.stderr)
        return done.stdout

    golden = str(examples(tmp_path / "golden.jsonl", *[([1.0] * 4, [1.0] * 4)] * 40))
    for scale in (1, 2):
        run("push", "m", str(python_model(tmp_path / f"m{scale}", scale=scale)), "--alias", f"v{scale}")
    run("deploy", "a", "--model", "m@1", "--cpu", "0.2", "--wait", "--timeout", "180")
    run("golden", "set", "a", golden)
    run("golden", "show", "a")
    run("policy", "list")
    refused = ("deploy", "a", "--model", "m@2", "--strategy", "blue-green", "--wait", "--timeout", "180")
    run(*refused, code=Exit.REFUSED)
    run("release", "wait", "a", "--timeout", "180", "--junit", str(tmp_path / "gates.xml"), code=Exit.REFUSED)
    run("release", "show", "a", "--export", str(tmp_path / "dossier.json"))
    run("release", "verify", str(tmp_path / "dossier.json"))
    run("golden", "remove", "a")
    run("rollouts", "retry", "a", "--reason", "other examples")
    until(lambda: phase(rig, 2)[1] in ("keeping", "promoted"), "it serves", PATIENCE_S)
    run("rollouts", "show", "a", "-o", "json")
    run("rollback", "a", "--wait")
    run("models", "inspect", "m@2")
    assert serving(rig) == "default.a-1"
    run("keys", "list", code=Exit.NOT_ALLOWED)
    run("trust", "policy", "required", code=Exit.NOT_ALLOWED)
