"""Calls of the control API about alerts, silences and the receivers that are told."""

from collections.abc import Mapping

import msgspec

from stoker.client.connection import decode
from stoker.client.control import ControlClient
from stoker.client.views import Alerts, AlertView, SilenceView
from stoker.types.resources import Notifier

TEST_TIMEOUT_S = 40.0  # a receiver may be slow to hear


class _Notifiers(msgspec.Struct, frozen=True):
    items: tuple[Notifier, ...]


def everything(control: ControlClient) -> Alerts:
    """Return alerts and silences, and receivers that do not hear."""
    return decode(control.connection.exchange("GET", "/api/v1/alerts").body, Alerts)


def take(control: ControlClient, which: str, by: str) -> AlertView:
    """Take an alert: it is not told again until it ends. Raises NotFound."""
    return decode(_post(control, f"/api/v1/alerts/{which}/ack", {"by": by}), AlertView)


def silence(control: ControlClient, match: Mapping[str, str], for_s: float, why: str, by: str) -> SilenceView:
    """Tell nobody of alerts with these labels for a while."""
    body = {"match": match, "for_s": for_s, "why": why, "by": by}
    return decode(_post(control, "/api/v1/silences", body), SilenceView)


def unsilence(control: ControlClient, which: str) -> None:
    """End a silence. Raises NotFound."""
    control.connection.exchange("DELETE", f"/api/v1/silences/{which}")


def notifiers(control: ControlClient) -> tuple[Notifier, ...]:
    """Return the receivers of alerts, of every project."""
    return decode(control.connection.exchange("GET", "/api/v1/notifiers").body, _Notifiers).items


def delete_notifier(control: ControlClient, project: str, name: str) -> None:
    """Delete a receiver. Raises NotFound."""
    control.connection.exchange("DELETE", f"/api/v1/projects/{project}/notifiers/{name}")


def try_notifier(control: ControlClient, project: str, name: str) -> None:
    """Tell a receiver something, to see that it hears. Raises what kept it from hearing."""
    where = f"/api/v1/projects/{project}/notifiers/{name}/test"
    control.connection.exchange("POST", where, timeout_s=TEST_TIMEOUT_S)


def _post(control: ControlClient, path: str, body: object) -> bytes:
    headers = {"Content-Type": "application/json"}
    return control.connection.exchange("POST", path, body=msgspec.json.encode(body), headers=headers).body
