"""Who may speak to whom between nodes, when certificates are renewed, and how one authority follows another.

An authority that follows is trusted by everybody before it signs, and the one before it is trusted until the last
certificate that it signed has ended: there is no moment at which two peers do not know each other.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from stoker.types.peers import OWN, Peer

# A node's clock may be behind control's by this much and still take a certificate that was made just now.
SKEW_S: Final = 300.0
# The processes of control's own node look at their files each second; no authority signs before they have.
SPREAD_S: Final = 5.0
AUTHORITIES_MAX: Final = 2
SCHEME: Final = "stoker://"
SERIAL_TAIL: Final = 20  # hex digits of a serial number behind the incarnation of its node


class Authority(msgspec.Struct, frozen=True):
    """One authority. signs_at_s: since when it signs, 0 not yet. ends_at_s: when it is trusted no more, 0 never yet."""

    name: str
    made_at_s: float
    signs_at_s: float = 0.0
    ends_at_s: float = 0.0


class Door(msgspec.Struct, frozen=True):
    """Who is let in, or who is expected: roles, and the node that they must be of; "" for any."""

    roles: tuple[str, ...]
    node: str = ""


# What replicas and agents of other nodes are spoken to by, and what nodes speak to control as.
REPLICA_DOOR: Final = Door(("gateway", "control"), OWN)
AGENT_DOOR: Final = Door(("control",), OWN)
CONTROL_DOOR: Final = Door(("agent",))


def identity(platform: str, node: str, role: str) -> str:
    """Return what stands in a certificate: `stoker://<platform>/node/<name>/<role>`."""
    return f"{SCHEME}{platform}/node/{node}/{role}"


def named(uri: str) -> tuple[str, str, str] | None:
    """Return platform, node and role of an identity; None for what is none."""
    parts = uri.removeprefix(SCHEME).split("/")
    if not uri.startswith(SCHEME) or len(parts) != 4 or parts[1] != "node" or not all(parts):
        return None
    return parts[0], parts[2], parts[3]


def life_of(serial: str) -> str:
    """Return the incarnation in a serial number (hex)."""
    return serial.lower().lstrip("0")[:-SERIAL_TAIL]


def refusal(
    peer: Peer | None, me: Peer, door: Door, trusted: Collection[str], revoked: Collection[str], now_s: float
) -> str:
    """Return why `peer` is not who may come through `door`; "" when it is.

    me: who is asked. trusted: names of authorities; revoked: incarnations of nodes that were removed.
    """
    if peer is None:
        return "it showed no certificate of a node"
    if peer.platform != me.platform:
        return "its certificate is of another platform"
    if peer.authority not in trusted:
        return "its certificate was signed by an authority that is trusted no more"
    if peer.life in revoked:
        return f"node {peer.node} was removed"
    if now_s > peer.until_s:
        return "its certificate has ended"
    if peer.role not in door.roles:
        return f"a certificate of the role {peer.role} does not open this"
    if door.node and peer.node != door.node:
        return f"its certificate is of node {peer.node}, not {door.node}"
    return ""


def is_due(begins_s: float, until_s: float, now_s: float) -> bool:
    """Return whether a certificate is to be renewed: half of its life is over, or it has not begun by this clock."""
    return now_s >= begins_s + (until_s - begins_s) / 2 or now_s < begins_s - SKEW_S


def signing(authorities: Iterable[Authority]) -> Authority:
    """Return the authority that signs now: the newest that has begun."""
    return max((each for each in authorities if each.signs_at_s), key=lambda each: each.signs_at_s)


def turn(
    authorities: tuple[Authority, ...], told: Mapping[str, bool], life_s: float, now_s: float
) -> tuple[Authority, ...]:
    """Return the authorities as they are from now on.

    told: by node, whether it trusts all of them. One that does not answer is waited for as long as its certificate
    may hold: after that it cannot speak to anybody anyway, and must join again.
    """
    kept = tuple(each for each in authorities if not each.ends_at_s or now_s < each.ends_at_s)
    newest = kept[-1]
    if newest.signs_at_s:
        return kept
    waited_s = now_s - newest.made_at_s
    if not ((waited_s >= SPREAD_S and all(told.values())) or waited_s >= life_s + SKEW_S):
        return kept
    ends = {"ends_at_s": now_s + life_s + SKEW_S}
    before = (msgspec.structs.replace(each, **ends) if not each.ends_at_s else each for each in kept[:-1])
    return (*before, msgspec.structs.replace(newest, signs_at_s=now_s))
