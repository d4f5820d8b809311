"""`stoker members`: who may do what in a project, the roles there are, and the end of somebody who leaves."""

from typing import Final

import click

from stoker.cli import tables
from stoker.cli.output import items, show
from stoker.cli.session import Command, Session, output_option, project_option, write_example
from stoker.client import access

_EXAMPLE: Final = """
stoker members list --project vision
stoker members add user:alice@example.org --role deployer --project vision
stoker members roles
stoker members leave user:alice@example.org
"""


class MembersGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=MembersGroup)
def command() -> None:
    """Say who may do what in a project."""


@command.command("list", cls=Command, example="stoker members list --project vision")
@output_option
@project_option
@click.pass_obj
def list_members(session: Session, output: str, project: str) -> None:
    """List the members of a project."""
    found = access.project(session.control(), project).spec.members
    show(items(found), output, lambda: tables.members_table(found))


@command.command(cls=Command, example="stoker members add service:ci --role deployer --project vision")
@click.argument("subject")
@click.option("--role", required=True, help="viewer, caller, deployer, operator, owner, or a role of your own.")
@project_option
@click.pass_obj
def add(session: Session, subject: str, role: str, project: str) -> None:
    """Make SUBJECT a member, or give it another role. Its keys can do what the role says, at the most."""
    access.set_member(session.control(), project, subject, role)
    click.echo(f"{subject} is {role} in project {project}")


@command.command(cls=Command, example="stoker members remove service:ci --project vision")
@click.argument("subject")
@project_option
@click.pass_obj
def remove(session: Session, subject: str, project: str) -> None:
    """Make SUBJECT no member of a project any more; its keys of the project end."""
    access.remove_member(session.control(), project, subject)
    click.echo(f"{subject} is no member of project {project} any more, and its keys of it have ended")


@command.command(cls=Command, example="stoker members leave user:alice@example.org")
@click.argument("subject")
@click.pass_obj
def leave(session: Session, subject: str) -> None:
    """End everything that SUBJECT has, in every project: memberships and keys."""
    ended = access.remove_subject(session.control(), subject)
    projects, keys = tables.counted(len(ended.projects), "project"), tables.counted(ended.keys, "key")
    have = "has" if ended.keys == 1 else "have"
    click.echo(f"{subject} is no member of {projects} any more, and {keys} {have} ended")


@command.command(cls=Command, example="stoker members roles")
@output_option
@click.pass_obj
def roles(session: Session, output: str) -> None:
    """List the roles there are, with what they may do."""
    found = access.roles(session.control())
    show(items(found), output, lambda: tables.roles_table(found))
