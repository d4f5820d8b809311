"""`stoker plan --validate` as people read it: what was measured, what was simulated, and how far that was off."""

import click

from stoker.cli.output import columns
from stoker.sim.sizing.validation import Checked, Validation
from stoker.sim.sizing.words import hours, seconds

HEADINGS = ("", "MEASURED", "SIMULATED", "OFF", "MAY BE")


def text(found: Validation) -> str:
    """Return a line for each number; green where the simulation was near."""
    notes = "\n".join(click.style(each, dim=True) for each in _notes(found))
    return f"{columns(HEADINGS, [_row(each) for each in found.lines])}\n{notes}"


def _row(line: Checked) -> tuple[str, ...]:
    is_time = line.name in ("ttft p50", "ttft p95", "latency p50", "latency p95")
    shown = [seconds(each) if is_time else f"{each:.3f}" for each in (line.measured, line.simulated)]
    off = click.style(f"{line.off * 100:+.0f} %", fg="green" if line.is_near else "red")
    return line.name, *shown, off, f"± {line.bound * 100:.0f} %"


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
    notes += [
        f"{each.name} is one of {seconds(each.low)} to {seconds(each.high)} by chance alone: more requests, or a trace "
        "in which fewer or more of them wait for a start, would tell"
        for each in found.lines
        if each.is_chance
    ]
    if found.by_day:
        offs = ", ".join(f"{each.name} {each.off * 100:+.0f} %" for each in found.by_day)
        notes.append(f"with the engine as the day before this load knew it: {offs}")
    return notes
