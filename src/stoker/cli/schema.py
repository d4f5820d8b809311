"""`stoker schema`: the JSON Schema of manifests."""

import click
import msgspec

from stoker.cli.session import Command


@click.command(
    cls=Command,
    example="""
    stoker schema > stoker.schema.json
    # then, as the first line of a manifest: # yaml-language-server: $schema=stoker.schema.json
    """,
)
def command() -> None:
    """Print the JSON Schema of manifests, for editors that complete and check."""
    from stoker.protocol import manifest  # PyYAML takes longer to import than most commands to run

    click.echo(msgspec.json.format(msgspec.json.encode(manifest.json_schema()), indent=2).decode())
