"""Calls of the control API about budgets."""

import msgspec

from stoker.client.connection import decode
from stoker.client.control import ControlClient
from stoker.types.budgets import BudgetView


class _Budgets(msgspec.Struct, frozen=True):
    items: tuple[BudgetView, ...]


def everything(control: ControlClient, project: str | None = None) -> tuple[BudgetView, ...]:
    """Return the budgets of `project`, or of all."""
    query = {} if project is None else {"project": project}
    return decode(control.connection.exchange("GET", "/api/v1/budgets", query=query).body, _Budgets).items


def delete(control: ControlClient, project: str, name: str) -> None:
    """Delete a budget. Raises NotFound."""
    control.connection.exchange("DELETE", f"/api/v1/projects/{project}/budgets/{name}")
