"""`stoker sessions`: who is signed in, and the end of a session."""

import time
from collections.abc import Sequence
from typing import Final

import click

from stoker.cli.output import age, columns, fields, items, show
from stoker.cli.session import Command, Session, output_option, write_example
from stoker.client import signed_in
from stoker.types.access import EVERYWHERE
from stoker.types.identity import Me, SessionView

_EXAMPLE: Final = """
stoker sessions list
stoker sessions revoke a1b2c3d4
stoker sessions whoami
"""


class SessionsGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=SessionsGroup)
def command() -> None:
    """Say who is signed in, and end sessions."""


@command.command("list", cls=Command, example="stoker sessions list -o json")
@output_option
@click.pass_obj
def list_sessions(session: Session, output: str) -> None:
    """List sessions: your own, or with platform:read everybody's."""
    found = signed_in.sessions(session.control().connection)
    show(items(found), output, lambda: table(found))


@command.command(cls=Command, example="stoker sessions revoke a1b2c3d4")
@click.argument("session_id")
@click.pass_obj
def revoke(session: Session, session_id: str) -> None:
    """End a session: your own, or with platform:write anybody's."""
    signed_in.revoke(session.control().connection, session_id)
    click.echo(f"session {session_id} has ended")


@command.command(cls=Command, example="stoker sessions whoami")
@output_option
@click.pass_obj
def whoami(session: Session, output: str) -> None:
    """Say who you are there, by key, token or session, and what you may do."""
    me = signed_in.me(session.control().connection)
    show(me, output, lambda: _who(me))


def _who(me: Me) -> str:
    places = [
        ("everywhere" if each.project == EVERYWHERE else f"in {each.project}", ", ".join(each.permissions))
        for each in me.grants
    ]
    key = "" if me.session else me.key
    pairs = [("subject", me.subject), ("email", me.email), ("key", key), ("session", me.session), *places]
    return fields(pairs)


def table(sessions: Sequence[SessionView]) -> str:
    """Return sessions as a table."""
    rows = [
        (
            f"{one.id} (this)" if one.current else one.id,
            one.subject,
            one.email or "-",
            one.kind,
            one.origin,
            age(one.created_at_s),
            age(one.used_at_s),
            f"in {age(1.0, 1.0 + max(one.expires_at_s - time.time(), 0.0))}",
        )
        for one in sessions
    ]
    header = ("ID", "SUBJECT", "EMAIL", "KIND", "FROM", "AGE", "USED", "ENDS")
    return columns(header, rows, empty="nobody is signed in")
