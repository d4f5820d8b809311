"""`stoker drift`: which inputs and predictions of an endpoint moved, and a reference learned from what passes."""

from collections.abc import Sequence

import click

from stoker.cli.output import age, columns, fields, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.client.views import DriftFeature, DriftView
from stoker.core.drift import Shift
from stoker.types.units import parse_seconds

SHOWN = 20
BARS = " ▁▂▃▄▅▆▇█"
NAMES = {"psi": "PSI", "js": "Jensen-Shannon", "wasserstein": "Wasserstein", "chi2": "chi-square", "auc": "AUC"}
COLOURS = {"drifted": "red", "moved": "yellow", "steady": "green"}


@click.command(
    cls=Command,
    example="""
    stoker drift digits
    stoker drift digits --output json
    stoker drift learn digits --window 1h
    """,
)
@click.argument("words", nargs=-1, required=True, metavar="[learn] ENDPOINT", shell_complete=complete_endpoint)
@click.option("--window", default="1h", show_default=True, help="With learn: how long rows are gathered.")
@output_option
@project_option
@click.pass_obj
def command(session: Session, words: tuple[str, ...], window: str, output: str, project: str) -> None:
    """Show how far an endpoint's data moved from its reference, the worst first.

    A reference comes with the model (stoker push --reference) or is learned here from the rows that pass.
    """
    control = session.control()
    if len(words) == 2 and words[0] == "learn":
        try:
            window_s = parse_seconds(window)
        except ValueError as wrong:
            raise click.UsageError(str(wrong)) from wrong
        control.learn_drift(project, words[1], window_s)
        click.echo(f"{words[1]} gathers rows for {window}; see `stoker drift {words[1]}`")
        return
    if len(words) != 1:
        raise click.UsageError("expected ENDPOINT, or learn ENDPOINT")
    view = control.drift(project, words[0])
    show(view, output, lambda: described(view))


def described(view: DriftView) -> str:
    """Return the view for people."""
    if not view.is_watched:
        learning = f"it is learning one for {age_until(view)}" if view.learning_until_s else "it has none"
        return (
            f"{view.project}/{view.endpoint} is not compared with a reference: {learning}.\n"
            f"  push one:  stoker push NAME PATH --reference rows.csv\n"
            f"  learn one: stoker drift learn {view.endpoint} --window 1h"
        )
    state = click.style("drifted", fg="red") if view.is_drifted else click.style("as its reference", fg="green")
    head = fields(
        [
            ("endpoint", click.style(f"{view.project}/{view.endpoint}", bold=True)),
            ("state", f"{state} for {age(view.since_s)}" if view.since_s else "not judged yet"),
            ("because", view.because),
            ("window", f"{view.rows} rows, {view.refused} requests refused; judged {age(view.judged_s)} ago"),
            ("reference", f"{view.source_rows} rows, {view.source}" if view.source_rows else view.source),
            ("event sent", f"{age(view.triggered_s)} ago" if view.triggered_s else ""),
        ]
    )
    return "\n".join([head, "", table(view.features)]) if view.features else head


def table(features: Sequence[DriftFeature]) -> str:
    """Return the features that moved most, with histograms; those that stayed are counted when there are many."""
    rows = []
    has_vectors = any(one.shift.auc for one in features)
    for one in features[:SHOWN]:
        shift = one.shift
        rows.append(
            (
                ("→ " if shift.side == "output" else "") + shift.feature,
                click.style(shift.level, fg=COLOURS[shift.level]),
                NAMES.get(shift.by, shift.by) if shift.level != "steady" else "",
                f"{shift.psi:.3f}",
                f"{shift.expected:.3f}",
                _mean(shift),
                *([f"{shift.auc:.2f} ({shift.auc_expected:.2f})" if shift.auc else ""] if has_vectors else []),
                f"{shift.missing_ratio:.1%}" if shift.missing_ratio or shift.missing_ratio_before else "",
                f"{shift.outside_ratio:.1%}" if shift.outside_ratio else "",
                sparkline(one.before),
                sparkline(one.now),
            )
        )
    told = ("AUC (BY CHANCE)",) if has_vectors else ()
    header = ("FEATURE", "", "TOLD BY", "PSI", "BY CHANCE", "MEAN", *told, "MISSING", "OUTSIDE", "REFERENCE", "NOW")
    more = len(features) - SHOWN
    left = f"\n{more} more in --output json" if more > 0 else ""
    return columns(header, rows, empty="") + click.style(left, dim=True)


def _mean(shift: Shift) -> str:
    """Return how far the mean moved; that of vectors has no sign."""
    if not shift.mean_shift:
        return ""
    return f"{shift.mean_shift:.2f}σ" if shift.auc else f"{shift.mean_shift:+.2f}σ"


def sparkline(shares: Sequence[float], width: int = 16) -> str:
    """Return shares as bars; neighbours are joined until they fit in `width`."""
    if not shares:
        return ""
    joined = -(-len(shares) // width)
    parts = [sum(shares[at : at + joined]) for at in range(0, len(shares), joined)]
    most = max(parts) or 1.0
    return "".join(BARS[min(int(part / most * 8 + 0.999), 8)] for part in parts)


def age_until(view: DriftView) -> str:
    """Return how long the learning still takes, in words."""
    import time

    return f"another {max(view.learning_until_s - time.time(), 0):.0f} s"
