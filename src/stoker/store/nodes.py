"""Nodes that joined, the tokens that let them in, and those that were removed, as rows."""

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from stoker.store import schema
from stoker.store.schema_nodes import node_revocations, node_tokens, nodes
from stoker.types.errors import Conflict, NotFound, Unauthenticated
from stoker.types.nodes import NODES_MAX, PORTS, TOKENS_MAX, NodeRow, NodeToken
from stoker.types.peers import OWN


def everything(connection: Connection) -> list[NodeRow]:
    """Return the nodes that joined, by name."""
    return [NodeRow(**row._mapping) for row in connection.execute(select(nodes).order_by(nodes.c.name))]


def add(connection: Connection, node: NodeRow) -> None:
    """Store a node that joins, without a replica. Raises Conflict when its name is taken, or over NODES_MAX."""
    known = everything(connection)
    if any(each.name == node.name for each in known) or node.name == OWN:
        raise Conflict(f"there is a node {node.name!r} already; `stoker nodes remove {node.name}` lets it join anew")
    if len(known) >= NODES_MAX:
        raise Conflict(f"there are {NODES_MAX} nodes already")
    # What was placed on one of that name, in the moment in which it was removed, has no port there.
    connection.execute(delete(schema.replicas).where(schema.replicas.c.node == node.name))
    connection.execute(insert(nodes).values(**msgspec.structs.asdict(node)))


def renewed(connection: Connection, name: str, life: str, until_s: float) -> None:
    """Keep when the certificates of a node end. Raises NotFound when it was removed, or joined anew."""
    change = update(nodes).where(nodes.c.name == name, nodes.c.life == life).values(until_s=until_s)
    if not connection.execute(change).rowcount:
        raise NotFound(f"no node {name!r}")


def remove(connection: Connection, name: str, until_s: float) -> NodeRow:
    """Drop a node and its replicas; its certificates count as revoked until `until_s`, and while any of them holds.

    Raises NotFound.
    """
    found = next((each for each in everything(connection) if each.name == name), None)
    if found is None:
        raise NotFound(f"no node {name!r} joined; `stoker get nodes` lists them")
    connection.execute(delete(nodes).where(nodes.c.name == name))
    connection.execute(delete(schema.replicas).where(schema.replicas.c.node == name))
    connection.execute(insert(node_revocations).values(life=found.life, name=name, until_s=max(until_s, found.until_s)))
    return found


def revoked(connection: Connection, now_s: float) -> list[str]:
    """Return the incarnations that were removed and may still have a certificate."""
    table = node_revocations
    ask = select(table.c.life).where(table.c.until_s > now_s).order_by(table.c.life)
    return list(connection.execute(ask).scalars())


def forget(connection: Connection, now_s: float) -> None:
    """Drop revocations of certificates that have ended, and tokens that can let nobody in."""
    connection.execute(delete(node_revocations).where(node_revocations.c.until_s <= now_s))
    is_over = (node_tokens.c.expires_at_s <= now_s) | (node_tokens.c.used_at_s > 0)
    connection.execute(delete(node_tokens).where(is_over))


def add_token(connection: Connection, token: NodeToken) -> None:
    """Store a token. Raises Conflict over TOKENS_MAX, or when its node is there."""
    if any(each.name == token.name for each in everything(connection)) or token.name == OWN:
        raise Conflict(f"there is a node {token.name!r} already; `stoker nodes remove {token.name}` lets it join anew")
    if connection.execute(select(func.count()).select_from(node_tokens)).scalar_one() >= TOKENS_MAX:
        raise Conflict(f"there are {TOKENS_MAX} tokens already; they go when they are used or expire")
    connection.execute(insert(node_tokens).values(**msgspec.structs.asdict(token)))


def redeem(connection: Connection, sha256: str, now_s: float) -> NodeToken:
    """Take a token out of use and return it. Raises Unauthenticated: which of its faults it has is not told."""
    table = node_tokens
    usable = (table.c.sha256 == sha256, table.c.used_at_s == 0, table.c.expires_at_s > now_s)
    if not connection.execute(update(table).where(*usable).values(used_at_s=now_s)).rowcount:
        raise Unauthenticated("this token is unknown, was used, or has expired; make one with `stoker nodes token`")
    return NodeToken(**connection.execute(select(table).where(table.c.sha256 == sha256)).one()._mapping)


def take_port(connection: Connection, node: str) -> int:
    """Return a port for a replica's start on a node that joined, another one each time; 0 on control's own node.

    A port comes again only after all others: an old route leads to nobody rather than to another replica.
    """
    row = connection.execute(select(nodes.c.ports_from, nodes.c.ports_next).where(nodes.c.name == node)).one_or_none()
    if row is None:
        return 0
    table = schema.replicas
    taken = set(connection.execute(select(table.c.port).where(table.c.node == node)).scalars())
    order = ((row.ports_next - row.ports_from + step) % PORTS + row.ports_from for step in range(PORTS))
    port = next((each for each in order if each not in taken), 0)
    if not port:
        raise Conflict(f"node {node} has no port left: {PORTS} replicas are on it")
    following = (port + 1 - row.ports_from) % PORTS + row.ports_from
    connection.execute(update(nodes).where(nodes.c.name == node).values(ports_next=following))
    return port


def ports(connection: Connection) -> dict[str, tuple[str, int]]:
    """Return node and port of every replica that has one."""
    table = schema.replicas
    rows = connection.execute(select(table.c.replica, table.c.node, table.c.port).where(table.c.port > 0))
    return {row.replica: (row.node, row.port) for row in rows}
