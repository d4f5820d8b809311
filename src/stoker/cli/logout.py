"""`stoker logout`: the end of the command line's session."""

import click

from stoker.cli.session import Command, Session
from stoker.client import signed_in
from stoker.client.connection import Connection
from stoker.client.trust import Trust
from stoker.types.errors import StokerError


@click.command(cls=Command, example="stoker logout")
@click.pass_obj
def command(session: Session) -> None:
    """Sign out: the session ends there, and its file goes."""
    signed = signed_in.read(session.signed_path)
    if signed is None:
        click.echo("you are not signed in")
        return
    try:
        signed_in.leave(Connection(signed.api, signed.token, trust=Trust(ca=session.ca, own=session.cert)))
    except StokerError as away:
        click.echo(f"the session could not be ended there ({away.message}); it ends by itself", err=True)
    session.signed_path.unlink(missing_ok=True)
    click.echo(f"{signed.email or signed.subject} is signed out")
