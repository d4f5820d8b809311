"""`stoker nodes`: which machines the platform runs on, who may join, and who is one no more."""

import time
from typing import Final

import click

from stoker.cli import tables
from stoker.cli.output import items, show
from stoker.cli.session import Command, Session, checked_name, output_option, write_example
from stoker.cli.values import lifetime_s
from stoker.client import nodes
from stoker.types.nodes import TokenWish
from stoker.types.placement import DEFAULT_POOL

_EXAMPLE: Final = """
stoker nodes token gpu-1 --pool gpu
stoker nodes list
stoker nodes remove gpu-1
stoker nodes rotate-ca
"""


class NodesGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=NodesGroup)
def command() -> None:
    """Let machines join, list them, and remove them."""


@command.command("list", cls=Command, example="stoker nodes list -o json")
@output_option
@click.pass_obj
def list_nodes(session: Session, output: str) -> None:
    """List the nodes and how they are."""
    found = session.control().nodes()
    show(items(found), output, lambda: tables.nodes_table(found))


@command.command(cls=Command, example="stoker nodes token gpu-1 --pool gpu --expires 15m")
@click.argument("name", callback=checked_name)
@click.option("--pool", default=DEFAULT_POOL, show_default=True, help="The pool that the node will be in.")
@click.option("--expires", default="1h", show_default=True, help="How long the token may be used, 7d at the most.")
@output_option
@click.pass_obj
def token(session: Session, name: str, pool: str, expires: str, output: str) -> None:
    """Make a token that lets the machine NAME in, once. It is shown this once."""
    try:
        seconds = lifetime_s(expires)
    except ValueError as wrong:
        raise click.UsageError(f"--expires: {wrong}") from wrong
    made = nodes.token(session.control(), TokenWish(name, pool, seconds))

    def words() -> str:
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(made.expires_at_s))
        run = f"stoker node join {made.url} --token {made.token} --ca-fingerprint {made.fingerprint}"
        return f"on {click.style(name, bold=True)}, once and before {until}:\n\n  {run}\n"

    show(made, output, words)


@command.command(cls=Command, example="stoker nodes remove gpu-1")
@click.argument("name")
@click.pass_obj
def remove(session: Session, name: str) -> None:
    """Have NAME be no node any more: its certificates are refused, its replicas start elsewhere."""
    nodes.remove(session.control(), name)
    click.echo(f"{name} is no node any more; what it shows is refused within seconds")


@command.command("rotate-ca", cls=Command, example="stoker nodes rotate-ca")
@output_option
@click.pass_obj
def rotate(session: Session, output: str) -> None:
    """Have another certificate authority follow. It signs once every node trusts it; both are trusted meanwhile."""
    made = nodes.rotate(session.control())
    show(made, output, lambda: f"an authority follows: {made.fingerprint}\nnow: {made.state}")
