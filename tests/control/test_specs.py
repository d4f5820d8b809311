"""What is refused when it is asked for: because no node could ever run it, or its project may not have so much."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stoker.control import specs
from stoker.core.capacity import Capacity
from stoker.store import endpoints, models, projects
from stoker.store.engine import Connection, Database
from stoker.types.ids import ModelName, NodeName
from stoker.types.mapping import MappedInput, SchemaMapping
from stoker.types.models import Signature, TensorSpec
from stoker.types.placement import PlacementSpec
from stoker.types.projects import ProjectSpec
from stoker.types.quotas import ProjectQuota
from stoker.types.resources import Endpoint, Metadata, Project, ProjectMetadata, Replicas, Resources
from stoker.types.slos import Objective
from tests.databases import migrated
from tests.store import rows

GIB = 1 << 30
NODES = (Capacity(NodeName("n1"), 4.0, 9 * GIB), Capacity(NodeName("n2"), 2.0, 4 * GIB, pool="batch"))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = migrated(tmp_path / "state.db")
    made = Database(engine)

    def fill(connection: Connection) -> None:
        models.add(connection, ModelName("m"), rows.manifest(), 1.0)
        projects.put(connection, rows.project(), 1.0)

    made.write(fill)
    yield made
    made.close()


def endpoint(memory: str, **spec: object) -> Endpoint:
    there = rows.endpoint()
    return msgspec.structs.replace(
        there, spec=msgspec.structs.replace(there.spec, resources=Resources(memory=memory), **spec)
    )


def apply(database: Database, wanted: Endpoint, nodes: tuple[Capacity, ...] = NODES) -> str:
    return database.write(lambda connection: specs.apply(connection, [wanted], 1.0, nodes=nodes)[0].action)


def refused(database: Database, wanted: Endpoint) -> specs.Wrong:
    with pytest.raises(specs.Refusal) as refusal:
        apply(database, wanted)
    return refusal.value.problems[0]


def test_what_no_node_could_take_were_it_empty_is_refused_with_the_arithmetic(database: Database) -> None:
    found = refused(database, endpoint("14.2Gi"))
    assert found.field == "spec.resources"
    assert found.message == (
        "no node can ever take a replica: needs 14.2 GiB memory, the most any node has is 9.0 GiB on node n1 in pool "
        "default"
    )
    found = refused(database, endpoint("5Gi", placement=PlacementSpec(pool="batch")))
    assert "the most any node has is 4.0 GiB on node n2 in pool batch" in found.message
    found = refused(database, endpoint("1Gi", placement=PlacementSpec(pool="gpu")))
    assert (found.field, found.message.partition(": ")[2]) == (
        "spec.placement.pool",
        "no node is in pool gpu; there is batch (1 node), default (1 node)",
    )
    assert apply(database, endpoint("4Gi", placement=PlacementSpec(pool="batch"))) == "created"


def test_what_is_there_already_or_runs_nothing_is_not_refused_for_a_node_that_is_gone(database: Database) -> None:
    large = endpoint("14.2Gi")
    assert apply(database, large, ()) == "created", "no node has said yet what it has"
    assert apply(database, large) == "unchanged"
    labelled = msgspec.structs.replace(large, metadata=msgspec.structs.replace(large.metadata, labels={"by": "ada"}))
    assert apply(database, labelled) == "updated"
    assert refused(database, endpoint("15Gi")).field == "spec.resources"
    assert apply(database, endpoint("15Gi", replicas=Replicas(min=0, max=0))) == "updated"


def held(database: Database, **quota: object) -> None:
    """Hold the project to a quota."""
    spec = ProjectSpec(quota=ProjectQuota(**quota))  # type: ignore[arg-type]
    one = Project(ProjectMetadata("default"), spec)
    database.write(lambda connection: projects.put(connection, one, 1.0))


def named(name: str, most: int) -> Endpoint:
    there = endpoint("1Gi", replicas=Replicas(1, most))
    return msgspec.structs.replace(there, metadata=Metadata(name))


def test_who_would_take_the_project_over_its_quota_is_refused_and_nothing_is_stored(database: Database) -> None:
    held(database, replicas=5, warn_at=0.7)
    assert apply(database, named("a", 3)) == "created"
    found = refused(database, named("b", 3))
    assert found.field == "spec.replicas.max"
    assert "would ask for 6 replicas, the quota is 5 replicas; they ask for 3 replicas now" in found.message
    assert database.read(lambda connection: endpoints.find(connection, "default", "b")) is None
    (result,) = database.write(lambda connection: specs.apply(connection, [named("b", 1)], 1.0, nodes=NODES))
    assert result.warnings == ("4 replicas of the project's quota of 5 replicas are asked for",)


def test_two_endpoints_of_one_manifest_are_counted_together(database: Database) -> None:
    held(database, replicas=5)
    with pytest.raises(specs.Refusal) as refusal:
        database.write(lambda connection: specs.apply(connection, [named("a", 3), named("b", 3)], 1.0, nodes=NODES))
    assert {each.name for each in refusal.value.problems} == {"a", "b"}


def test_a_manifest_may_bring_a_project_with_a_quota_that_its_endpoints_keep(database: Database) -> None:
    small = Project(ProjectMetadata("small"), ProjectSpec(quota=ProjectQuota(endpoints=1)))
    first = msgspec.structs.replace(named("a", 1), metadata=Metadata("a", "small"))
    second = msgspec.structs.replace(first, metadata=Metadata("b", "small"))
    with pytest.raises(specs.Refusal, match="2 endpoints, the quota is 1 endpoint"):
        database.write(lambda connection: specs.apply(connection, [small, first, second], 1.0, nodes=NODES))
    database.write(lambda connection: specs.apply(connection, [small, first], 1.0, nodes=NODES))


def test_an_endpoint_that_goes_makes_room(database: Database) -> None:
    held(database, endpoints=1)
    assert apply(database, named("a", 1)) == "created"
    assert refused(database, named("b", 1)).field == "metadata.name"
    database.write(lambda connection: specs.delete(connection, "default", "a", 2.0))
    assert apply(database, named("b", 1)) == "created"


def mapped(database: Database, **mapping: object) -> Endpoint:
    """Return an endpoint of version 2, whose input has another name."""
    signature = Signature((TensorSpec("features", "FP64", (-1, 64)),), (TensorSpec("label", "INT64", (-1,)),))
    there = msgspec.structs.replace(rows.manifest(), signature=signature)

    def fill(connection: Connection) -> None:
        models.add(connection, ModelName("m"), there, 1.0)

    database.write(fill)
    return endpoint("1Gi", mapping=SchemaMapping(**mapping))  # type: ignore[arg-type]


def test_a_mapping_that_does_not_fit_the_version_is_refused_with_what_to_do(database: Database) -> None:
    found = refused(database, mapped(database, inputs={"features": MappedInput("x", shape=(-1, 8))}))
    assert found.field == "spec.mapping.inputs.features.shape"
    assert found.message == (
        "it does not fit m@2: [-1, 8] of 'x' cannot become [-1, 64], which the version takes; say in `shape` what "
        "clients send"
    )
    assert apply(database, mapped(database, inputs={"features": MappedInput("x", shape=(-1, 8, 8))})) == "created"
    assert apply(database, endpoint("1Gi")) == "updated"


def test_an_objective_that_is_never_measured_is_refused_with_what_to_write_instead(database: Database) -> None:
    slow = Objective("first", 0.9, "ttft", under="1s")
    found = refused(database, endpoint("1Gi", slos=(Objective("answers", 0.999), slow)))
    assert found.field == "spec.slos[1].sli"
    assert found.message == (
        "first is never measured: an answer of 'predict' comes whole, and ttft is of streams of tokens; write "
        "`sli: latency`, the time of the whole answer"
    )
    assert apply(database, endpoint("1Gi", slos=(Objective("whole", 0.9, "latency", under="1s"),))) == "created"


def test_what_was_applied_before_it_was_refused_can_still_be_changed(database: Database) -> None:
    there = endpoint("1Gi", slos=(Objective("first", 0.9, "inter_token", under="1s"),))

    def fill(connection: Connection) -> None:
        endpoints.put(connection, there, 1, 1.0)

    database.write(fill)
    more = msgspec.structs.replace(there, spec=msgspec.structs.replace(there.spec, replicas=Replicas(max=2)))
    assert apply(database, more) == "updated"
    steeper = tuple(msgspec.structs.replace(each, target=0.99) for each in there.spec.slos)
    assert "inter_token is of streams of tokens" in refused(database, endpoint("1Gi", slos=steeper)).message
