"""`stoker models`: versions in the registry, what they are made of, who signed them, how alike they are."""

from typing import Final

import click

from stoker.cli import tables
from stoker.cli.compare import compare
from stoker.cli.inspect import bom, inspect
from stoker.cli.kinds import split_reference
from stoker.cli.output import items, show
from stoker.cli.session import Command, Session, output_option, write_example
from stoker.cli.signing import sign, verify
from stoker.types.models import ModelVersion

_EXAMPLE: Final = """
stoker models
stoker models digits -o json
stoker models inspect digits@prod
stoker models compare smol@1 smol@2
stoker models sign digits@3 --key team.pem
"""


class ModelsGroup(click.Group):
    """The group with its examples; without a command it lists, so that `stoker models digits` is enough."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` in front of what is no command."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=ModelsGroup)
def command() -> None:
    """List models and versions, inspect, compare and sign them."""


@command.command(
    "list",
    cls=Command,
    example="""
    stoker models list
    stoker models list digits@prod
    """,
)
@click.argument("name", required=False)
@output_option
@click.pass_obj
def list_models(session: Session, name: str | None, output: str) -> None:
    """List models and versions."""
    control = session.control()
    model, reference = split_reference(name or "")
    if reference is not None:
        found: tuple[ModelVersion, ...] = (control.version(model, reference),)
    else:
        found = control.versions(model) if model else control.models()
    show(items(found), output, lambda: tables.versions_table(found))


for _each in (inspect, bom, compare, sign, verify):
    command.add_command(_each)
