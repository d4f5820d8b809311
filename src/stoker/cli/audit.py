"""`stoker audit`: who did what, whether that can be believed, and what must not go."""

import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from stoker.cli import audit_project
from stoker.cli.audit_project import about, diff, outcome
from stoker.cli.explain import moment_s
from stoker.cli.output import clock, columns, fields, items, show
from stoker.cli.session import Command, Session, output_option, write_example
from stoker.client import audit
from stoker.client.audit import AuditEntry
from stoker.types.audit import EVERY_PROJECT, AuditVerdict, Hold
from stoker.types.errors import Forbidden, InvalidInput, RefusedArtifact

_EXAMPLE: Final = """
stoker audit list --resource default/digits --since 7d
stoker audit show 1042
stoker audit -p shop
stoker audit verify
stoker audit export --out audit.jsonl
"""
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


class AuditGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


def _filters(function: Any) -> Any:
    for option in (
        click.option("--until", help="Only before that: so long ago, or when."),
        click.option("--since", help="Only from then on: so long ago, such as 7d, or when: 14:05, 2027-01-11T14:05."),
        click.option("--resource", default="", help="Only about what has this in its name, such as shop/digits."),
        click.option("--action", default="", help="Only operations with this in them, such as DELETE or /keys."),
        click.option("--actor", default="", help="Only of this key, by its id; `platform`: what nobody asked for."),
    ):
        function = option(function)
    return function


def _query(
    actor: str, action: str, resource: str, since: str | None, until: str | None
) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {"actor": actor, "action": action, "resource": resource}
    if since:
        found["since"] = moment_s(since, time.time(), "--since")
    if until:
        found["until"] = moment_s(until, time.time(), "--until")
    return {name: value for name, value in found.items() if value != ""}


_project = click.option("-p", "--project", default="", help="Of one project's audit, which its owner may read.")
_PROJECT: Final = "stoker.audit.project"  # in the context's meta: what the group was given


@click.group(cls=AuditGroup, invoke_without_command=True)
@_project
@click.pass_context
def command(ctx: click.Context, project: str) -> None:
    """Say who did what, and prove that nobody changed the record. With -p: who did what in one project."""
    if project and ctx.invoked_subcommand not in (None, "list", "show"):
        raise click.UsageError(f"{ctx.invoked_subcommand} is of the whole audit; -p goes with list and show")
    ctx.meta[_PROJECT] = project
    if ctx.invoked_subcommand is None:
        if project:
            ctx.invoke(list_)
        else:
            click.echo(ctx.get_help())


@command.command(
    "list",
    cls=Command,
    example="""
    stoker audit list --actor a1b2c3d4
    stoker audit list --resource default/digits --since 7d
    stoker audit list --action /samples
    stoker audit list -p shop --since 30d
    """,
)
@_filters
@click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="The newest so many.")
@click.option("--before", default="", metavar="ROW", help="Only rows older than this one.")
@_project
@output_option
@click.pass_context
def list_(ctx: click.Context, /, limit: int, before: str, project: str, output: str, **filters: Any) -> None:
    """List who did what, the newest first. With -p also its owner may."""
    control, query = ctx.obj.control(), {**_query(**filters), "limit": limit}
    if before:
        query["before"] = before
    if project := project or ctx.meta.get(_PROJECT, ""):
        page = audit.of_project(control, project, query)
        show(page, output, lambda: audit_project.table(page, project))
        return
    try:
        found = audit.find(control, query)
    except Forbidden as whole:
        raise Forbidden(f"{whole.message}. A project's own: stoker audit -p PROJECT") from whole
    show(items(found), output, lambda: _table(found))


@command.command(
    "show",
    cls=Command,
    example="""
    stoker audit show 1042
    stoker audit show 1794225629123456-9f86d081884c7d65 -p shop
    """,
)
@click.argument("row")
@_project
@output_option
@click.pass_context
def show_row(ctx: click.Context, row: str, project: str, output: str) -> None:
    """Show one row, with what was there before and after."""
    control = ctx.obj.control()
    if project := project or ctx.meta.get(_PROJECT, ""):
        one = audit.row_of_project(control, project, row)
        show(one, output, lambda: audit_project.page(one))
        return
    if not (row.isascii() and row.isdecimal() and 0 < len(row) < 16):
        raise click.UsageError(f"{row!r} is not the number of a row; the name of one in a project goes with -p PROJECT")
    found = audit.get(control, int(row))
    show(found, output, lambda: _page(found))


@command.command(
    cls=Command,
    example="""
    stoker audit export --out audit.jsonl
    stoker audit export --actor a1b2c3d4 --since 30d
    """,
)
@_filters
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write here, and the checkpoints beside.")
@click.pass_obj
def export(session: Session, /, out: Path | None, **filters: Any) -> None:
    """Print rows as lines of JSON, the oldest first. Without filters the export can be verified elsewhere."""
    control = session.control()
    if out is None:
        stream = sys.stdout.buffer
        for piece in audit.export(control, _query(**filters)):
            stream.write(piece)
        return
    beside = out.with_name(out.name + ".checkpoints")
    beside.write_bytes(audit.checkpoints(control))  # first: it must not know of more rows than are exported
    with out.open("wb") as file:
        for piece in audit.export(control, _query(**filters)):
            file.write(piece)
    click.echo(f"{out} and {beside.name} written; `stoker audit verify {out} --key PUBLIC_KEY` needs no platform")


@command.command(
    cls=Command,
    example="""
    stoker audit verify
    stoker audit verify --copy /mnt/other/audit.checkpoints
    stoker audit verify audit.jsonl --key platform.pub
    stoker audit verify copy-of-state.db --checkpoints audit.checkpoints --key platform.pub
    """,
)
@click.argument("file", type=_FILE, required=False)
@click.option("--checkpoints", type=_FILE, help="The file of checkpoints; by default the one beside FILE.")
@click.option("--key", type=_FILE, help="The platform's public key (PEM); by default the state folder's.")
@click.option("--copy", type=_FILE, help="A second place of checkpoints: what it knows must still be so.")
@output_option
@click.pass_obj
def verify(
    session: Session, file: Path | None, checkpoints: Path | None, key: Path | None, copy: Path | None, output: str
) -> None:
    """Find any edit, deletion, other order or cut. Ends with 4 if there is one.

    Without FILE the platform that runs is asked. FILE is an export or a copy of state.db, and needs no platform.
    """
    from stoker.cli import audit_verify  # cryptography, for those who need it

    if file is None and (checkpoints or key):
        raise InvalidInput("name the FILE that --checkpoints and --key belong to: an export, or a copy of state.db")
    if file is None and copy is None:
        found = audit.verdict(session.control())
    elif file is None:
        found = audit_verify.of_platform(session, copy)
    else:
        found = audit_verify.of_file(session, file, checkpoints, key, copy)
    show(found, output, lambda: _verdict(found))
    if not found.is_good:
        raise RefusedArtifact(f"the audit was changed: {found.problems[0]}")


@command.command(
    cls=Command,
    example="""
    stoker audit hold shop --because "case 27/114"
    stoker audit hold --all --because "audit of 2027"
    """,
)
@click.argument("project", required=False)
@click.option("--all", "is_all", is_flag=True, help="Hold every row, of every project.")
@click.option("--because", required=True, help="Why, for who asks later.")
@click.pass_obj
def hold(session: Session, project: str | None, is_all: bool, because: str) -> None:
    """Let no row about a project go, however old, until it is released."""
    made = audit.hold(session.control(), _whose(project, is_all), because)
    click.echo(f"{_held(made.project)} held: no row about it goes")


@command.command(cls=Command, example="stoker audit release shop")
@click.argument("project", required=False)
@click.option("--all", "is_all", is_flag=True, help="End the hold of every row; those of single projects stay.")
@click.pass_obj
def release(session: Session, project: str | None, is_all: bool) -> None:
    """End a hold: rows that are older than is kept go within the hour."""
    whose = _whose(project, is_all)
    audit.release(session.control(), whose)
    click.echo(f"{_held(whose)} released")


@command.command(cls=Command, example="stoker audit holds")
@output_option
@click.pass_obj
def holds(session: Session, output: str) -> None:
    """List what holds rows, and why."""
    found = audit.holds(session.control())
    show(items(found), output, lambda: _holds(found))


def _whose(project: str | None, is_all: bool) -> str:
    if (project is None) == (not is_all):
        raise click.UsageError("name a PROJECT, or say --all")
    return EVERY_PROJECT if is_all or project is None else project


def _held(project: str) -> str:
    return click.style("every project" if project == EVERY_PROJECT else project, bold=True)


def _table(found: tuple[AuditEntry, ...]) -> str:
    rows = [
        (
            str(each.event.sequence),
            clock(each.event.at_us / 1e6),
            each.event.subject or each.event.actor,
            each.event.origin or "-",
            outcome(each.event.outcome),
            each.event.action,
            about(each.event.changes, each.event.resources, each.event.because),
        )
        for each in found
    ]
    return columns(("ROW", "WHEN", "WHO", "FROM", "", "DID", "ABOUT"), rows, empty="no row is like that")


def _page(entry: AuditEntry) -> str:
    event = entry.event
    head = fields(
        (
            ("row", str(event.sequence)),
            ("when", clock(event.at_us / 1e6)),
            ("who", f"{event.actor} ({event.subject})" if event.subject else event.actor),
            ("from", event.origin),
            ("by right in", "every project" if event.within == EVERY_PROJECT else event.within),
            ("request", event.request),
            ("did", f"{event.action} ({event.outcome})"),
            ("because", event.because),
            ("about", ", ".join(event.resources)),
            ("hash", entry.hash),
        )
    )
    return "\n".join((head, *(line for each in event.changes for line in ("", *diff(each)))))


def _verdict(found: AuditVerdict) -> str:
    state = (
        click.style("whole", fg="green", bold=True) if found.is_good else click.style("CHANGED", fg="red", bold=True)
    )
    behind = found.last - found.sealed
    lines = [
        f"{state}: rows {found.first} to {found.last}, {found.checkpoints} checkpoints signed with {found.key[:16]}",
        f"signed up to row {found.sealed} at {clock(found.sealed_at_us / 1e6)}"
        + (f"; the {behind} after it could be cut off unseen" if behind > 0 else ""),
    ]
    return "\n".join((*lines, *(click.style(f"  ✗ {each}", fg="red") for each in found.problems)))


def _holds(found: tuple[Hold, ...]) -> str:
    rows = [(_held(each.project), clock(each.at_s), each.by or "-", each.because) for each in found]
    return columns(("PROJECT", "SINCE", "BY", "BECAUSE"), rows, empty="nothing is held")
