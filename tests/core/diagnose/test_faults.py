"""Faults in the simulated endpoint, end to end: what is injected is what is named. `python -m bench --only diagnosis`
runs them all, many times, and seeds that nobody looked at; here a few that take a second.
"""

import asyncio

import pytest

from bench.diagnosis.parts import Knobs
from bench.diagnosis.recorder import ENDPOINT, PROJECT
from bench.diagnosis.trial import Length, healthy, run
from bench.diagnosis.world import World
from stoker.core.diagnose.causes import CauseKind
from stoker.observe.incidents.compared import NOWHERE, Site
from stoker.observe.incidents.explain import explain
from stoker.telemetry.snapshot import Snapshot

SHORT = Length(before_s=720.0, after_s=300.0)


@pytest.mark.parametrize("kind", ["cold_start", "change", "bad_replica"])
def test_the_fault_that_was_injected_is_named_first(kind: CauseKind) -> None:
    trial = run(kind, 7, SHORT)
    causes = trial.found.diagnosis.causes
    assert trial.rank == 1, [(cause.kind, cause.confidence, cause.evidence) for cause in causes]
    assert causes[0].evidence


def test_a_lone_replica_that_stands_still_and_is_killed_for_it_is_named_and_not_the_load() -> None:
    world = World(11, Knobs(rate=0.6, replicas_min=1, replicas_max=1))
    world.run(1200.0)
    (one,) = world.replicas
    world.stand_still(one, 30.0)
    world.run(1380.0)
    found = asyncio.run(explain(world.recorder, PROJECT, ENDPOINT, world.now_s)).diagnosis
    assert found.causes[0].kind == "bad_replica", [(each.kind, each.confidence) for each in found.causes]
    assert found.causes[0].where == f"replica {one.name}"


def test_half_an_hour_with_a_deploy_and_scaling_and_no_fault_is_no_incident() -> None:
    assert healthy(3, 0.5, every_s=600.0) == []


def test_an_endpoint_without_any_numbers_is_explained_as_healthy() -> None:
    class Nothing:
        fine_s = 5.0

        async def change(self, *_: object) -> object:
            return Snapshot("", 0.0)

        async def points(self, *_: object) -> list[object]:
            return []

        async def changes_of(self, *_: object) -> list[object]:
            return []

        async def site(self, *_: object) -> Site:
            return NOWHERE

    found = asyncio.run(explain(Nothing(), PROJECT, ENDPOINT, 1e9))
    assert not found.diagnosis.is_wrong
