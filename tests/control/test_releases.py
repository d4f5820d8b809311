"""Gates on a live platform: what does not pass takes no request, whoever dies meanwhile, and a way back is free."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.cli.exits import Exit
from stoker.client import access
from stoker.protocol import dossier as wire
from stoker.protocol import signing
from stoker.types.access import KeyAccess
from stoker.types.errors import Conflict, RefusedArtifact
from stoker.types.releases import ReleaseView
from tests.cli.run import stoker_here
from tests.control.release_scene import DIGIT, ONES, PACED, Case, digits, examples, held_model, pushed, result
from tests.control.rig import Rig, infer, is_served, python_model, until


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A platform whose processes no test kills."""
    rig = Rig(tmp_path_factory.mktemp("releases") / "h")
    try:
        rig.start_agent()
        yield rig
    finally:
        rig.close()


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An agent and a control that tests kill and start again."""
    rig = Rig(tmp_path_factory.mktemp("killed") / "h")
    try:
        rig.start_apart()
        yield rig
    finally:
        rig.close()


def test_a_model_of_shuffled_labels_and_one_of_other_inputs_never_take_a_request(
    platform: Rig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    case, models = Case(platform, "shuffled"), digits(tmp_path_factory.mktemp("digits"))
    golden = models / "golden.jsonl"
    case.push(models / "good.onnx", golden)
    case.apply(1)
    first = case.decided(1)
    assert first.dossier.state == "complete"
    assert [each.state for each in first.dossier.results] == ["skipped", "skipped", "passed", "skipped"]
    until(lambda: is_served(platform, case.name), "it serves")
    case.push(models / "bad.onnx", golden)
    case.push(models / "narrow.onnx")
    with case.traffic(DIGIT) as said:
        case.apply(2)
        bad = case.decided(2)
        case.condition("Released", "GoldenFailed")
        case.apply(3)
        narrow = case.decided(3)
        message = case.condition("Released", "SchemaIncompatible")
        until(lambda: len(said) > 20, "it is asked all the while")
    assert set(said) == {"1"}, set(said)
    assert case.serving == case.revision(1)
    for reference, code in (
        (f"{case.name}@1", Exit.OK), (f"{case.name}@2", Exit.REFUSED), (f"{case.name}@9", Exit.TIMED_OUT),
        ("nobody", Exit.NOT_FOUND),
    ):  # fmt: skip
        assert stoker_here("release", "wait", reference, "--timeout", "0", home=platform.home.root).returncode == code
    assert bad.dossier.state == narrow.dossier.state == "refused"
    assert "accuracy" in bad.dossier.because
    assert "chance does not explain it" in bad.dossier.because
    assert result(bad, "golden").numbers["accuracy_serving"] > 0.8
    assert "input 'X' takes 32 in dimension 1, where clients send 64" in message
    public = signing.public_key(case.releases.key().public_key)
    for view in (first, bad, narrow):
        said_of = wire.verify(view.statements[0], public)
        assert said_of["predicate"]["revision"] == view.dossier.revision
        assert said_of["predicate"]["state"] == view.dossier.state
    # Another name has no clients that it could break.
    other = Case(platform, "narrow")
    other.push(models / "narrow.onnx")
    other.apply(1)
    assert other.decided(1).dossier.state == "complete"
    # What was refused is judged anew when the gates change, and a way back meets none.
    case.apply(1, gates={"golden": {"at_least": 1.0}})
    case.condition("Progressing", "Complete", "the old one is asked for again")
    assert case.serving == case.revision(1)
    case.leave()
    other.leave()


def test_a_way_back_passes_whatever_the_gates_are_and_past_what_never_served(platform: Rig, tmp_path: Path) -> None:
    case, client = Case(platform, "back"), platform.client
    for scale in (1, 2, 3):
        case.push(python_model(tmp_path / f"m{scale}", scale=scale))
    for number in (1, 2):
        case.apply(number)
        case.serves(number)
    golden = examples(tmp_path / "golden.jsonl", *[(ONES, [9.5, 9.5, 9.5, 9.5])] * 3)
    data = golden.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    client.put_blob(f"sha256:{digest}", len(data), (data,))
    assert case.releases.set_golden("default", case.name, f"sha256:{digest}").rows == 3
    case.apply(3, gates={"golden": {"at_most": 0.1}})
    assert "at most 0.1 is asked" in case.decided(3).dossier.because
    client.rollback("default", case.name)  # 3 never served: back to what does
    until(lambda: client.endpoint("default", case.name).status.revision == case.revision(2), "2 is asked for")
    client.rollback("default", case.name)
    case.serves(1, "it serves again, though its examples fail")
    until(lambda: is_served(platform, case.name) and infer(platform, case.name) == ONES, "and answers")
    with pytest.raises(Conflict, match="no earlier revision that served"):
        client.rollback("default", case.name)
    case.leave()


@pytest.mark.parametrize(("moment", "after"), [("", 25), ("golden: runs", 25), ("profile: runs", 70)])
def test_a_control_that_is_killed_while_gates_run_makes_the_dossier_again_and_once(
    apart: Rig, tmp_path: Path, moment: str, after: int
) -> None:
    case, gate = Case(apart, f"gates-{moment[:6] or 'begun'}"), tmp_path / "gate"
    case.push(python_model(tmp_path / "m1", work=PACED))
    case.apply(1)
    case.serves(1)
    golden = examples(tmp_path / "golden.jsonl", *[(ONES, [2.0, 2.0, 2.0, 2.0])] * 40)
    gate.touch()
    case.push(held_model(tmp_path / "m2", gate=gate, after=after), golden)
    case.apply(2, gates={"profile": {"requests": 40, "latency_worse_max": 50}})
    until(lambda: case.is_at(2, moment), moment)
    apart.kill()
    gate.unlink()
    apart.start()
    view = case.decided(2)
    assert view.dossier.state == "complete", view.dossier.because
    assert (result(view, "golden").state, result(view, "profile").state) == ("passed", "passed")
    assert result(view, "profile").numbers["requests"] == 40
    case.serves(2, "it takes the traffic")
    apart.kill()
    apart.start()
    again = case.release(2)
    assert (again.number, again.dossier, again.statements[:1]) == (view.number, view.dossier, view.statements[:1])
    found = [each.dossier.revision for each in case.releases.all("default", case.name)]
    assert found == [case.revision(2), case.revision(1)]
    case.leave()


def test_examples_that_do_not_fit_the_model_are_refused_with_their_line_at_the_push(apart: Rig, tmp_path: Path) -> None:
    golden = examples(tmp_path / "golden.jsonl", ([1.0] * 4, [1.0] * 4), ([1.0] * 5, [1.0] * 4))
    with pytest.raises(RefusedArtifact, match=r"stoker.golden.jsonl: line 2: input 'x' has the shape \[1, 5\]"):
        pushed(apart, "unfit", python_model(tmp_path / "m"), golden)
    done = stoker_here("push", "unfit", tmp_path / "m", "--golden", golden, home=apart.home.root)
    assert f"{golden}: line 2: input 'x'" in done.stderr  # as it is called here
    golden.write_text('{"input": [1,1,1,1]}')
    with pytest.raises(RefusedArtifact, match="line 1: no `expected`"):
        pushed(apart, "unfit", python_model(tmp_path / "n"), golden)


def test_examples_that_were_changed_on_the_disk_judge_nobody_until_they_are_set_again(
    platform: Rig, tmp_path: Path
) -> None:
    case, right = Case(platform, "damaged"), [2.0, 2.0, 2.0, 2.0]
    golden = examples(tmp_path / "golden.jsonl", *[(ONES, right)] * 5)

    def said(*words: str) -> tuple[int, str]:
        done = stoker_here(*words, home=platform.home.root)
        return done.returncode, done.stdout + done.stderr

    case.push(python_model(tmp_path / "m1"))
    case.apply(1)
    case.serves(1)
    assert said("golden", "set", case.name, str(golden))[0] == Exit.OK
    digest = hashlib.sha256(golden.read_bytes()).hexdigest()
    (blob,) = platform.home.root.glob(f"blobs/*/{digest}")
    blob.chmod(0o600)
    blob.write_text(golden.read_text().replace("2.0", "7.0"))  # as long, and examples too
    case.push(python_model(tmp_path / "m2", work="pass  # another version"))
    case.apply(2)
    refused = case.decided(2).dossier
    assert (refused.state, "`stoker golden set` them once more" in refused.because) == ("refused", True), refused
    case.apply(2, gates={"golden": {"worse_max": 0.5}})
    code, words = said("release", "wait", case.name, "--timeout", "20")
    assert (code, f"stoker rollouts retry {case.name}" in words) == (Exit.REFUSED, True), words
    assert said("golden", "set", case.name, str(golden))[0] == Exit.OK
    assert case.release(2).dossier == refused, "nobody judges it by itself"
    assert said("rollouts", "retry", case.name)[0] == Exit.OK
    case.serves(2, "its examples are as they were set")
    case.leave()


def ends(view: ReleaseView, case: Case) -> list[tuple[int, str]]:
    """Return the ends of rollouts that are signed into a dossier: their numbers and what became of them."""
    public = signing.public_key(case.releases.key().public_key)
    said = [wire.verify(each, public) for each in view.statements]
    assert said[0]["predicateType"] == wire.GATES
    assert all(each["predicateType"] == wire.ROLLOUT for each in said[1:])
    return [(each["predicate"]["rollout"], each["predicate"]["verdict"]) for each in said[1:]]


def test_how_each_rollout_ended_is_signed_into_its_dossier_once_whoever_dies_meanwhile(
    apart: Rig, tmp_path: Path
) -> None:
    case = Case(apart, "ended")

    def of(number: int) -> list[tuple[int, str]]:
        return ends(case.release(number), case)

    for scale in (1, 2):
        case.push(python_model(tmp_path / f"m{scale}", scale=scale))
    direct = {"strategy": "direct"}
    case.apply(1, rollout=direct)
    case.serves(1)
    case.apply(2, rollout=direct)
    case.goes(2, "promoted", "the rollout ends")
    apart.kill()
    apart.start()
    number, _ = case.phase(2)
    until(lambda: of(2) == [(number, "promoted")], "its end is in the dossier")
    assert case.release(2).verdict.startswith(f"{number} promoted (direct): ")
    held = {"strategy": "canary", "steps": [5], "requests_min": 1_000_000}
    case.apply(1, rollout=held, resources={"cpu": 0.3, "memory": "256Mi"})
    case.goes(3, "stepping", "the canary has its share")
    case.rollouts.say("default", case.name, "abort")
    until(lambda: len(of(3)) == 1, "its end is in the dossier")
    case.rollouts.say("default", case.name, "retry")
    case.goes(3, "stepping", "it is tried again")
    case.apply(2, rollout=direct)
    until(lambda: len(of(3)) == 2, "and that end is there too")
    apart.kill()
    apart.start()
    assert [verdict for _, verdict in of(3)] == ["rolled-back", "superseded"]
    assert of(2) == [(number, "promoted")]
    case.leave()


def test_one_key_of_role_deployer_drives_a_release_from_the_push_to_the_way_back(platform: Rig, tmp_path: Path) -> None:
    """What a pipeline does, with the command, from a machine that has nothing but the address and the key."""
    case = Case(platform, "ci")
    made = access.create_key(platform.client, "default", "ci", KeyAccess(role="deployer"))
    api = {"STOKER_API": f"http://127.0.0.1:{platform.port + 1}", "STOKER_KEY": made.key}

    def run(*arguments: str, code: int = 0) -> str:
        done = stoker_here(*arguments, home=tmp_path / "elsewhere", **api)
        assert done.returncode == code, (arguments, done.stdout + done.stderr)
        return done.stdout

    golden = str(examples(tmp_path / "golden.jsonl", *[(ONES, ONES)] * 40))
    for scale in (1, 2):
        run("push", "ci", str(python_model(tmp_path / f"m{scale}", scale=scale)), "--alias", f"v{scale}")
    wait = ("--wait", "--timeout", "180")
    run("deploy", "ci", "--model", "ci@1", "--cpu", "0.2", *wait)
    run("golden", "set", "ci", golden)
    run("golden", "show", "ci")
    run("policy", "list")
    run("deploy", "ci", "--model", "ci@2", "--strategy", "blue-green", *wait, code=Exit.REFUSED)
    run("release", "wait", "ci", "--timeout", "180", "--junit", str(tmp_path / "gates.xml"), code=Exit.REFUSED)
    run("release", "show", "ci", "--export", str(tmp_path / "dossier.json"))
    run("release", "verify", str(tmp_path / "dossier.json"))
    run("golden", "remove", "ci")
    run("rollouts", "retry", "ci", "--reason", "other examples")
    until(lambda: case.phase(2)[1] in ("keeping", "promoted"), "it serves")
    run("rollouts", "show", "ci", "-o", "json")
    run("rollback", "ci", "--wait")
    run("models", "inspect", "ci@2")
    assert case.serving == case.revision(1)
    run("keys", "list", code=Exit.NOT_ALLOWED)
    run("trust", "policy", "required", code=Exit.NOT_ALLOWED)
    case.leave()
