"""Calls of the control API about admission policies."""

import msgspec

from stoker.client.connection import decode
from stoker.client.control import ControlClient
from stoker.client.views import PolicyFinding
from stoker.types.resources import Policy


class _Policies(msgspec.Struct, frozen=True):
    items: tuple[Policy, ...]


class _Findings(msgspec.Struct, frozen=True):
    items: tuple[PolicyFinding, ...]


def everything(control: ControlClient) -> tuple[Policy, ...]:
    """Return the policies of every project."""
    return decode(control.connection.exchange("GET", "/api/v1/policies").body, _Policies).items


def find(control: ControlClient, project: str, name: str) -> Policy | None:
    """Return one policy, or None."""
    known = (each for each in everything(control) if each.metadata.name == name and each.metadata.project == project)
    return next(known, None)


def look(control: ControlClient, policies: bytes) -> tuple[PolicyFinding, ...]:
    """Return what policies (YAML or JSON) would find in what is there now; nothing is stored."""
    headers = {"Content-Type": "application/yaml"}
    answer = control.connection.exchange("POST", "/api/v1/policies/look", body=policies, headers=headers)
    return decode(answer.body, _Findings).items


def delete(control: ControlClient, project: str, name: str) -> None:
    """Delete a policy. Raises NotFound."""
    control.connection.exchange("DELETE", f"/api/v1/projects/{project}/policies/{name}")
