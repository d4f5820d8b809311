"""Whom a certificate of a node is of."""

from typing import Final, Literal

import msgspec

OWN: Final = "local"  # the node that control and the gateways run on

# A certificate is for one role on one node; what each may speak to is in core/certificates.py.
Role = Literal["control", "gateway", "agent", "replica"]


class Peer(msgspec.Struct, frozen=True):
    """Whom a certificate is of, as it says itself.

    life: the incarnation of the node, another one after each join. authority: the name of who signed it.
    """

    platform: str
    node: str
    role: str
    life: str
    authority: str
    until_s: float
