"""`stoker traces`: the requests that left a trace, newest first."""

import time
from collections.abc import Sequence

import click

from stoker.cli.output import age, columns, duration, items, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.types.traces import Trace


@click.command(
    cls=Command,
    example="""
    stoker traces
    stoker traces digits --slow
    stoker traces --errors -n 10
    """,
)
@click.argument("endpoint", required=False, shell_complete=complete_endpoint)
@project_option
@click.option("--slow", is_flag=True, help="Only those that were slow for their endpoint.")
@click.option("--errors", is_flag=True, help="Only those that ended with an error of the platform (5xx).")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@output_option
@click.pass_obj
def command(
    session: Session, endpoint: str | None, project: str, slow: bool, errors: bool, limit: int, output: str
) -> None:
    """List requests that left a trace, newest first: of ENDPOINT, or of all."""
    which = f"{project}/{endpoint}" if endpoint else None
    found = session.control().traces(endpoint=which, is_slow=slow, is_error=errors, limit=limit)
    if endpoint and not found:
        session.know(project, endpoint)
    show(items(found), output, lambda: table(found, time.time()))


def table(traces: Sequence[Trace], now_s: float) -> str:
    """Return a line for each."""
    header = ("AGE", "ENDPOINT", "STATUS", "TOOK", "TRIES", "BECAUSE", "TRACE")
    rows = [
        (
            age(one.began_at_s, now_s),
            f"{one.endpoint} → {one.served_by}" if one.served_by else one.endpoint or "-",
            click.style(str(one.status), fg="red" if one.status >= 500 else None),
            duration(one.seconds),
            str(len(one.tries)),
            one.because,
            one.id,
        )
        for one in traces
    ]
    return columns(header, rows, empty="no traces; one request in a hundred leaves one, and all that go wrong")
