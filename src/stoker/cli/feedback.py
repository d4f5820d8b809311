"""`stoker feedback`: labels from a file, sent in batches; whatever was sent may be sent again."""

import csv
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from stoker.cli.output import show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option

BATCH = 1_000
NUMBERS = ("value", "score", "at")
NAMES = {"id", "label", *NUMBERS}
METRIC = "metrics."  # columns of a business metric each: metrics.revenue


@click.command(
    cls=Command,
    example="""
    stoker feedback churn --file labels.csv
    stoker feedback churn --file labels.jsonl --output json
    """,
)
@click.argument("endpoint", shell_complete=complete_endpoint)
@click.option(
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with a header, or JSON lines: id, one of label, value and score, perhaps at (unix seconds), and business "
    "metrics: columns such as metrics.revenue, or an object `metrics`.",
)
@output_option
@project_option
@click.pass_obj
def command(session: Session, endpoint: str, path: Path, output: str, project: str) -> None:
    """Send what turned out to be true of predictions, by the x-request-id of their request.

    A label is joined with its prediction, or a duplicate of one that was there (the later one counts), or unknown.
    """
    control = session.control()
    control.quality(project, endpoint, 60.0)  # an endpoint that keeps no predictions is told before anything is sent
    counts: Counter[str] = Counter(joined=0, duplicate=0, unknown=0)
    rows = read(path)
    while batch := list(itertools.islice(rows, BATCH)):
        counts.update(one.outcome for one in control.feedback(project, batch))
    if not counts.total():
        raise click.UsageError(f"{path} has no labels")
    show(dict(counts), output, lambda: "  ".join(f"{count} {outcome}" for outcome, count in counts.items()))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the labels of a file. Raises UsageError with the line that is none."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        if path.suffix.lower() == ".csv":
            table = csv.DictReader(file)
            if unknown := {name for name in table.fieldnames or () if not name.startswith(METRIC)} - NAMES:
                raise click.UsageError(f"{path}: the column {min(unknown)!r} is none of {', '.join(sorted(NAMES))}")
            for row in table:
                yield _numbers({name: text for name, text in row.items() if text}, f"{path}, line {table.line_num}")
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except ValueError as wrong:
                raise click.UsageError(f"{path}, line {number}: {wrong}") from wrong
            if not isinstance(item, dict):
                raise click.UsageError(f"{path}, line {number}: expected an object with id and label")
            yield item


def _numbers(row: dict[str, Any], where: str) -> dict[str, Any]:
    for name in list(row):
        if name in NUMBERS or name.startswith(METRIC):
            try:
                row[name] = float(row[name])
            except ValueError as wrong:
                raise click.UsageError(f"{where}: {name} {row[name]!r} is no number") from wrong
    metrics = {name.removeprefix(METRIC): row.pop(name) for name in list(row) if name.startswith(METRIC)}
    return {**row, "metrics": metrics} if metrics else row
