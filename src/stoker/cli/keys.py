"""`stoker keys`: who may call."""

from typing import Final

import click

from stoker.cli import tables
from stoker.cli.output import clock, items, show
from stoker.cli.session import Command, Session, output_option, project_option, write_example
from stoker.types.units import parse_seconds

_EXAMPLE: Final = """
stoker keys create batch-job --expires 30d
stoker keys list
stoker keys revoke a1b2c3d4
"""


class KeysGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


def _lifetime(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of a time such as 30d."""
    if value is None:
        return None
    try:
        seconds = parse_seconds(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from wrong
    if seconds <= 0:
        raise click.BadParameter("a key must live longer than that")
    return seconds


@click.group(cls=KeysGroup)
def command() -> None:
    """Create, list and revoke API keys."""


@command.command(
    cls=Command,
    example="""
    stoker keys create batch-job --expires 30d
    export OPENAI_API_KEY=$(stoker keys create laptop -q)
    """,
)
@click.argument("name")
@click.option("--admin", is_flag=True, help="May also change things: the whole control API.")
@click.option(
    "--expires", "expires_in_s", callback=_lifetime, metavar="TIME", help="When it ends: 12h, 30d. By default never."
)
@click.option("-q", "--quiet", is_flag=True, help="Print the key and nothing else.")
@output_option
@project_option
@click.pass_obj
def create(
    session: Session, name: str, admin: bool, expires_in_s: float | None, quiet: bool, output: str, project: str
) -> None:
    """Make a key called NAME. It is shown this once; only its hash is kept."""
    made = session.control().create_key(project, name, admin=admin, expires_in_s=expires_in_s)
    if quiet:
        click.echo(made.key)
        return
    until = f", until {clock(made.expires_at_s)}" if made.expires_at_s else ""
    note = click.style(f"{made.id} for project {made.project}{until}; shown this once", dim=True)
    show(made, output, lambda: f"{click.style(made.key, bold=True)}\n{note}")


@command.command("list", cls=Command, example="stoker keys list -o json")
@output_option
@click.pass_obj
def list_keys(session: Session, output: str) -> None:
    """List keys, without their secrets."""
    found = session.control().keys()
    show(items(found), output, lambda: tables.keys_table(found))


@command.command(cls=Command, example="stoker keys revoke a1b2c3d4")
@click.argument("key_id")
@click.pass_obj
def revoke(session: Session, key_id: str) -> None:
    """End a key by its id. Gateways stop accepting it within a second."""
    session.control().revoke_key(key_id)
    click.echo(f"key {key_id} revoked")
