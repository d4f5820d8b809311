"""`stoker usage`: what was used and what it cost, by whom."""

import csv
import io
from typing import Final

import click
import msgspec

from stoker.cli.output import columns, show
from stoker.cli.session import Command, Session, write_example
from stoker.cli.values import check_span
from stoker.client.usage import records, usage
from stoker.core.usage import FIELDS, Report, Row
from stoker.types.usage import RecordPage, RecordView

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # OWASP, CSV injection
_EXAMPLE: Final = """
stoker usage
stoker usage --by project,day --from 7d
stoker usage --by tag:team,endpoint --from 2026-11 --to 2026-12 -o csv
stoker usage export --from 2026-11 --to 2026-12 --format csv > november.csv
"""


class UsageGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=UsageGroup, invoke_without_command=True)
@click.option(
    "--by",
    default="project,endpoint",
    show_default=True,
    help="project, endpoint, revision, key, tenant, tags, tag:NAME, hour, day, month.",
)
@click.option("--from", "from_", default="", help="The first day (2026-11-29), month, or time ago (7d); this month.")
@click.option("--to", default="", help="The end, likewise, which is not in it; now.")
@click.option("-p", "--project", default="", help="One project's alone.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "csv"]),
    default="table",
    help="How to print: for people, or for programs.",
)
@click.pass_context
def command(ctx: click.Context, by: str, from_: str, to: str, project: str, output: str) -> None:
    """Show what was used and what it cost, by whom; or export it request by request. Times are UTC."""
    if ctx.invoked_subcommand is not None:
        return
    found = usage(ctx.obj.control().connection, by=by, from_=from_, to=to, project=project)
    check_span(found.from_s, found.to_s)
    if output == "csv":
        click.echo(as_csv(found, by), nl=False)
    else:
        show(found, output, lambda: table(found, by))


@command.command(cls=Command, example="stoker usage export --from 2026-11 --to 2026-12 --format csv > november.csv")
@click.option("--from", "from_", default="", help="The first day (2026-11-29), month, or time ago (7d); this month.")
@click.option("--to", default="", help="The end, likewise, which is not in it; now.")
@click.option("-p", "--project", default="", help="One project's alone.")
@click.option(
    "--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True, help="One a line."
)
@click.option("--after", default="", help="Go on behind this place, which an export before has told.")
@click.pass_obj
def export(session: Session, from_: str, to: str, project: str, form: str, after: str) -> None:
    """Write each request's usage record as a line, in the order in which they were settled.

    Takes a page of memory, however much there is. Tells at the end, on stderr, where to go on for what comes later.
    """
    connection, is_first, count = session.control().connection, True, 0
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    while True:
        page = records(connection, after=after, from_=from_, to=to, project=project)
        if is_first:
            _warn_of_gap(page, after)
            if form == "csv":
                writer.writerow(RecordView.__struct_fields__)
        if form == "csv":
            for each in page.items:
                writer.writerow(_csv_cells(each))
            click.echo(text.getvalue(), nl=False)
            text.seek(0)
            text.truncate()
        else:
            for each in page.items:
                click.echo(msgspec.json.encode(each))
        is_first, after, count = False, page.next, count + len(page.items)
        if page.is_last:
            click.echo(f"{count} records; for what is settled later: --after {page.next}", err=True)
            return


def _warn_of_gap(page: RecordPage, after: str) -> None:
    if not after:
        kept = f"records are kept from {page.kept_from} on" if page.kept_from else "no records are kept"
        click.echo(f"{kept}; `stoker usage` has the sums of what was before", err=True)


def _csv_cells(record: RecordView) -> list[object]:
    values = msgspec.structs.asdict(record)
    values["tags"] = ",".join(f"{name}={value}" for name, value in record.tags.items())
    values["flags"] = ",".join(record.flags)
    return [_harmless(each) for each in values.values()]


def _harmless(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula: tags and tenants are whatever callers say."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value


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
