"""`stoker models`: versions in the registry."""

import click

from stoker.cli import tables
from stoker.cli.kinds import split_reference
from stoker.cli.output import items, show
from stoker.cli.session import Command, Session, output_option
from stoker.types.models import ModelVersion


@click.command(
    cls=Command,
    example="""
    stoker models
    stoker models digits -o json
    stoker models digits@prod
    """,
)
@click.argument("name", required=False)
@output_option
@click.pass_obj
def command(session: Session, name: str | None, output: str) -> None:
    """List models and versions."""
    control = session.control()
    model, reference = split_reference(name or "")
    if reference is not None:
        found: tuple[ModelVersion, ...] = (control.version(model, reference),)
    else:
        found = control.versions(model) if model else control.models()
    show(items(found), output, lambda: tables.versions_table(found))
