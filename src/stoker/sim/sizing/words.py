"""The numbers of a plan as people read them, the same in the terminal and on the page."""

import math

from stoker.sim.sizing.answer import Answer, Figures, Range
from stoker.sim.sizing.prices import HOURS_OF_MONTH


def seconds(value: float) -> str:
    """Return a time with three digits: `431 ms`, `2.3 s`; `none` for an answer that never comes."""
    if math.isinf(value):
        return "none"
    return f"{value * 1e3:.3g} ms" if value < 0.9995 else f"{float(f'{value:.3g}'):g} s"


def share(ratio: float) -> str:
    """Return a share, rounded down so that what missed its promise is never shown as kept: `99.89 %`."""
    return f"{math.floor(ratio * 1e4) / 100:.2f} %"


def cost(figures: Figures) -> str:
    """Return what it costs in a month: `$986/month`."""
    return f"{dollars(figures.usd_per_hour * HOURS_OF_MONTH)}/month"


def dollars(usd: float) -> str:
    """Return an amount: `$0.42`, `$986`, `$12,400`."""
    return f"${usd:,.2f}" if usd < 10.0 else f"${usd:,.0f}"


def hours(long_s: float) -> str:
    """Return a time as people say it: `24 h`, `45 min`, `60 s`."""
    if long_s < 90.0:
        return f"{long_s:.3g} s"
    return f"{long_s / 3600:.3g} h" if long_s >= 5400.0 else f"{long_s / 60:.3g} min"


def setting(chosen: Range) -> list[str]:
    """Return the lines of a manifest that make it so."""
    lines = [f"replicas: {{min: {chosen.min}, max: {chosen.max}}}"]
    return lines if chosen.utilization is None else [*lines, f"scaling: {{utilization: {chosen.utilization:g}}}"]


def said(answer: Answer) -> list[str]:
    """Return what the numbers rest on."""
    one = answer.simulated
    part = "all of it simulated"
    if one.simulated < one.recorded:
        some = f"{hours(one.simulated_s)} with {one.simulated:,} simulated"
        part = f"{some}: the busiest, and others that stand for the rest"
        part += "; the plan itself on all of it" if one.is_checked else ""
    came = f"{one.recorded:,} requests in {hours(one.recorded_s)}, {one.peak_per_s:.3g}/s at the most"
    lines = [f"{came}; {part}; {one.trials} trials"]
    if answer.chosen.is_sure:
        lines.append("held on draws of the day that it was not chosen on, by more than chance (95 %)")
    return lines
