"""Gates where both revisions have no room: what served is asked before it goes, and comes back where it must."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.types.releases import ReleaseView
from tests.control.release_scene import DIGIT, ONES, PACE_S, PACED, Case, digits, examples, held_model, result
from tests.control.rig import Rig, is_served, python_model, until

RECREATE = {"strategy": "recreate"}


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An agent and a control that tests kill and start again."""
    rig = Rig(tmp_path_factory.mktemp("killed") / "h")
    try:
        rig.start_apart()
        yield rig
    finally:
        rig.close()


def numbers(view: ReleaseView, kind: str) -> dict[str, float]:
    return result(view, kind).numbers


def test_gates_of_recreate_are_asked_in_the_place_of_what_served_while_requests_wait(
    rig: Rig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is refused gives the place back by itself, what passes keeps it; no request is lost or meets the bad one."""
    rig.start_agent()
    case, models = Case(rig, "a"), digits(tmp_path_factory.mktemp("digits"))
    golden = (models / "golden.jsonl").read_bytes()
    gates = {"golden": {"set": "endpoint"}, "profile": {"requests": 40, "latency_worse_max": 50, "memory_worse_max": 9}}
    spec = {"rollout": RECREATE, "gates": gates}
    for name in ("good", "bad", "narrow"):
        case.push(models / f"{name}.onnx")
    case.apply(1, rollout=RECREATE)
    case.serves(1)
    digest = f"sha256:{hashlib.sha256(golden).hexdigest()}"
    status, body, _ = rig.request("PUT", f"/api/v1/blobs/{digest}", golden)
    assert status < 300, body
    status, body, _ = rig.request("PUT", "/api/v1/projects/default/endpoints/a/golden", {"digest": digest})
    assert status == 200, body
    until(lambda: is_served(rig), "the gateway knows it")
    with case.traffic(DIGIT) as said:
        case.apply(3, **spec)  # what needs no replica is refused before anybody goes
        case.goes(2, "refused", "its inputs are others")
        case.apply(2, **spec)
        case.goes(3, "rolled-back", "what served is back")
        count = len(said)
        until(lambda: len(said) > count + 20, "and answers")
    bad = case.decided(3)
    assert bad.dossier.swapped
    assert bad.dossier.because.startswith("golden: ")
    assert numbers(bad, "golden")["accuracy"] < 0.5 < 0.9 < numbers(bad, "golden")["accuracy_serving"]
    assert result(bad, "profile").state == "skipped"
    assert set(said) == {"1"}
    assert "rolled-back" in bad.verdict or until(lambda: case.release(3).verdict, "it is told")
    timeline = [each.event for each in case.rollouts.newest("default", "a").timeline]
    assert timeline == ["began", "measured", "cleared", "refused", "returned"]
    until(lambda: not list(rig.home.gates.iterdir()), "what was noted is gone")

    with case.traffic(DIGIT) as said:
        case.apply(1, resources={"cpu": 0.3, "memory": "256Mi"}, **spec)
        case.goes(4, "promoted", "it is let through")
    good = case.decided(4)
    assert (result(good, "golden").state, result(good, "profile").state) == ("passed", "passed")
    assert numbers(good, "golden")["accuracy_serving"] == numbers(good, "golden")["accuracy"]
    assert numbers(good, "profile")["median_serving_s"] > 0
    assert set(said) == {"1"}


@pytest.mark.parametrize(
    ("moment", "first_after", "second_after"),
    [("asked before it goes", 70, 0), ("golden: runs", 0, 25), ("profile: runs", 0, 70)],
)
def test_a_control_that_is_killed_while_gates_of_recreate_run_still_knows_what_served(
    apart: Rig, tmp_path: Path, moment: str, first_after: int, second_after: int
) -> None:
    case, gate = Case(apart, f"recreate-{moment[:5]}"), tmp_path / "gate"
    for number, after in ((1, first_after), (2, second_after)):
        folder = tmp_path / f"m{number}"
        is_held = after > 0
        made = held_model(folder, gate=gate, after=after, scale=number) if is_held else None
        golden = examples(tmp_path / "golden.jsonl", *[(ONES, [2.0, 2.0, 2.0, 2.0])] * 40) if number == 2 else None
        case.push(made or python_model(folder, work=PACED, scale=number), golden)
    gate.touch()
    case.apply(1, rollout=RECREATE)
    case.serves(1)
    case.apply(2, rollout=RECREATE, gates={"profile": {"requests": 40, "latency_worse_max": 50}})
    until(lambda: case.is_at(2, moment), moment)
    apart.kill()
    gate.unlink()
    apart.start()
    assert case.serving == case.revision(1)
    view = case.decided(2)
    assert view.dossier.state == "complete", view.dossier.because
    assert numbers(view, "golden")["rmse_serving"] == 1.0
    assert numbers(view, "profile")["median_serving_s"] > PACE_S
    case.serves(2, "it takes the traffic")
    case.leave()


def test_what_served_is_not_guessed_where_its_answers_were_lost(apart: Rig, tmp_path: Path) -> None:
    case, gate = Case(apart, "lost"), tmp_path / "gate"
    case.push(python_model(tmp_path / "m1"))
    case.apply(1, rollout=RECREATE)
    case.serves(1)
    golden = examples(tmp_path / "golden.jsonl", *[(ONES, [2.0, 2.0, 2.0, 2.0])] * 60)
    gate.touch()
    case.push(held_model(tmp_path / "m2", gate=gate, after=25), golden)
    case.apply(2, rollout=RECREATE)
    until(lambda: case.is_at(2, "runs"), "its examples are asked")
    apart.kill()
    gate.unlink()
    for file in apart.home.gates.iterdir():
        file.unlink()
    apart.start()
    because = case.decided(2).dossier.because
    gone = f"what {case.revision(1)} said before it went is lost"
    assert because == f"golden: {gone}; `stoker rollouts retry` asks anew"
    case.goes(2, "rolled-back", "what served is back")
    assert case.serving == case.revision(1)
    case.rollouts.say("default", case.name, "retry")
    case.goes(2, "promoted", "with its answers known it is let through")
    every = [each.dossier for each in case.releases.all("default", case.name)]
    assert [each.state for each in every if each.revision == case.revision(2)] == ["complete", "refused"]
    case.leave()
