"""Quotas of keys, storage and GPU-hours where they are stored: what is refused, what never is, and how they stand."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stoker.control import allowances, issuing, quotas, specs
from stoker.control.issuing import PLATFORM, Wish
from stoker.core.cost.attribute import ReplicaTime
from stoker.core.cost.money import HOUR_MS
from stoker.core.cost.timesheet import Sheet
from stoker.store import costs, models, projects
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry
from stoker.types.errors import OverQuota
from stoker.types.ids import Digest, ModelName
from stoker.types.models import FileEntry
from stoker.types.projects import ProjectSpec
from stoker.types.quotas import ProjectQuota
from stoker.types.resources import Endpoint, Project, ProjectMetadata, Replicas, Resources
from tests.databases import migrated
from tests.store import rows

NOW_S = 1_800_000_000.0  # 2027-01-15, 08:00 UTC
MONTH_S = 1_798_761_600  # its first


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = migrated(tmp_path / "state.db")
    made = Database(engine)
    made.write(lambda connection: projects.put(connection, rows.project(), 1.0))
    yield made
    made.close()


def bound(database: Database, **quota: object) -> None:
    there = rows.project()
    spec = ProjectSpec(quota=ProjectQuota(**quota))  # type: ignore[arg-type]
    database.write(lambda connection: projects.put(connection, msgspec.structs.replace(there, spec=spec), 1.0))


def bound_all(database: Database, **quota: object) -> None:
    database.write(lambda connection: allowances.set_platform(connection, ProjectQuota(**quota)))  # type: ignore[arg-type]


def key(database: Database, expires_at_s: float = 0.0) -> None:
    wish = Wish(rows.DEFAULT, "k", expires_at_s)
    database.write(lambda connection: issuing.create(connection, PLATFORM, wish, NOW_S))


def test_the_key_too_many_is_refused_and_an_expired_one_counts_no_more(database: Database) -> None:
    bound(database, keys=2)
    key(database)
    key(database, expires_at_s=NOW_S + 1)
    with pytest.raises(OverQuota, match="project 'default': it has 2 keys, the quota is 2"):
        key(database)
    later = NOW_S + 2
    wish = Wish(rows.DEFAULT, "k", 0.0)
    database.write(lambda connection: issuing.create(connection, PLATFORM, wish, later))


def test_the_platform_bounds_the_keys_of_all_projects(database: Database) -> None:
    bound_all(database, keys=1)
    key(database)
    with pytest.raises(OverQuota, match="the platform: it has 1 keys"):
        key(database)


def test_a_soft_quota_refuses_nothing(database: Database) -> None:
    bound(database, keys=0, storage=0, on_limit="warn")
    key(database)
    assert database.read(lambda connection: allowances.room(connection, rows.DEFAULT, allowances.no_samples))[0] is None


def pushed(database: Database, name: str, *files: tuple[str, int], owner: str = rows.DEFAULT) -> None:
    entries = tuple(FileEntry(f"f{at}", Digest(f"sha256:{of:0>64}"), size) for at, (of, size) in enumerate(files))
    manifest = msgspec.structs.replace(rows.manifest(), files=entries)

    def register(connection: Connection) -> None:
        before, _ = allowances.room(connection, owner, allowances.no_samples)
        models.add(connection, ModelName(name), manifest, 1.0, owner)
        allowances.admit_stored(connection, owner, before, allowances.no_samples)

    database.write(register)


def test_a_file_counts_once_in_a_project_and_once_in_each(database: Database) -> None:
    bound(database, storage=100)
    pushed(database, "a", ("1", 60), ("2", 30))
    pushed(database, "b", ("1", 60), ("3", 10))
    with pytest.raises(OverQuota, match="1 B of storage more are asked for, 0 B"):
        pushed(database, "c", ("4", 1))
    pushed(database, "d", ("1", 60), ("2", 30))
    pushed(database, "e", ("1", 60), ("9", 500), owner="other")
    assert sum(database.read(models.files).values()) == 600
    bound_all(database, storage=620)
    with pytest.raises(OverQuota):
        pushed(database, "f", ("10", 21), owner="other")


def test_what_is_over_a_lowered_quota_stays_and_the_same_again_is_no_more(database: Database) -> None:
    pushed(database, "a", ("1", 60))
    bound(database, storage=10)
    pushed(database, "a2", ("1", 60))
    with pytest.raises(OverQuota):
        pushed(database, "b", ("2", 1))


# ---- GPU-hours


def held_gpus(database: Database, hour_s: int, hours: float, gpus: tuple[int, ...] = (0,), milli: int = 1000) -> None:
    held = ReplicaTime(
        "r", "n", "default", "a", "default.a-1", 1.0, 1, busy_ms=int(hours * HOUR_MS), gpus=gpus, gpu_milli=milli
    )
    sheet = Sheet(hour_s * 1000, hour_s * 1000, replicas={"r": held})
    database.write(lambda connection: costs.put_gpu_times(connection, sheet))


def gpu_endpoint(name: str, gpu: float = 1.0, most: int = 1) -> Endpoint:
    there = rows.endpoint(name)
    spec = msgspec.structs.replace(there.spec, resources=Resources(gpu=gpu), replicas=Replicas(1, most))
    return msgspec.structs.replace(there, spec=spec)


def apply(database: Database, wanted: Endpoint) -> str:
    return database.write(lambda connection: specs.apply(connection, [wanted], NOW_S)[0].action)


def test_used_up_gpu_hours_refuse_growth_and_new_versions_and_nothing_else(database: Database) -> None:
    database.write(lambda connection: models.add(connection, ModelName("m"), rows.manifest(), 1.0))
    assert apply(database, gpu_endpoint("a")) == "created"
    bound(database, gpu_hours=10)
    held_gpus(database, MONTH_S - 3600, 1.0)  # the month before
    held_gpus(database, MONTH_S, 1.0, gpus=(0, 1))
    held_gpus(database, MONTH_S + 3600, 1.0, milli=500)
    assert database.read(lambda connection: allowances.spent(connection, NOW_S)) == {}
    assert database.read(lambda connection: costs.gpu_ms(connection, MONTH_S, "default")) == 2.5 * HOUR_MS
    held_gpus(database, MONTH_S + 7200, 1.0, gpus=tuple(range(8)))
    spent = database.read(lambda connection: allowances.spent(connection, NOW_S))
    assert spent == {"default": "project 'default' has used 10.5 of 10 GPU-hours of this month"}
    for wanted in (gpu_endpoint("b"), gpu_endpoint("a", most=2), gpu_endpoint("a", gpu=2.0)):
        with pytest.raises(specs.Refusal, match="`stoker rollback` still works"):
            apply(database, wanted)
    assert apply(database, gpu_endpoint("c", gpu=0.0)) == "created"
    next_month = database.read(lambda connection: allowances.spent(connection, NOW_S + 31 * 86_400))
    assert next_month == {}


# ---- how they stand


def test_what_is_nearly_used_up_is_told_and_counted(database: Database) -> None:
    bound(database, keys=5, endpoints=3, requests_at_once=7)
    for _ in range(4):
        key(database)
    registry = Registry("control")
    watch = quotas.QuotaWatch(registry)
    (signal,) = database.read(lambda connection: watch.signals(connection, NOW_S))
    assert signal.summary == "project default has 80% of its quota of keys"
    assert signal.because == "4 keys of 5 keys"
    key(database)
    assert len(database.read(lambda connection: watch.signals(connection, NOW_S + 1))) == 1, "of a moment ago"
    (signal,) = database.read(lambda connection: watch.signals(connection, NOW_S + 60))
    assert signal.labels["state"] == "all"
    assert registry.snapshot().total("stoker_quota_ratio", project="default", quota="keys") == 1.0
    views = database.read(lambda connection: quotas.views(connection, lambda _: True, NOW_S))
    assert {(each.name, each.used, each.limit, each.state) for each in views} == {
        ("keys", 5.0, 5.0, "used up"),
        ("endpoints", 0.0, 3.0, "within"),
        ("requests_at_once", None, 7.0, "unknown"),
    }
    assert database.read(quotas.routes)[0].requests_at_once == 7


def test_whoever_may_not_see_a_project_sees_none_of_its_quotas(database: Database) -> None:
    bound(database, keys=5)
    bound_all(database, keys=9)
    mine = database.read(lambda connection: quotas.views(connection, lambda name: name == "default", NOW_S))
    assert {each.project for each in mine} == {"default"}
    other = Project(ProjectMetadata("other"), ProjectSpec(quota=ProjectQuota(keys=1)))
    database.write(lambda connection: projects.put(connection, other, 1.0))
    assert len(database.read(lambda connection: quotas.views(connection, lambda name: name == "default", NOW_S))) == 1
