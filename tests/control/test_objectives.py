"""A whole platform that keeps, or breaks, what its objectives say: each kind judged from requests that were made."""

import time
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A platform whose endpoint `tenants` was asked already: it is judged while another test waits."""
    folder = tmp_path_factory.mktemp("objectives")
    rig = Rig(folder / "h")
    try:
        rig.start_agent()
        ask_as_tenants(rig, folder)
        yield rig
    finally:
        rig.close()


def ask_as_tenants(rig: Rig, folder: Path) -> None:
    rig.push("t", python_model(folder / "model", work="time.sleep(float(inputs['x'].max()) / 10)"))
    quick = {"sli": "latency", "under": "1500ms", "target": 0.9}
    serve(rig, "tenants", "t", slos=[{"name": "acme", "tenant": "acme", **quick}, {"name": "every", **quick}])
    acme = rig.client.create_key("default", "acme", admin=False, expires_in_s=None, limits=KeyLimits(tenant="acme")).key
    until(lambda: is_served(rig, "tenants", key=acme), "the gateway knows the tenant's key")

    def ask(key: str, tenths: float) -> None:
        infer(rig, "tenants", value=tenths, Authorization=f"Bearer {key}")

    for _ in range(2):
        ask(acme, 0.0)
    with ThreadPoolExecutor(3) as slow:  # whether or not one waits for the other, each takes longer than is promised
        list(slow.map(lambda key: ask(key, 20.0), (acme, rig.key, rig.key)))


def attained(rig: Rig, endpoint: str, name: str) -> float | None:
    return next((each.attained for each in rig.client.slos(f"default/{endpoint}") if each.name == name), None)


def serve(rig: Rig, name: str, model: str, **spec: object) -> None:
    """Ask for the model, and return when something serves; after a change that may still be what did before."""
    rig.client.apply(msgspec.json.encode(endpoint(name, model, **spec)))
    until(lambda: rig.client.endpoint("default", name).status.replicas_ready, f"{model} is ready")
    until(lambda: is_served(rig, name), "the gateway knows it")


def test_answers_of_a_version_that_is_too_old_are_bad_until_a_newer_one_serves(platform: Rig, tmp_path: Path) -> None:
    rig, week_s = platform, 7 * 86_400.0
    rig.push("m", python_model(tmp_path / "old"), lineage={"trained_at_s": time.time() - week_s - 60})
    rig.push("m", python_model(tmp_path / "new", scale=2), lineage={"trained_at_s": time.time() - week_s / 2})
    fresh = {"name": "fresh", "sli": "freshness", "under": "7d", "target": 0.9}
    serve(rig, "a", "m@1", slos=[fresh])
    answers = [infer(rig), infer(rig), infer(rig)]
    until(lambda: attained(rig, "a", "fresh") == 0.0, "the old version's answers are bad")
    serve(rig, "a", "m@2", slos=[fresh])
    while answers[-1] != [2.0] * 4:
        answers.append(infer(rig))
    good = pytest.approx(1 / len(answers))
    until(lambda: attained(rig, "a", "fresh") == good, "the new version's answer is good")


def test_the_times_of_one_tenant_are_judged_by_themselves(platform: Rig) -> None:
    until(lambda: attained(platform, "tenants", "every") == pytest.approx(2 / 5), "every answer is judged")
    assert attained(platform, "tenants", "acme") == pytest.approx(2 / 3)


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
