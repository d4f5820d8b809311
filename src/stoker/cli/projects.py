"""`stoker projects`: teams, each with its endpoints and keys."""

from typing import Final

import click
import msgspec

from stoker.cli import tables
from stoker.cli.apply import result_lines
from stoker.cli.output import items, show
from stoker.cli.session import Command, Session, checked_name, output_option, write_example
from stoker.client import access
from stoker.types.errors import NotFound
from stoker.types.resources import Project, ProjectMetadata

_EXAMPLE: Final = """
stoker projects
stoker projects create search --description "Search team"
stoker projects delete search
"""


class ProjectsGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=ProjectsGroup, invoke_without_command=True)
@output_option
@click.pass_context
def command(ctx: click.Context, output: str) -> None:
    """List, create and delete projects."""
    if ctx.invoked_subcommand is None:
        found = ctx.obj.control().projects()
        show(items(found), output, lambda: tables.projects_table(found))


@command.command(cls=Command, example='stoker projects create search --description "Search team"')
@click.argument("name", callback=checked_name)
@click.option("--description", help="What it is for.")
@click.pass_obj
def create(session: Session, name: str, description: str | None) -> None:
    """Create a project, or change its description."""
    control = session.control()
    try:
        found = access.project(control, name)
    except NotFound:
        found = Project(ProjectMetadata(name))
    spec = found.spec if description is None else msgspec.structs.replace(found.spec, description=description)
    wanted = msgspec.structs.replace(found, spec=spec)
    click.echo(result_lines(control.apply(msgspec.json.encode(wanted)), with_diff=True))


@command.command(cls=Command, example="stoker projects delete search")
@click.argument("name", callback=checked_name)
@click.pass_obj
def delete(session: Session, name: str) -> None:
    """Delete a project that has no endpoints left."""
    session.control().delete_project(name)
    click.echo(f"project {name} deleted")
