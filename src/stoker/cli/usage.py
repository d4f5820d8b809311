"""`stoker usage`: what was used and what it cost, by whom."""

import csv
import io

import click
import msgspec

from stoker.cli.output import columns, show
from stoker.cli.session import Command, Session
from stoker.client.usage import usage
from stoker.core.usage import FIELDS, Report, Row


@click.command(
    cls=Command,
    example="""
    stoker usage
    stoker usage --by project,day --from 7d
    stoker usage --by tag:team,endpoint --from 2026-11 --to 2026-12 -o csv
    """,
)
@click.option(
    "--by",
    default="project,endpoint",
    show_default=True,
    help="project, endpoint, revision, key, tenant, tags, tag:NAME, hour, day, month.",
)
@click.option("--from", "from_", default="", help="The first day (2026-11-29), month, or time ago (7d); this month.")
@click.option("--to", default="", help="The end, likewise; now.")
@click.option("-p", "--project", default="", help="One project's alone.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "csv"]),
    default="table",
    help="How to print: for people, or for programs.",
)
@click.pass_obj
def command(session: Session, by: str, from_: str, to: str, project: str, output: str) -> None:
    """Show what was used and what it cost, by whom. Times are UTC."""
    found = usage(session.control().connection, by=by, from_=from_, to=to, project=project)
    if output == "csv":
        click.echo(as_csv(found, by), nl=False)
    else:
        show(found, output, lambda: table(found, by))


def table(report: Report, by: str) -> str:
    """Return a line for each, and one for all."""
    names = _names(by)
    header = (*(name.upper() for name in names), "REQUESTS", "FAILED", "IN", "CACHED", "OUT", "ROWS", "COMPUTE", "COST")
    rows = [(*(row.by.get(name, "") or "-" for name in names), *_cells(row)) for row in report.items]
    if len(rows) > 1:
        rows.append((*("all" if at == 0 else "" for at in range(len(names))), *_cells(report.total)))
    return columns(header, rows, empty="nothing was used in this time")


def as_csv(report: Report, by: str) -> str:
    """Return everything that is known, a line each."""
    names = _names(by)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*names, *FIELDS, "price_usd"))
    for row in report.items:
        values = msgspec.structs.asdict(row)
        writer.writerow((*(row.by.get(name, "") for name in names), *(values[name] for name in FIELDS), row.price_usd))
    return text.getvalue()


def _names(by: str) -> list[str]:
    return [name.strip() for name in by.split(",") if name.strip()]


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.requests:,}",
        f"{row.failed:,}" if row.failed else "-",
        *(f"{count:,}" if count else "-" for count in (row.input_tokens, row.cached_tokens, row.output_tokens)),
        f"{row.rows:,}" if row.rows else "-",
        f"{row.compute_us / 1e6:,.1f} s" if row.compute_us else "-",
        f"${row.price_usd}" if row.price_nano_usd else "-",
    )
