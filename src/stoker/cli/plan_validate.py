"""`stoker plan --validate` as people read it: what was measured, what was simulated, and how far that was off."""

import math

import click

from stoker.cli.output import columns
from stoker.sim.sizing.validation import Checked, Validation, Verdict
from stoker.sim.sizing.words import hours, seconds

HEADINGS = ("", "MEASURED", "SIMULATED", "OFF", "MAY BE", "TRUTH", "SO")
COLOURS: dict[Verdict, str] = {"within": "green", "outside": "red", "cannot be told": "yellow"}


def text(found: Validation) -> str:
    """Return a line for each number; green where the simulation was near."""
    notes = "\n".join(click.style(each, dim=True) for each in _notes(found))
    rows = [_row(each) for each in found.lines]
    width = len(HEADINGS) if any(each.verdict for each in found.lines) else len(HEADINGS) - 2
    return f"{columns(HEADINGS[:width], [each[:width] for each in rows])}\n{notes}"


def _row(line: Checked) -> tuple[str, ...]:
    shown = [_shown(line, each) for each in (line.measured, line.simulated)]
    off = click.style(f"{line.off * 100:+.0f} %", fg="green" if line.is_near else "red")
    so = click.style(line.verdict, fg=COLOURS[line.verdict]) if line.verdict else ""
    return line.name, *shown, off, f"± {line.bound * 100:.0f} %", _truth(line) if line.verdict else "", so


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _truth(line: Checked) -> str:
    if math.isinf(line.high):
        return f"{_shown(line, line.low)} or more"
    return f"{_shown(line, line.low)} to {_shown(line, line.high)}"


def _shown(line: Checked, value: float) -> str:
    return f"{value:.3f}" if line.name == "replica-hours" else seconds(value)


def _notes(found: Validation) -> list[str]:
    count = f"{found.requests:,} requests in {hours(found.lasts_s)}"
    if found.source == "history":
        return [f"{count} of the last day, as the platform measured them, and the endpoint as it is"]
    lost = f"; {found.failed:,} without an answer" if found.failed else ""
    late = f"; {found.left_out:,} left out, as too many were in flight" if found.left_out else ""
    clock = f"its own clock saw {seconds(found.client_s)} at P50"
    notes = [
        f"{count} sent by this command{lost}{late}, as gateways measured them; {clock}",
        f"{found.judged:,} of them traced and compared; the engine {found.engine}",
    ]
    if unsure := [each.name for each in found.lines if each.verdict == "cannot be told"]:
        notes.append(
            f"{found.judged:,} requests cannot tell how far off the simulation is of {_listed(unsure)}: the truth lies "
            "within TRUTH 19 times of 20; send for longer, or a trace in which fewer or more of them wait for a start"
        )
    if found.by_day:
        offs = ", ".join(f"{each.name} {each.off * 100:+.0f} %" for each in found.by_day)
        notes.append(f"with the engine as the day before this load knew it: {offs}")
    return notes
