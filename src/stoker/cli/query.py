"""`stoker query`: what any metric was, as a table, a chart a line, or data for another program."""

import csv
import io
import time
from collections.abc import Sequence
from typing import Final

import click

from stoker.cli.output import columns, show
from stoker.cli.session import Command, Session
from stoker.client.views import Chart, Line
from stoker.types.units import parse_seconds

POINTS: Final = 60  # of a chart when no step is given
BARS: Final = "▁▂▃▄▅▆▇█"
NICE_S: Final = (5, 15, 30, 60, 300, 900, 1800, 3600, 6 * 3600, 86_400)


def _time(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        found_s = parse_seconds(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from wrong
    if found_s <= 0:
        raise click.BadParameter("it must be longer than nothing")
    return found_s


@click.command(
    cls=Command,
    example="""
    stoker query 'rate by (endpoint) (stoker_requests_total[5m])'
    stoker query 'quantile by (endpoint) (0.99, stoker_request_duration_seconds[5m])' --since 6h
    stoker query 'max(stoker_queue_depth{endpoint="chat"}[1m])' --since 1h --step 1m
    stoker query 'ratio(rate by (endpoint) (stoker_requests_total{code=~"5.."}[1h]), rate by (endpoint) (stoker_requests_total[1h]))'
    stoker query 'topk(3, increase by (endpoint) (stoker_tokens_total{kind="output"}[1d]))' --since 30d --step 1d -o csv
    """,  # noqa: E501
)
@click.argument("expression")
@click.option("--since", "since_s", callback=_time, help="Show how it was since so long ago, such as 6h; else: now.")
@click.option("--step", "step_s", callback=_time, help="Time between two points; by default about 60 points.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "csv"]),
    default="table",
    help="How to print: for people, or for programs.",
)
@click.pass_obj
def command(session: Session, expression: str, since_s: float | None, step_s: float | None, output: str) -> None:
    """Ask what any metric was, now or over time. The names are those of `/metrics`."""
    if step_s is not None and since_s is None:
        raise click.UsageError("--step needs --since")
    step_s = step_s or nice_step(since_s or 0.0)
    chart = session.control().query(expression, since_s=since_s or 0.0, step_s=step_s)
    if output == "csv":
        click.echo(_csv(chart), nl=False)
    else:
        show(chart, output, lambda: _table(chart))


def nice_step(since_s: float) -> float:
    """Return a round step that makes about POINTS points."""
    return float(next((step for step in NICE_S if step * POINTS >= since_s), NICE_S[-1]))


def spark(values: Sequence[float | None], width: int = POINTS) -> str:
    """Return values as at most `width` bars against the highest, a space where nothing is known."""
    size = -(-len(values) // width)
    groups = [[one for one in values[at : at + size] if one is not None] for at in range(0, len(values), size or 1)]
    highest = max((max(group) for group in groups if group), default=0.0)
    if highest <= 0:
        return "".join(BARS[0] if group else " " for group in groups)
    return "".join(BARS[min(7, int(max(*group, 0.0) / highest * 7.999))] if group else " " for group in groups)


def _table(chart: Chart) -> str:
    names = _names(chart)
    labels = [[line.labels.get(name, "") for name in names] for line in chart.lines]
    empty = "nothing is known of that; the metric has not counted in this time, or no series has these labels"
    if len(chart.times) == 1:
        rows = [[*shown, _number(line.values[0])] for shown, line in zip(labels, chart.lines, strict=True)]
        return columns([*(name.upper() for name in names), "VALUE"], rows, empty=empty)
    heading = [*(name.upper() for name in names), f"{_moment(chart.times[0])} to {_moment(chart.times[-1])}"]
    rows = [
        [*shown, click.style(spark(line.values), fg="cyan"), *_figures(line)]
        for shown, line in zip(labels, chart.lines, strict=True)
    ]
    return columns([*heading, "LAST", "MIN", "MEAN", "MAX"], rows, empty=empty)


def _figures(line: Line) -> list[str]:
    held = [value for value in line.values if value is not None]
    figures = [line.values[-1], min(held), sum(held) / len(held), max(held)] if held else [None] * 4
    return [_number(value) for value in figures]


def _csv(chart: Chart) -> str:
    names = _names(chart)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", *names, "value"])
    for line in chart.lines:
        for at_s, value in zip(chart.times, line.values, strict=True):
            shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
            writer.writerow([shown, *(line.labels.get(name, "") for name in names), "" if value is None else value])
    return text.getvalue()


def _names(chart: Chart) -> list[str]:
    return sorted({name for line in chart.lines for name in line.labels})


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def _moment(at_s: float) -> str:
    return time.strftime("%b %d %H:%M", time.localtime(at_s))
