"""`stoker plan --validate` as people read it: what was measured, what was simulated, and how far that was off."""

import click

from stoker.cli.output import columns
from stoker.sim.sizing.validation import Checked, Validation
from stoker.sim.sizing.words import hours, seconds

HEADINGS = ("", "MEASURED", "SIMULATED", "OFF", "MAY BE")


def text(found: Validation) -> str:
    """Return a line for each number; green where the simulation was near."""
    note = f"{found.requests:,} requests in {hours(found.lasts_s)} of the last day, and the endpoint as it is"
    return f"{columns(HEADINGS, [_row(each) for each in found.lines])}\n{click.style(note, dim=True)}"


def _row(line: Checked) -> tuple[str, ...]:
    is_time = line.name in ("ttft p50", "ttft p95", "latency p50", "latency p95")
    shown = [seconds(each) if is_time else f"{each:.3f}" for each in (line.measured, line.simulated)]
    off = click.style(f"{line.off * 100:+.0f} %", fg="green" if line.is_near else "red")
    return line.name, *shown, off, f"± {line.bound * 100:.0f} %"
