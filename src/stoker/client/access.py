"""Calls of the control API about who may do what: keys for something, roles, members."""

from typing import Final
from urllib.parse import quote

import msgspec

from stoker.client.connection import decode
from stoker.client.control import ControlClient
from stoker.client.views import NewKey
from stoker.types.access import KeyAccess
from stoker.types.keys import UNLIMITED, KeyLimits
from stoker.types.resources import Project, Role

_JSON: Final = {"Content-Type": "application/json"}


class _Roles(msgspec.Struct, frozen=True):
    items: tuple[Role, ...]


class Ended(msgspec.Struct, frozen=True):
    """What the removal of a subject ended: projects it was a member of, and keys."""

    projects: tuple[str, ...] = ()
    keys: int = 0


def create_key(
    control: ControlClient,
    project: str,
    name: str,
    access: KeyAccess,
    *,
    subject: str = "",
    expires_in_s: float | None = None,
    limits: KeyLimits = UNLIMITED,
) -> NewKey:
    """Make a key for something; its text is in this answer and nowhere else."""
    body = {
        "project": project,
        "name": name,
        "access": access,
        "subject": subject or None,
        "expires_in_s": expires_in_s,
        "limits": limits,
    }
    sent = control.connection.exchange("POST", "/api/v1/keys", body=msgspec.json.encode(body), headers=_JSON)
    return decode(sent.body, NewKey)


def rotate_key(control: ControlClient, key: str, overlap_s: float) -> NewKey:
    """Give a key another secret; the one before works on for `overlap_s`."""
    body = msgspec.json.encode({"overlap_s": overlap_s})
    return decode(
        control.connection.exchange("POST", f"/api/v1/keys/{key}/rotate", body=body, headers=_JSON).body, NewKey
    )


def project(control: ControlClient, name: str) -> Project:
    """Return a project as it was applied. Raises NotFound."""
    return decode(control.connection.exchange("GET", f"/api/v1/projects/{name}").body, Project)


def roles(control: ControlClient) -> tuple[Role, ...]:
    """Return the roles that projects made for themselves."""
    return decode(control.connection.exchange("GET", "/api/v1/roles").body, _Roles).items


def delete_role(control: ControlClient, project: str, name: str) -> None:
    """Delete a role. Raises NotFound."""
    control.connection.exchange("DELETE", f"/api/v1/projects/{project}/roles/{name}")


def set_member(control: ControlClient, project: str, subject: str, role: str) -> Project:
    """Make somebody a member, or give them another role; return the project. Raises NotFound, InvalidInput."""
    body, path = msgspec.json.encode({"role": role}), f"/api/v1/projects/{project}/members/{quote(subject)}"
    return decode(control.connection.exchange("PUT", path, body=body, headers=_JSON).body, Project)


def remove_member(control: ControlClient, project: str, subject: str) -> None:
    """Make somebody no member any more. Raises NotFound."""
    control.connection.exchange("DELETE", f"/api/v1/projects/{project}/members/{quote(subject)}")


def remove_subject(control: ControlClient, subject: str) -> Ended:
    """End everything that somebody has: memberships and keys, in every project."""
    return decode(control.connection.exchange("DELETE", f"/api/v1/subjects/{subject}").body, Ended)
