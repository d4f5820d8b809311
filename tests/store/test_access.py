"""What keys of before there were roles can do after the migration: what they could, and no more."""

from pathlib import Path

from sqlalchemy import Boolean, Column, Float, MetaData, String, Table, Text, insert

from stoker.store import keys, migrate, roles
from stoker.store.engine import open_engine, sqlite_url
from stoker.types.access import ADMIN, USUAL, Grant


def test_keys_of_before_can_do_what_they_could(tmp_path: Path) -> None:
    engine = open_engine(sqlite_url(tmp_path / "state.db"))
    migrate.upgrade(engine, "0015")
    texts = [Column(name, String) for name in ("id", "project", "name", "sha256")]
    times = [Column(name, Float) for name in ("created_at_s", "expires_at_s")]
    old = Table("keys", MetaData(), *texts, *times, Column("is_admin", Boolean), Column("limits", Text))
    projects = Table("projects", MetaData(), Column("name"), Column("resource"), Column("created_at_s"))
    with engine.begin() as connection:
        resource = '{"kind":"Project","metadata":{"name":"team"}}'
        connection.execute(insert(projects).values(name="team", resource=resource, created_at_s=1.0))
        for name, is_admin in (("a", True), ("c", False)):
            row = {"id": name, "project": "team", "name": name, "sha256": name * 8, "is_admin": is_admin}
            connection.execute(insert(old).values(**row, limits="{}", created_at_s=1.0, expires_at_s=0.0))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        admin, caller = keys.everything(connection)
        assert (admin.access, caller.access) == (ADMIN, USUAL)
        assert roles.grant(connection, admin).is_admin
        permissions = frozenset({"endpoints:call", "traces:read", "metrics:read", "usage:read"})
        assert roles.grant(connection, caller) == Grant("team", permissions)  # type: ignore[arg-type]
    engine.dispose()
