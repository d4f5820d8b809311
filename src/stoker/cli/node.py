"""`stoker node`: this machine as a node of another machine's platform."""

import os
from typing import Final

import click

from stoker.cli.session import Command, Session, write_example

_EXAMPLE: Final = """
stoker node join https://10.0.0.1:7443 --token stn_… --ca-fingerprint sha256:…
stoker node run
"""


class NodeGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=NodeGroup)
def command() -> None:
    """Make this machine a node of a platform, and run it."""


@command.command(cls=Command, example="stoker node join https://10.0.0.1:7443 --token stn_… --ca-fingerprint sha256:…")
@click.argument("url")
@click.option("--token", required=True, envvar="STOKER_NODE_TOKEN", help="As `stoker nodes token` printed it.")
@click.option("--ca-fingerprint", "fingerprint", required=True, help="The same; it says that control is the right one.")
@click.option("--address", default="", help="Where others reach this machine; by default as control sees it.")
@click.option("--port", type=click.IntRange(1, 65_535), default=7442, show_default=True, help="Of this node's agent.")
@click.option(
    "--ports-from", type=click.IntRange(1024, 64_511), default=17_000, show_default=True,
    help="The first of 1,024 ports for its replicas.",
)  # fmt: skip
@click.option("--no-run", is_flag=True, help="Only join; `stoker node run` starts it.")
@click.pass_obj
def join(
    session: Session, url: str, token: str, fingerprint: str, address: str, port: int, ports_from: int, no_run: bool
) -> None:
    """Join the platform whose control is at URL, and run as its node until stopped."""
    from stoker.app import join as joining

    joined = joining.join(session.folder, url, token, fingerprint, (address, port, ports_from))
    click.echo(f"{click.style(joined.name, bold=True)} joined {joined.control}, pool {joined.pool}", err=True)
    if not no_run:
        _run(session)


@command.command(cls=Command, example="stoker node run")
@click.pass_obj
def run(session: Session) -> None:
    """Run this machine's agent until stopped; replicas that run are taken over."""
    _run(session)


def _run(session: Session) -> None:
    from stoker.app import node_main, settings
    from stoker.telemetry.logs import configure

    chosen = settings.load(os.environ, home=session.home)
    configure("agent", chosen.log_level)
    node_main.run(session.folder, chosen)
