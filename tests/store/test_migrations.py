"""From every schema there was, with rows in it, to the newest: nothing is lost, and everything can be read."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, MetaData, String, Table, insert, select, text

from stoker.core.alerts import Alert
from stoker.core.diagnose import incident as life
from stoker.core.notices import AlertMemory
from stoker.core.rollout.state import Entry, RolloutState
from stoker.store import (
    alerts,
    budgets,
    endpoints,
    incidents,
    keys,
    migrate,
    models,
    notifiers,
    projects,
    releases,
    revisions,
    rollouts,
    schema,
    schema_budgets,
    schema_costs,
    schema_identity,
    schema_nodes,
    schema_secrets,
    schema_usage,
    settings,
)
from stoker.store import signing as trusted
from stoker.store.engine import open_engine, sqlite_url
from stoker.store.keys import KeyRow
from stoker.types.budgets import BudgetSpec
from stoker.types.ids import Digest, KeyId, ModelName
from stoker.types.notifiers import NotifierSpec
from stoker.types.releases import GoldenSet
from stoker.types.resources import Budget, Metadata, Notifier
from stoker.types.rollouts import Rollout
from stoker.types.signing import TrustRoot
from tests.store import rows

SCRIPTS = Path(migrate.__file__).parent / "migrations" / "versions"
VERSIONS = sorted(path.name[1:5] for path in SCRIPTS.glob("v*.py"))
REWRITTEN = {("rollouts", "state")}  # 0011 moves what a rollout was judged by into a column of its own
LOST = {("keys", "is_admin"): True}  # 0017 makes a role of it
EVERYTHING = (projects, endpoints, keys, models, notifiers)


def write(connection: Connection) -> None:
    """Write one of much, as the newest stoker does."""
    projects.put(connection, rows.project(), 1.0)
    rows.write_all(connection, 1)
    version = models.everything(connection)[0]
    models.set_alias(connection, ModelName("m"), "prod", version.number)
    keys.add(connection, KeyRow(KeyId("abcdefgh"), rows.DEFAULT, "laptop", "0" * 64, True, 1.0))
    spec = NotifierSpec(type="webhook", url="https://x.example/")
    notifiers.put(connection, Notifier(Metadata(name="n", project=rows.DEFAULT), spec), 1.0)
    incidents.add(connection, life.opened("default", "e1", "a test", 1.0))
    alert = Alert("a", {}, "page", "firing", "s", "b", "", 1.0, 1.0)
    alerts.save(connection, alerts.WatchMemory(AlertMemory({"a": alert})))
    trusted.add_root(connection, "default", TrustRoot("team", "pem", "f" * 64, 1.0))
    trusted.add(connection, "m", version.number, "f" * 64, "bundle", 1.0)
    revision = rows.revision(version, "e1").revision
    state = RolloutState(rows.DEFAULT, "e1", "", revision, Rollout(), "canary", "scaling", "b", 1.0, 1.0)  # type: ignore[arg-type]
    rollouts.keep(connection, state, (Entry(1.0, "began", "scaling", "b"),))
    releases.set_golden(connection, "default", "e1", GoldenSet(Digest("sha256:" + "1" * 64), 3, 10, 1.0))
    settings.put(connection, settings.ROUTE_VERSION, "7")
    budgets.put(connection, Budget(Metadata("b"), BudgetSpec("250.00")), 1.0)
    leased = (schema_budgets.budget_accounts, schema_budgets.budget_leases, schema_budgets.budget_holders)
    for table in leased:
        connection.execute(insert(table).values(**{column.name: 1 for column in table.columns}))
    costs = (schema_costs.cost_sheets, schema_costs.cost_works, schema_costs.cost_lines, schema_costs.gpu_times)
    identity = (schema_identity.identity_providers, schema_identity.identity_documents, schema_identity.sessions)
    joined = (schema_nodes.nodes, schema_nodes.node_tokens, schema_nodes.node_revocations)
    others = (*costs, *identity, *joined, schema_secrets.secret_reads)
    for table in (schema.usage_cursors, schema.usage_sums, schema.usage_tags, *others):
        values = {column.name: "x" if isinstance(column.type, String) else 1 for column in table.columns}
        connection.execute(insert(table).values(**values))
    kept = {column.name: 1 for column in schema_usage.usage_batches.columns} | {"projects": "", "data": b"x"}
    connection.execute(insert(schema_usage.usage_batches).values(**kept))


def tables(connection: Connection) -> Sequence[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def copied(new: Connection, old: Connection) -> dict[str, list[dict[str, Any]]]:
    """Write into a database of an older schema what it would have of the rows of a new one, and return them."""
    known = {table.name: table for table in tables(new)}
    written = {}
    for table in tables(old):
        columns = [column.name for column in table.columns if column.name in known[table.name].columns]
        gone = {column.name: LOST[table.name, column.name] for column in table.columns if column.name not in columns}
        found = new.execute(select(*(known[table.name].columns[name] for name in columns))).mappings().all()
        written[table.name] = [dict(row) for row in found]
        for row in written[table.name]:
            old.execute(insert(table).values(**row, **gone))
    return written


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database at the newest schema with one of much in it."""
    engine = open_engine(sqlite_url(tmp_path_factory.mktemp("newest") / "state.db"))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        write(connection)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty database of each schema there was: a database goes from each to the next."""
    folder = tmp_path_factory.mktemp("schemas")
    for before, version in zip(["", *VERSIONS], VERSIONS, strict=False):
        if before:
            shutil.copy(folder / before, folder / version)
        engine = open_engine(sqlite_url(folder / version))
        migrate.upgrade(engine, version)
        engine.dispose()
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_stoker_of_before_wrote_is_there_after_an_upgrade_and_can_be_read(
    newest: Engine, schemas: Path, tmp_path: Path, version: str
) -> None:
    shutil.copy(schemas / version, tmp_path / "state.db")
    older = open_engine(sqlite_url(tmp_path / "state.db"))
    with newest.connect() as new, older.begin() as old:
        written = copied(new, old)
    migrate.upgrade(older)
    with older.connect() as after, newest.connect() as new:
        assert after.execute(text("SELECT version_num FROM alembic_version")).scalar() == schema.VERSION
        assert after.execute(text("PRAGMA foreign_key_check")).all() == []
        for name, found in written.items():
            table = schema.metadata.tables[name]
            for row in found:
                same = {each: value for each, value in row.items() if (name, each) not in REWRITTEN}
                assert after.execute(select(table).where(*(table.c[each] == same[each] for each in same))).first(), name
        for store in EVERYTHING:
            is_old = store.__name__.rpartition(".")[2] in written
            assert len(store.everything(after)) == (len(store.everything(new)) if is_old else 0)
        assert revisions.everything(after) == revisions.everything(new)
        assert len(revisions.assignments(after)) == 1
        assert [each.endpoint for each in incidents.newest(after, 9)] == (["e1"] if "incidents" in written else [])
        assert rollouts.newest(after) == (rollouts.newest(new) if "rollouts" in written else [])
        assert alerts.load(after) == (alerts.load(new) if "watch" in written else alerts.WatchMemory())
    older.dispose()


def test_most_tables_have_rows_in_these_tests(newest: Engine) -> None:
    with newest.connect() as connection:
        empty = {table.name for table in tables(connection) if connection.execute(select(table)).first() is None}
    assert empty <= {
        "audit", "audit_checkpoints", "audit_holds", "dossiers", "lease", "policies", "roles", "rollout_outbox",
        "scale_decisions", "scaling", "shapes", "starts",
    }  # fmt: skip
