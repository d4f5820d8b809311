"""`stoker down`: drain and stop the platform of a state folder; and the ending that `up` shares."""

import os

import click

from stoker.app.home import Home
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session


@click.command(
    cls=Command,
    example="""
    stoker down
    stoker down --drain 0
    """,
)
@click.option(
    "--drain", "drain_s", type=click.FloatRange(0, 3600), help="Seconds that running requests may take to finish."
)
@click.pass_obj
def command(session: Session, drain_s: float | None) -> None:
    """Drain and stop the platform. Requests that run are finished first; Ctrl-C hurries."""
    from stoker.app import settings

    chosen = settings.load(os.environ, home=session.home, drain_s=drain_s)
    was_running = end(session.folder, chosen.drain_s)
    click.echo("stopped" if was_running else f"nothing was running from {session.home}")


def end(home: Home, drain_s: float) -> bool:
    """Stop everything with a progress line; Ctrl-C meanwhile gives up waiting. Return whether anything ran."""
    from stoker.app.down import down

    with Progress("Stopping") as progress:
        try:
            return down(home, drain_s=drain_s, progress=progress.step)
        except KeyboardInterrupt:
            progress.step("hurrying")
        down(home, drain_s=0.0, progress=progress.step)
        return True
