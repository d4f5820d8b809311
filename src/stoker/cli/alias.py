"""`stoker alias`: names for versions, such as digits@prod."""

import click

from stoker.cli.kinds import split_reference
from stoker.cli.session import Command, Session, checked_name
from stoker.types.errors import InvalidInput


@click.command(
    cls=Command,
    example="""
    stoker alias digits@2 prod
    stoker alias digits prod --remove
    """,
)
@click.argument("version")
@click.argument("alias", callback=checked_name)
@click.option("--remove", is_flag=True, help="Take the alias away; the version stays.")
@click.pass_obj
def command(session: Session, version: str, alias: str, remove: bool) -> None:
    """Name a version, such as digits@prod: point ALIAS at VERSION.

    VERSION is NAME@NUMBER, NAME@DIGEST or NAME@OTHER-ALIAS.
    """
    control = session.control()
    name, reference = split_reference(version)
    if remove:
        control.delete_alias(name, alias)
        click.echo(f"{name}@{alias} removed")
        return
    if reference is None:
        raise InvalidInput(f"say which version of {name}: {name}@1")
    number = control.version(name, reference).number
    control.set_alias(name, alias, number)
    click.echo(f"{name}@{alias} is now {name}@{number}")
