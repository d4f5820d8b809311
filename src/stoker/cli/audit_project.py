"""Rows of the audit as people read them: what they are about, what changed; and those that one project may see."""

import json
from collections.abc import Sequence
from typing import Any, Final

import click

from stoker.cli.output import clock, columns, fields
from stoker.client.audit import ProjectPage
from stoker.types.audit import OUTSIDE, ProjectEvent, ResourceChange

_COLOURS: Final = {"refused": "red", "failed": "red", "read": "yellow", "began": "cyan"}
_MARKS: Final = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}


def table(found: ProjectPage, project: str) -> str:
    """Return a line a row, and how to see older ones."""
    rows = [
        (
            each.row,
            clock(each.at_us / 1e6),
            each.subject or each.actor,
            each.origin or "-",
            outcome(each.outcome),
            each.action,
            about(each.changes, each.resources, each.because),
        )
        for each in found.items
    ]
    lines = [columns(("ROW", "WHEN", "WHO", "FROM", "", "DID", "ABOUT"), rows, empty="no row is like that")]
    if found.next:
        lines.append(click.style(f"older ones: stoker audit list -p {project} --before {found.next}", dim=True))
    return "\n".join(lines)


def page(event: ProjectEvent) -> str:
    """Return one row with all that its project may see."""
    who = f"{event.actor} ({event.subject})" if event.subject else event.actor
    head = fields(
        (
            ("row", event.row),
            ("when", clock(event.at_us / 1e6)),
            ("who", f"{who}: by no right in this project" if event.actor == OUTSIDE else who),
            ("from", event.origin),
            ("request", event.request),
            ("did", f"{event.action} ({event.outcome})"),
            ("because", event.because),
            ("about", ", ".join(event.resources)),
            ("receipt", event.receipt),
        )
    )
    return "\n".join((head, *(line for each in event.changes for line in ("", *diff(each)))))


def outcome(text: str) -> str:
    """Return an outcome in its colour."""
    return click.style(text, fg=_COLOURS.get(text, "green"))


def about(changes: Sequence[ResourceChange], resources: Sequence[str], because: str) -> str:
    """Return what a row is about, in a few words."""
    named = [f"{_MARKS[each.did][0]}{each.what}" for each in changes] or list(resources)
    more = f" and {len(named) - 2} more" if len(named) > 2 else ""
    return ", ".join(named[:2]) + more or because or "-"


def diff(change: ResourceChange) -> list[str]:
    """Return what happened to a resource, a line a field, as it was and as it is."""
    mark, colour = _MARKS[change.did]
    lines = [click.style(f"{mark} {change.what} {change.did}d", fg=colour, bold=True)]
    for each in change.fields:
        if change.did != "create":
            lines.append(click.style(f"  - {each.field}: {_value(each.before)}", fg="red"))
        if change.did != "delete":
            lines.append(click.style(f"  + {each.field}: {_value(each.after)}", fg="green"))
    if change.more:
        lines.append(f"  … and {change.more} fields more, sha256 {change.sha256}")
    return lines


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
