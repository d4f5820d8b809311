"""What one turn of control costs: read the state, decide, publish. Processor time, on a real database, nothing to do.

Part of `python -m bench --only simulated`.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final

from sqlalchemy import Connection, update

from stoker.control.loop import decide
from stoker.core.revisions import ServingConfig, config_digest, revision_id, serving_config
from stoker.core.secrets import Rules
from stoker.core.snapshot import Assignment, Node, Revision, Snapshot
from stoker.store import endpoints, migrate, models, projects, revisions, schema
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.store.versions import Versions
from stoker.types.ids import Digest, EndpointName, ModelName, NodeName, ProjectName, ReplicaId
from stoker.types.models import FileEntry, VersionManifest
from stoker.types.process import ProcessStatus
from stoker.types.resources import Endpoint, EndpointSpec, Metadata, Project, ProjectMetadata, Replicas
from stoker.types.tuning import Tuning

PROJECT: Final = ProjectName("default")
NODE: Final = NodeName("node")
RULES: Final = Rules("", "")
SETTLING: Final = 4  # turns that bring statuses into being
TURNS: Final = 7


def turn_ms(count: int, each: int) -> float:
    """Return the milliseconds of a turn at `count` endpoints, of a model each, with `each` ready replicas."""
    with tempfile.TemporaryDirectory(prefix="stoker-turn-") as folder:
        engine = open_engine(sqlite_url(Path(folder) / "state.db"))
        migrate.upgrade(engine)
        database, kept = Database(engine), Versions()
        processes = database.write(lambda connection: _fill(connection, count, each))

        def turn() -> float:
            now_s = time.time()
            node = Node(NODE, 1e6, 1 << 50, observed_at_s=now_s, processes=dict(processes))
            seen = Snapshot(nodes=(node,), asked={}, acts={}, scaled={})
            begun_s = time.process_time()
            found = database.write(
                lambda each: decide(each, seen, lambda name: f"unix:/{name}", now_s, {}, kept, RULES, Tuning())
            )
            assert not found.plan.actions, found.plan.actions[0].because
            return time.process_time() - begun_s

        took_s = [turn() for _ in range(SETTLING + TURNS)][SETTLING:]
        database.close()
    return median(took_s) * 1e3


def _fill(connection: Connection, count: int, each: int) -> Mapping[str, ProcessStatus]:
    projects.put(connection, Project(metadata=ProjectMetadata(name=PROJECT)), 1.0)
    made: dict[str, ProcessStatus] = {}
    for number in range(count):
        name = f"e{number}"
        file = FileEntry("model.onnx", Digest(f"sha256:{number:064x}"), 10)
        manifest = VersionManifest(format="onnx", files=(file,), entry="model.onnx", tasks=("predict",))
        version, _ = models.add(connection, ModelName(f"m{number}"), manifest, 1.0)
        models.set_alias(connection, version.name, "prod", version.number)
        ref = (version.ref, f"{version.name}@prod", version.name)[number % 3]
        spec = EndpointSpec(model=ref, replicas=Replicas(min=each, max=each))
        endpoints.put(connection, Endpoint(metadata=Metadata(name=name, project=PROJECT), spec=spec), 1, 1.0)
        config = serving_config(spec, version)
        assert isinstance(config, ServingConfig)
        who = (PROJECT, EndpointName(name))
        revision = revision_id(*who, 1)
        revisions.add(connection, Revision(revision, *who, 1, config_digest(config), config, 1.0))
        for at in range(each):
            replica = ReplicaId(f"{revision}-{at}")
            revisions.assign(connection, Assignment(replica, revision, *who, NODE, "wanted", 1.0, 1.0))
            made[replica] = ProcessStatus(replica, "replica", "ready", started_at_s=1.0, ready_at_s=2.0)
        here = schema.endpoints.c.name == name
        connection.execute(update(schema.endpoints).where(here).values(serving=revision, last_number=1))
    return made
