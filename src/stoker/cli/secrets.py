"""`stoker secrets`: which secrets manifests name, where, and how they stand. Never a value."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from stoker.cli.exits import Exit
from stoker.cli.output import columns, duration, show
from stoker.cli.session import Command, Session, output_option, write_example
from stoker.client import secrets
from stoker.types.secrets import Health, SecretList, SecretView

_COLOURS: Final[dict[Health, str]] = {
    "good": "green",
    "stale": "yellow",
    "missing": "red",
    "refused": "red",
    "unread": "bright_black",
}


_EXAMPLE: Final = """
stoker secrets list
stoker secrets check --project team-a
"""


class SecretsGroup(click.Group):
    """The group, whose help ends with examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=SecretsGroup, no_args_is_help=True)
def command() -> None:
    """Say which secrets are named where, and whether they can be read. No command shows or takes a value."""


def _chosen(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--project", default="", help="Only this project's.")(output_option(function))


@command.command("list", cls=Command, example="stoker secrets list\nstoker secrets list --project team-a -o json")
@_chosen
@click.pass_obj
def list_(session: Session, output: str, project: str) -> None:
    """List every place that names a secret, and how that stands."""
    found = secrets.listed(session.control().connection, project)
    show(found, output, lambda: page(found.items))


@command.command(cls=Command, example="stoker secrets check\nstoker secrets check --project team-a")
@_chosen
@click.pass_context
def check(ctx: click.Context, output: str, project: str) -> None:
    """Read them all again now, and say which cannot be read; the exit code is 1 then."""
    session: Session = ctx.obj
    found = secrets.checked(session.control(secrets.CHECK_TIMEOUT_S).connection, project)
    show(found, output, lambda: page(found.items))
    if not is_good(found):
        ctx.exit(Exit.FAILED)


def is_good(found: SecretList) -> bool:
    """Return whether all can be read."""
    return all(each.health in ("good", "unread") for each in found.items)


def page(items: Sequence[SecretView]) -> str:
    """Return them for people at a terminal."""
    header = ("SECRET", "USED BY", "FIELD", "HEALTH", "READ", "CHANGED", "PROCESSES")
    now_s = time.time()
    rows = [
        (
            each.use.reference,
            f"{each.use.kind.lower()} {each.use.project}/{each.use.name}",
            each.use.field,
            click.style(each.health, fg=_COLOURS[each.health]),
            _ago((state.read_at_s for state in each.states), now_s),
            _ago((state.changed_at_s for state in each.states), now_s),
            str(len(each.states) or "-"),
        )
        for each in items
    ]
    table = columns(header, rows, empty="no manifest names a secret")
    said = dict.fromkeys(
        f"{each.use.field} of {each.use.project}/{each.use.name}: {each.message}"
        for each in items
        if each.health not in ("good", "unread")
    )
    return "\n".join((table, "", *said)) if said else table


def _ago(times_s: Any, now_s: float) -> str:
    found = [each for each in times_s if each]
    return f"{duration(max(0.0, now_s - min(found)))} ago" if found else "-"
