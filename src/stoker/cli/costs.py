"""`stoker costs`: what serving cost, whose it was, what it will be; and the prices of pools."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from stoker.cli import costs_page
from stoker.cli.costs_advise import advise
from stoker.cli.output import show
from stoker.cli.session import Command, Session, output_option, write_example
from stoker.cli.values import check_span, file_bytes
from stoker.client import costs
from stoker.types.costs import PriceList

_EXAMPLE: Final = """
stoker costs
stoker costs --by kind --since 7d
stoker costs --by payer,day --since 2026-11 -o csv
stoker costs --since 2026-11 --to 2026-12 --focus november.csv
stoker costs prices --set pools.yaml
stoker costs advise
"""


class CostsGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=CostsGroup, invoke_without_command=True)
@click.option(
    "--by",
    default="project,endpoint",
    show_default=True,
    help="payer, project, endpoint, revision, key, tags, tag:NAME, kind, pool, hour, day, month.",
)
@click.option("--since", "--from", "since", default="", help="The first day (2026-11-29), month, or time ago (7d).")
@click.option("--to", default="", help="The end, likewise, which is not in it; now.")
@click.option("-p", "--project", default="", help="Only what that project pays, or its endpoints cost.")
@click.option(
    "--focus",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the lines of hours that are over into this file instead, as FOCUS 1.2 rows (CSV).",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "csv"]),
    default="table",
    help="How to print: for people, or for programs.",
)
@click.pass_context
def command(ctx: click.Context, by: str, since: str, to: str, project: str, focus: Path | None, output: str) -> None:
    """Show what serving cost, whose it was, and what it will: idle machines and all, this month's. Times are UTC."""
    if ctx.invoked_subcommand is not None:
        return
    connection = ctx.obj.control().connection
    if focus is not None:
        rows = _write(focus, costs.focus(connection, from_=since, to=to, project=project))
        click.echo(f"{rows:,} lines in {focus}" + ("" if rows else "; an hour is in it from 90 s after its end on"))
        return
    names = [name.strip() for name in by.split(",") if name.strip()]
    found = costs.costs(connection, by=by, from_=since, to=to, project=project)
    check_span(found.from_s, found.to_s)
    if output == "csv":
        click.echo(costs_page.as_csv(found, names), nl=False)
    else:
        show(found, output, lambda: costs_page.page(found, names))


command.add_command(advise)


@command.command(
    cls=Command,
    example="""
    stoker costs prices
    stoker costs prices --set pools.yaml
    """,
)
@click.option(
    "--set",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Make this file (YAML or JSON, with a list `pools`) the prices of all pools, instead of those of now.",
)
@output_option
@click.pass_obj
def prices(session: Session, file: Path | None, output: str) -> None:
    """Show, or set, what the machines of pools cost, and who pays for what nobody used. In US dollars."""
    connection = session.control().connection
    if file is not None:
        costs.set_prices(connection, _read(file))
    found = costs.prices(connection)
    show(found, output, lambda: costs_page.prices_table(found.pools))


def _read(file: Path) -> PriceList:
    from stoker.protocol.manifest import load_struct

    return load_struct(file_bytes(file), PriceList)


def _write(file: Path, pieces: Iterator[bytes]) -> int:
    """Write the whole file or none; return how many lines it has under its header."""
    half = file.with_name(f".{file.name}.{os.getpid()}")
    lines = 0
    try:
        with half.open("wb") as opened:
            for piece in pieces:
                opened.write(piece)
                lines += piece.count(b"\n")
        half.replace(file)
    except OSError as refused:
        raise click.UsageError(f"--focus: {file} cannot be written: {refused.strerror}") from refused
    finally:
        half.unlink(missing_ok=True)
    return lines - 1
