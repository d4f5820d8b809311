"""A whole platform that keeps, or breaks, what its objectives say: each kind judged from requests that were made."""

import time
from pathlib import Path

import msgspec
import pytest

from tests.control.rig import Rig, endpoint, infer, python_model, until

READY_S = 30.0


def attained(rig: Rig, name: str) -> float | None:
    return next((each.attained for each in rig.client.slos("default/a") if each.name == name), None)


def serve(rig: Rig, model: str, **spec: object) -> None:
    """Ask for the model, and return when something serves; after a change that may still be what did before."""
    rig.client.apply(msgspec.json.encode(endpoint(model=model, **spec)))
    until(lambda: rig.client.endpoint("default", "a").status.replicas_ready, f"{model} is ready", READY_S)


def test_answers_of_a_version_that_is_too_old_are_bad_until_a_newer_one_serves(rig: Rig, tmp_path: Path) -> None:
    rig.start_agent()
    week_s = 7 * 86_400.0
    rig.push("m", python_model(tmp_path / "old"), lineage={"trained_at_s": time.time() - week_s - 60})
    rig.push("m", python_model(tmp_path / "new", scale=2), lineage={"trained_at_s": time.time() - week_s / 2})
    fresh = {"name": "fresh", "sli": "freshness", "under": "7d", "target": 0.9}
    serve(rig, "m@1", slos=[fresh])
    answers = [infer(rig), infer(rig), infer(rig)]
    until(lambda: attained(rig, "fresh") == 0.0, "the old version's answers are bad")
    serve(rig, "m@2", slos=[fresh])
    while answers[-1] != [2.0] * 4:
        answers.append(infer(rig))
    until(lambda: attained(rig, "fresh") == pytest.approx(1 / len(answers)), "the new version's answer is good")
