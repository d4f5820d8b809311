"""A database from before secrets were named: what is only kept has none in clear after an upgrade; what runs, runs."""

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, Engine, insert, select, text, update

from stoker.core.revisions import config_digest
from stoker.core.rollout.state import Entry, RolloutState
from stoker.core.secrets import SCRUBBED
from stoker.store import endpoints, migrate, models, projects, revisions, rollouts, schema, scrub
from stoker.store.engine import open_engine, sqlite_url
from stoker.types.ids import ModelName, RevisionId
from stoker.types.rollouts import Hook, Rollout
from stoker.types.statuses import EndpointStatus
from tests.store import rows

CLEAR = "planted-Swordfish-9"
CHAT = f"https://hooks.slack.com/services/{CLEAR}"


def write(connection: Connection) -> None:
    """Five revisions with a secret: an old one, one that serves, one that runs, one of a rollout, and the newest."""
    projects.put(connection, rows.project(), 1.0)
    version, _ = models.add(connection, ModelName("m"), rows.manifest(1), 1.0)
    endpoints.put(connection, rows.endpoint(), version.number, 1.0)
    for number in range(1, 7):
        made = rows.revision(version, "a", number)
        env = {"DB_PASSWORD": f"{CLEAR}-{number}-"} if number != 6 else {"DB_PASSWORD": "env:STOKER_SECRET_X"}
        config = msgspec.structs.replace(made.config, env=env, options={"slots": number})
        revisions.add(connection, msgspec.structs.replace(made, config=config, digest=config_digest(config)))
    owners = schema.endpoints
    status = msgspec.json.encode(EndpointStatus(revision=RevisionId("default.a-5"))).decode()
    connection.execute(update(owners).values(serving="default.a-2", status=status))
    assigned = msgspec.structs.replace(rows.revision(version, "a", 3), number=3)
    values = msgspec.structs.asdict(rows.assignment(assigned)) | {"gpus": "[]"}
    connection.execute(
        insert(schema.replicas).values(
            **{name: value for name, value in values.items() if name in schema.replicas.columns}
        )
    )
    spec = Rollout(hooks=(Hook(CHAT), Hook("https://ci.example/x")))
    over = RolloutState(rows.DEFAULT, "a", "", "default.a-1", spec, "canary", "promoted", "b", 1.0, 1.0, ended_s=2.0)  # type: ignore[arg-type]
    runs = msgspec.structs.replace(over, baseline="default.a-2", canary="default.a-4", phase="scaling", ended_s=0.0)
    for state in (over, runs):
        rollouts.keep(connection, state, (Entry(1.0, "superseded", "scaling", "b"),))
    connection.execute(text("DELETE FROM rollout_outbox"))


def clear(engine: Engine) -> dict[str, bool]:
    """Return which revisions hold the secret."""
    with engine.connect() as connection:
        found = connection.execute(select(schema.revisions.c.revision, schema.revisions.c.config)).all()
    return {row.revision: CLEAR in row.config for row in found}


@pytest.fixture
def upgraded(tmp_path: Path) -> Engine:
    """A database of schema 24 with those rows, brought to the newest."""
    newest, older = open_engine(sqlite_url(tmp_path / "new.db")), open_engine(sqlite_url(tmp_path / "state.db"))
    migrate.upgrade(newest)
    migrate.upgrade(older, "0024")
    with newest.begin() as connection:
        write(connection)
    with newest.connect() as new, older.begin() as old:
        for table in (
            schema.projects, schema.models, schema.versions, schema.endpoints, schema.revisions, schema.replicas,
            schema.rollouts, schema.rollout_entries,
        ):  # fmt: skip
            for row in new.execute(select(table)).mappings():
                old.execute(insert(table).values(**row))
    newest.dispose()
    assert sum(clear(older).values()) == 5
    migrate.upgrade(older)
    return older


def test_an_upgrade_takes_secrets_out_of_what_is_only_kept_and_leaves_what_runs(upgraded: Engine) -> None:
    assert clear(upgraded) == {f"default.a-{number}": number in (2, 3, 4, 5) for number in range(1, 7)}
    with upgraded.connect() as connection:
        old, *_ = revisions.everything(connection)
        assert (old.config.env, old.config.options) == ({"DB_PASSWORD": SCRUBBED}, {"slots": 1})
        assert old.digest == config_digest(old.config)
        over, runs = sorted(rollouts.everything(connection, "default", "a"), key=lambda each: each.state.number)
        assert [each.webhook for each in over.state.spec.hooks] == [SCRUBBED, "https://ci.example/x"]
        assert runs.state.spec.hooks[0].webhook == CHAT
    upgraded.dispose()


def test_what_goes_out_of_use_loses_its_secret_and_no_page_of_the_file_keeps_it(
    upgraded: Engine, tmp_path: Path
) -> None:
    clean: set[str | int] = {"default.gone-1", 99}
    with upgraded.begin() as connection:
        assert not scrub.find(connection, clean)
        assert not clean & {"default.gone-1", 99}, "what is gone is remembered no longer"
        connection.execute(text("DELETE FROM replicas"))
        connection.execute(update(schema.rollouts).values(ended_at_s=3.0))
        connection.execute(update(schema.endpoints).values(serving="default.a-6"))
    with upgraded.begin() as connection:
        assert scrub.scrub(connection, clean) == 4  # three revisions, one rollout; the spec asks for the fifth
        assert not scrub.find(connection, clean)
    assert [name for name, is_clear in clear(upgraded).items() if is_clear] == ["default.a-5"]
    upgraded.dispose()  # writes the log into the file
    held = b"".join(each.read_bytes() for each in tmp_path.glob("state.db*"))
    assert CHAT.encode() not in held
    for number in (1, 2, 3, 4):
        assert f"{CLEAR}-{number}-".encode() not in held
