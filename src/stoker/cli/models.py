"""`stoker models`: versions in the registry, and their aliases."""

import click

from stoker.cli import tables
from stoker.cli.kinds import split_reference
from stoker.cli.output import items, show
from stoker.cli.session import Command, Session, checked_name, output_option, write_example
from stoker.types.errors import InvalidInput
from stoker.types.models import ModelVersion

_EXAMPLE = """
stoker models
stoker models digits -o json
stoker models alias digits@2 prod
stoker models alias digits prod --remove
"""


class ModelsGroup(click.Group):
    """`stoker models [NAME]` lists; `stoker models alias …` is the one sub-command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read a first word that is no sub-command as the name of a model."""
        words = [word for word in args if not word.startswith("-")]
        if words and words[0] not in self.commands:
            ctx.meta["model"] = words[0]
            args = [word for word in args if word is not words[0]]
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=ModelsGroup, invoke_without_command=True, subcommand_metavar="[NAME] | alias …")
@output_option
@click.pass_context
def command(ctx: click.Context, output: str) -> None:
    """List models and versions, set aliases."""
    if ctx.invoked_subcommand is not None:
        return
    session: Session = ctx.obj
    control = session.control()
    name, reference = split_reference(ctx.meta.get("model", ""))
    if reference is not None:
        found: tuple[ModelVersion, ...] = (control.version(name, reference),)
    else:
        found = control.versions(name) if name else control.models()
    show(items(found), output, lambda: tables.versions_table(found))


@command.command(
    cls=Command,
    example="""
    stoker models alias digits@2 prod
    stoker models alias digits prod --remove
    """,
)
@click.argument("version")
@click.argument("alias", callback=checked_name)
@click.option("--remove", is_flag=True, help="Take the alias away; the version stays.")
@click.pass_obj
def alias(session: Session, version: str, alias: str, remove: bool) -> None:
    """Point ALIAS at VERSION (NAME@NUMBER, NAME@DIGEST or NAME@OTHER-ALIAS)."""
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
