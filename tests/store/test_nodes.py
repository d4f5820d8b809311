"""Nodes, tokens and ports as rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, update

from stoker.store import nodes, projects, revisions, schema
from stoker.types.errors import Conflict, NotFound, Unauthenticated
from stoker.types.nodes import NODES_MAX, PORTS, TOKENS_MAX, NodeRow, NodeToken
from tests.databases import migrated
from tests.store import rows

NODE = NodeRow("b", "default", "1f", "10.0.0.2", 7442, 17000, 17000, "/h", "/h/run", "/p", 1.0, 100.0)
TOKEN = NodeToken("t", "f" * 64, "b", "default", 0.0, 60.0)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = migrated(tmp_path / "state.db")
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def test_a_token_is_good_once_and_until_its_time(connection: Connection) -> None:
    nodes.add_token(connection, TOKEN)
    with pytest.raises(Unauthenticated):
        nodes.redeem(connection, TOKEN.sha256, 60.0)
    assert nodes.redeem(connection, TOKEN.sha256, 59.0).name == "b"
    for wrong in (TOKEN.sha256, "0" * 64):
        with pytest.raises(Unauthenticated):
            nodes.redeem(connection, wrong, 59.0)
    nodes.forget(connection, 59.5)
    assert connection.execute(select(nodes.node_tokens)).all() == []


def test_there_are_only_so_many_tokens_and_nodes(connection: Connection) -> None:
    for number in range(TOKENS_MAX):
        values = {"id": str(number), "sha256": f"{number:064x}", "name": "x", "pool": "p"}
        connection.execute(
            insert(nodes.node_tokens).values(**values, created_at_s=0.0, expires_at_s=9.0, used_at_s=0.0)
        )
    with pytest.raises(Conflict, match="tokens already"):
        nodes.add_token(connection, TOKEN)
    for number in range(NODES_MAX):
        nodes.add(connection, NodeRow(f"n{number}", *_rest()))  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="nodes already"):
        nodes.add(connection, NODE)


def _rest() -> tuple[object, ...]:
    return tuple(getattr(NODE, name) for name in NODE.__struct_fields__[1:])


@pytest.mark.parametrize("name", ["b", "local"])
def test_a_name_is_one_nodes_only(connection: Connection, name: str) -> None:
    nodes.add(connection, NODE)
    with pytest.raises(Conflict):
        nodes.add(connection, NodeRow(name, *_rest()))  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        nodes.add_token(connection, NodeToken("u", "e" * 64, name, "default", 0.0, 60.0))


def test_a_removed_node_is_revoked_until_its_certificates_end_and_has_no_replicas(connection: Connection) -> None:
    nodes.add(connection, NODE)
    projects.put(connection, rows.project(), 1.0)
    rows.write_all(connection, 1)
    connection.execute(update(schema.replicas).values(node="b"))
    assert revisions.assignments(connection)
    nodes.remove(connection, "b", 100.0)
    assert revisions.assignments(connection) == []
    assert nodes.revoked(connection, 99.0) == ["1f"]
    assert nodes.revoked(connection, 100.0) == []
    with pytest.raises(NotFound):
        nodes.renewed(connection, "b", "1f", 200.0)
    with pytest.raises(NotFound):
        nodes.remove(connection, "b", 100.0)


def test_a_port_comes_again_only_after_all_others(connection: Connection) -> None:
    assert nodes.take_port(connection, "local") == 0
    nodes.add(connection, NODE)
    taken = [nodes.take_port(connection, "b") for _ in range(PORTS)]
    assert taken == list(range(17000, 17000 + PORTS))
    projects.put(connection, rows.project(), 1.0)
    rows.write_all(connection, 1)
    connection.execute(update(schema.replicas).values(node="b", port=17000))
    assert nodes.take_port(connection, "b") == 17001  # the first is a replica's still
