"""A whole platform that keeps, or breaks, what its objectives say: each kind judged from requests that were made."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from stoker.control import specs
from stoker.store import endpoints, projects
from stoker.store.engine import Connection, Database
from stoker.types.keys import KeyLimits
from stoker.types.resources import Backend, Endpoint, EndpointSpec, Metadata, Project, ProjectMetadata
from stoker.types.slos import Objective
from tests.control.rig import Rig, endpoint, infer, is_served, python_model, until
from tests.databases import migrated


def attained(rig: Rig, name: str) -> float | None:
    return next((each.attained for each in rig.client.slos("default/a") if each.name == name), None)


def serve(rig: Rig, model: str, **spec: object) -> None:
    """Ask for the model, and return when something serves; after a change that may still be what did before."""
    rig.client.apply(msgspec.json.encode(endpoint(model=model, **spec)))
    until(lambda: rig.client.endpoint("default", "a").status.replicas_ready, f"{model} is ready")
    until(lambda: is_served(rig), "the gateway knows it")


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


def test_the_times_of_one_tenant_are_judged_by_themselves(rig: Rig, tmp_path: Path) -> None:
    rig.start_agent()
    rig.push("m", python_model(tmp_path / "model", work="time.sleep(float(inputs['x'].max()) / 10)"))
    quick = {"sli": "latency", "under": "1500ms", "target": 0.9}
    serve(rig, "m", slos=[{"name": "acme", "tenant": "acme", **quick}, {"name": "every", **quick}])
    acme = rig.client.create_key("default", "acme", admin=False, expires_in_s=None, limits=KeyLimits(tenant="acme")).key
    until(lambda: is_served(rig, key=acme), "the gateway knows the tenant's key")
    for _ in range(2):
        infer(rig, Authorization=f"Bearer {acme}", value=0.0)
    with ThreadPoolExecutor(3) as slow:  # whether or not one waits for the other, each takes longer than is promised
        list(slow.map(lambda key: infer(rig, value=20.0, Authorization=f"Bearer {key}"), (acme, rig.key, rig.key)))
    until(lambda: attained(rig, "every") == pytest.approx(2 / 5), "every answer is judged")
    assert attained(rig, "acme") == pytest.approx(2 / 3)


def test_more_tenants_than_can_be_counted_are_refused_with_how_many_there_may_be(tmp_path: Path) -> None:
    engine = migrated(tmp_path / "state.db")
    database = Database(engine)

    def promising(name: str, tenants: int) -> Endpoint:
        slos = tuple(Objective(name=f"o-{number}", target=0.9, tenant=f"t-{number}") for number in range(tenants))
        return Endpoint(Metadata(name), EndpointSpec(backends=(Backend("b"),), slos=slos))

    def fill(connection: Connection) -> None:
        projects.put(connection, Project(ProjectMetadata("default")), 1.0)
        endpoints.put(connection, Endpoint(Metadata("b"), EndpointSpec(model="m")), 0, 1.0)
        for number in range(31):
            endpoints.put(connection, promising(f"a-{number}", 16), 0, 1.0)

    database.write(fill)
    database.write(lambda connection: specs.apply(connection, [promising("last", 4)], 1.0))
    with pytest.raises(specs.Refusal, match=r"spec.slos: 501 tenants of endpoints .* at most 500") as refused:
        database.write(lambda connection: specs.apply(connection, [promising("last", 5)], 1.0))
    assert [each.name for each in refused.value.problems] == ["last"]
    database.write(lambda connection: specs.apply(connection, [promising("last", 0)], 1.0))
    database.close()
