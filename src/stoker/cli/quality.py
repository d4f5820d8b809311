"""`stoker quality`: how good an endpoint's predictions were by their labels, and what to expect of the rest."""

from collections.abc import Sequence

import click

from stoker.cli.drift import BARS
from stoker.cli.output import columns, fields, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.client.views import QualityAmount, QualityPart, QualityView
from stoker.types.units import parse_seconds


@click.command(
    cls=Command,
    example="""
    stoker quality churn
    stoker quality churn --window 7d --output json
    """,
)
@click.argument("endpoint", shell_complete=complete_endpoint)
@click.option("--window", default="24h", show_default=True, help="How far back predictions count.")
@output_option
@project_option
@click.pass_obj
def command(session: Session, endpoint: str, window: str, output: str, project: str) -> None:
    """Show how good an endpoint's predictions were.

    Accuracy or error by segment, revision and time, from the labels there are (stoker feedback); and beside it the
    accuracy to expect of what has no label yet.
    """
    try:
        window_s = parse_seconds(window)
    except ValueError as wrong:
        raise click.UsageError(str(wrong)) from wrong
    view = session.control().quality(project, endpoint, window_s)
    show(view, output, lambda: described(view))


def described(view: QualityView) -> str:
    """Return the view for people."""
    whole = view.whole
    if view.estimated is not None:
        estimated = f"{view.estimated:.1%} expected of {view.estimated_rows} without a label"
    else:
        estimated = f"no: {view.because}"
    lines = [
        ("endpoint", click.style(f"{view.project}/{view.endpoint}", bold=True)),
        ("window", f"{view.window_s / 3600:g} h, {whole.predictions} predictions, {whole.labelled} with a label"),
        ("realised", measured(whole) or "no label yet"),
        ("estimated", estimated),
        ("over time", sparkline(view)),
        ("problem", click.style(view.problem, fg="red") if view.problem else ""),
    ]
    parts = [table("SEGMENT", view.segments), table("REVISION", view.revisions), amounts(view.amounts)]
    return "\n\n".join([fields([line for line in lines if line[1]]), *filter(None, parts)])


def measured(part: QualityPart) -> str:
    """Return accuracy and error in words, "" when neither is known."""
    known = [
        f"{part.accuracy:.1%} right" if part.accuracy is not None else "",
        f"{part.mae:.4g} mean absolute error" if part.mae is not None else "",
    ]
    return ", ".join(filter(None, known))


def table(title: str, parts: Sequence[QualityPart]) -> str:
    """Return the parts as a table, "" for none."""
    rows = [
        (
            part.name or "–",
            str(part.predictions),
            str(part.labelled),
            f"{part.accuracy:.1%}" if part.accuracy is not None else "",
            f"{part.mae:.4g}" if part.mae is not None else "",
        )
        for part in parts
    ]
    return columns((title, "PREDICTIONS", "LABELS", "RIGHT", "MAE"), rows, empty="") if rows else ""


def amounts(found: Sequence[QualityAmount]) -> str:
    """Return business metrics as a table, "" for none."""
    rows = [(one.name, str(one.rows), f"{one.mean:.6g}") for one in found]
    return columns(("METRIC", "ANSWERS", "MEAN"), rows, empty="") if rows else ""


def sparkline(view: QualityView) -> str:
    """Return accuracy (0 to 1) or error (0 to the largest) as bars, oldest first; `·` where there was no label."""
    values = [part.accuracy if part.accuracy is not None else part.mae for part in view.windows]
    if all(value is None for value in values):
        return ""
    by_error = all(part.accuracy is None for part in view.windows)
    most = max((value for value in values if value is not None), default=1.0) or 1.0 if by_error else 1.0
    return "".join("·" if value is None else BARS[max(1, round(min(value / most, 1.0) * 8))] for value in values)
