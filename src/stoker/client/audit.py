"""Calls of the control API about the audit, and what an export of it looks like."""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from stoker.client.connection import decode
from stoker.client.control import ControlClient
from stoker.core.audit import chain
from stoker.types.audit import AuditEvent, AuditVerdict, Hold, ProjectEvent, Row

TIMEOUT_S: Final = 600.0  # of a verdict over a million rows


class AuditEntry(msgspec.Struct, frozen=True):
    """A row of the audit: an event, and its hash over all before it."""

    event: AuditEvent
    hash: str


class ProjectPage(msgspec.Struct, frozen=True):
    """Rows of a project's audit, newest first. next: what `before` is for older ones; "": there are none."""

    items: list[ProjectEvent]
    next: str = ""


class _Exported(msgspec.Struct, frozen=True):
    event: msgspec.Raw
    hash: str


class _Entries(msgspec.Struct, frozen=True):
    items: tuple[AuditEntry, ...]


class _Holds(msgspec.Struct, frozen=True):
    items: tuple[Hold, ...]


_exported = msgspec.json.Decoder(_Exported)
_event = msgspec.json.Decoder(AuditEvent)


def exported(row: Row) -> bytes:
    """Return a row as its line of an export; the event is there byte for byte as it was hashed."""
    return f'{{"hash":"{row.hash}","event":{row.event}}}\n'.encode()


def row_of(line: bytes) -> Row:
    """Return the row that a line of an export is. Raises msgspec.MsgspecError."""
    found = _exported.decode(line)
    text = bytes(found.event)
    event = _event.decode(text)
    return Row(event.sequence, event.at_us, event.actor, event.action, chain.listed(event), text.decode(), found.hash)


def find(control: ControlClient, query: Mapping[str, str | int | float]) -> tuple[AuditEntry, ...]:
    """Return rows, newest first."""
    return decode(control.connection.exchange("GET", "/api/v1/audit", query=dict(query)).body, _Entries).items


def get(control: ControlClient, sequence: int) -> AuditEntry:
    """Return one row. Raises NotFound."""
    return decode(control.connection.exchange("GET", f"/api/v1/audit/rows/{sequence}").body, AuditEntry)


def of_project(control: ControlClient, project: str, query: Mapping[str, str | int | float]) -> ProjectPage:
    """Return rows about one project, newest first. Raises NotFound."""
    return decode(control.connection.exchange("GET", _of(project), query=dict(query)).body, ProjectPage)


def row_of_project(control: ControlClient, project: str, row: str) -> ProjectEvent:
    """Return one row about a project, by the name it has there. Raises NotFound."""
    return decode(control.connection.exchange("GET", f"{_of(project)}/{quote(row, safe='')}").body, ProjectEvent)


def export(control: ControlClient, query: Mapping[str, str | int | float]) -> Iterator[bytes]:
    """Yield the bytes of an export."""
    yield from control.connection.stream("GET", "/api/v1/audit/export", query=dict(query))


def verdict(control: ControlClient) -> AuditVerdict:
    """Return what control finds the audit to be worth."""
    answer = control.connection.exchange("GET", "/api/v1/audit/verdict", timeout_s=TIMEOUT_S)
    return decode(answer.body, AuditVerdict)


def checkpoints(control: ControlClient) -> bytes:
    """Return the signed checkpoints, a line each."""
    return control.connection.exchange("GET", "/api/v1/audit/checkpoints").body


def holds(control: ControlClient) -> tuple[Hold, ...]:
    """Return what holds rows."""
    return decode(control.connection.exchange("GET", "/api/v1/audit/holds").body, _Holds).items


def hold(control: ControlClient, project: str, because: str) -> Hold:
    """Let no row about a project go; `*` for all."""
    body = msgspec.json.encode({"because": because})
    return decode(control.connection.exchange("PUT", _hold(project), body=body).body, Hold)


def release(control: ControlClient, project: str) -> None:
    """End a hold. Raises NotFound."""
    control.connection.exchange("DELETE", _hold(project))


def _of(project: str) -> str:
    return f"/api/v1/projects/{quote(project, safe='')}/audit"


def _hold(project: str) -> str:
    return f"/api/v1/audit/holds/{quote(project, safe='')}"
