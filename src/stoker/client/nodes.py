"""Calls of the control API about the nodes of a platform: who may join, who leaves, whose signature counts."""

from typing import Final

import msgspec

from stoker.client.connection import decode
from stoker.client.control import ControlClient
from stoker.types.nodes import NewToken, TokenWish

_JSON: Final = {"Content-Type": "application/json"}


class Followed(msgspec.Struct, frozen=True):
    """The authority that will sign once every node trusts it, and what all of them do now."""

    fingerprint: str
    state: str


def token(control: ControlClient, wish: TokenWish) -> NewToken:
    """Make a token that lets one node in; its text is in this answer and nowhere else. Raises Conflict."""
    sent = control.connection.exchange("POST", "/api/v1/nodes/tokens", body=msgspec.json.encode(wish), headers=_JSON)
    return decode(sent.body, NewToken)


def remove(control: ControlClient, name: str) -> None:
    """Have a node be one no more. Raises NotFound."""
    control.connection.exchange("DELETE", f"/api/v1/nodes/{name}")


def rotate(control: ControlClient) -> Followed:
    """Have another authority follow. Raises Conflict while one does."""
    return decode(control.connection.exchange("POST", "/api/v1/nodes/authority").body, Followed)
