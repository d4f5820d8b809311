"""Rows that tests write."""

from sqlalchemy import Connection

from stoker.core.refs import ModelRef
from stoker.core.revisions import ServingConfig, config_digest, revision_id, serving_config
from stoker.core.snapshot import Assignment, Revision
from stoker.store import endpoints, journal, models, revisions
from stoker.types.ids import Digest, EndpointName, ModelName, NodeName, ProjectName, ReplicaId
from stoker.types.models import FileEntry, ModelVersion, VersionManifest
from stoker.types.resources import Endpoint, EndpointSpec, Metadata, Project, ProjectMetadata

DEFAULT = ProjectName("default")


def project(name: str = "default") -> Project:
    return Project(metadata=ProjectMetadata(name=name))


def manifest(number: int = 1) -> VersionManifest:
    file = FileEntry("model.onnx", Digest(f"sha256:{number:064x}"), 10 * number)
    return VersionManifest(format="onnx", files=(file,), entry="model.onnx", tasks=("predict",))


def endpoint(name: str = "a", model: str = "m", project: str = "default") -> Endpoint:
    return Endpoint(metadata=Metadata(name=name, project=ProjectName(project)), spec=EndpointSpec(model=model))


def revision(version: ModelVersion, name: str = "a", number: int = 1) -> Revision:
    config = serving_config(endpoint(name).spec, version)
    assert isinstance(config, ServingConfig)
    named = revision_id("default", name, number)
    return Revision(named, DEFAULT, EndpointName(name), number, config_digest(config), config, 1.0)


def assignment(of: Revision, suffix: str = "aaaaa", node: str = "local") -> Assignment:
    replica = ReplicaId(f"{of.revision}-{suffix}")
    return Assignment(replica, of.revision, of.project, of.endpoint, NodeName(node), "wanted", 1.0, 1.0)


def write_all(connection: Connection, number: int) -> None:
    """One of everything, numbered."""
    version, _ = models.add(connection, ModelName("m"), manifest(number), 1.0)
    assert version == models.get(connection, ModelRef(ModelName("m"), number=version.number))
    name = f"e{number}"
    endpoints.put(connection, endpoint(name), version.number, 1.0)
    made = revision(version, name)
    revisions.add(connection, made)
    revisions.assign(connection, assignment(made))
    journal.add(connection, journal.Entry(1.0, "Test", "because", "default", name))
