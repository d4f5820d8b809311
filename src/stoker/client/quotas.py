"""Calls of the control API about quotas."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from stoker.client.connection import decode
from stoker.client.control import ControlClient
from stoker.types.quotas import ProjectQuota, QuotaView

_JSON: Final = {"Content-Type": "application/json"}


class _Quotas(msgspec.Struct, frozen=True):
    items: tuple[QuotaView, ...]


def everything(control: ControlClient, project: str | None = None) -> tuple[QuotaView, ...]:
    """Return how the quotas stand of a project ("": the platform's own), or all that may be seen."""
    query = {"project": project}
    return decode(control.connection.exchange("GET", "/api/v1/quotas", query=query).body, _Quotas).items


def change(control: ControlClient, project: str, limits: Mapping[str, Any]) -> ProjectQuota:
    """Change what bounds a project, or ("") the platform; None takes a limit away. Raises InvalidInput, Forbidden."""
    path = f"/api/v1/projects/{project}/quota" if project else "/api/v1/platform/quota"
    body = msgspec.json.encode(dict(limits))
    return decode(control.connection.exchange("PATCH", path, body=body, headers=_JSON).body, ProjectQuota)
