"""`stoker prices`: what requests cost at endpoints that name no price of their own."""

from collections.abc import Sequence
from pathlib import Path

import click

from stoker.cli.output import columns, items, show
from stoker.cli.session import Command, Session, output_option
from stoker.cli.values import file_bytes
from stoker.client import usage
from stoker.types.prices import DefaultPrice, PriceBook


@click.command(
    cls=Command,
    example="""
    stoker prices
    stoker prices --set prices.yaml
    """,
)
@click.option(
    "--set",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Make this file (YAML or JSON, with a list `prices`) the platform's default prices, instead of those of now.",
)
@output_option
@click.pass_obj
def command(session: Session, file: Path | None, output: str) -> None:
    """Show, or set, what requests cost by default.

    In US dollars: for a million tokens, a thousand requests, a second of compute.
    """
    connection = session.control().connection
    if file is not None:
        usage.set_prices(connection, _read(file))
    found = usage.prices(connection).prices
    show(items(found), output, lambda: table(found))


def table(prices: Sequence[DefaultPrice]) -> str:
    """Return a line for each."""
    header = ("MODEL", "ENGINE", "TASK", "SINCE", "INPUT", "CACHED", "OUTPUT", "REQUESTS", "COMPUTE")
    rows = [
        (
            each.model or "any", each.engine or "any", each.task or "any", each.since or "always",
            str(each.price.input), "-" if each.price.cached is None else str(each.price.cached),
            str(each.price.output), str(each.price.requests), str(each.price.compute),
        )
        for each in prices
    ]  # fmt: skip
    return columns(header, rows, empty="no default prices; endpoints may have their own (spec.price)")


def _read(file: Path) -> PriceBook:
    from stoker.protocol.manifest import load_struct

    return load_struct(file_bytes(file), PriceBook)
