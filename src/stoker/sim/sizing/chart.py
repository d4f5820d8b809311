"""The pictures of a plan: the day with its replicas, every range by cost and promise, times at more load."""

import math
from html import escape
from itertools import pairwise
from typing import Final

from stoker.sim.picture import THEME
from stoker.sim.sizing.answer import Answer, Moment, Tried
from stoker.sim.sizing.axes import TICKS, Panel, Point, Scale, clock, line, linear, logarithmic, moment, text
from stoker.sim.sizing.prices import HOURS_OF_MONTH
from stoker.sim.sizing.trial import SHARES
from stoker.sim.sizing.words import cost, dollars, seconds

WIDTH: Final = 960.0
LEFT, RIGHT = 58.0, 20.0
HALF: Final = (WIDTH - LEFT - RIGHT - 70.0) / 2
ARRIVALS, REPLICAS, LOWER = 90.0, 120.0, 220.0  # heights
SPENT_LEAST, SPENT_MOST = 0.01, 20.0  # of an error budget, that are told apart
# Okabe and Ito's colours; of more load in the order of alarm.
STYLE: Final = """
text { fill: var(--dim); font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; paint-order: stroke;
  stroke: var(--page); stroke-width: 3px; stroke-linejoin: round; }
text.title { fill: var(--ink); font-weight: 600; font-size: 13px; } text.head { fill: var(--ink); font: 600 20px
  system-ui, -apple-system, "Segoe UI", sans-serif; } text.note { fill: var(--ink); font-weight: 600; }
.page { fill: var(--page); } .rule { stroke: var(--rule); } .part { fill: var(--rule); opacity: .28; }
.came { fill: var(--dim); opacity: .42; } .ran { fill: #0072b2; opacity: .22; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .blue { stroke: #0072b2; } .amber { stroke: #e69f00; }
.red { stroke: #d55e00; } .green { stroke: #009e73; } .limit { stroke: var(--ink); stroke-dasharray: 4 4; opacity: .7; }
.fixed { stroke: #d55e00; stroke-width: 1.6; stroke-dasharray: 6 4; }
.held { fill: #009e73; opacity: .75; } .missed { fill: #d55e00; opacity: .6; } .chosen { fill: none; stroke: var(--ink);
  stroke-width: 2; }
"""
LOADS: Final = {1: "blue", 2: "amber", 5: "red"}


def whole(answer: Answer, title: str) -> str:
    """Return all pictures under a headline, as one drawing that stands alone."""
    chosen = answer.chosen
    pool = f" on {chosen.pool}, {cost(chosen.figures)}" if answer.is_priced else ""
    head = text(LEFT - 38, 38, f"{replicas(chosen)}{pool}", "head")
    promise = ", ".join(f"{each.name} ≤ {seconds(each.limit_s)}" for each in answer.slos)
    under = text(LEFT - 38, 60, f"{title}: {promise}")
    return _drawing(f"{head}\n{under}\n{_day(answer, 104.0)}\n{_lower(answer, 104.0 + _DAY)}", 104.0 + _DAY + _LOWER)


def pictures(answer: Answer) -> str:
    """Return the pictures without a headline, for a page that has one."""
    return _drawing(f"{_day(answer, 34.0)}\n{_lower(answer, 34.0 + _DAY)}", 34.0 + _DAY + _LOWER)


def replicas(one: Tried) -> str:
    """Return a range as a headline: `2 to 6 replicas at 60 %`."""
    count, _, rest = one.range.name.partition(" at ")
    return f"{count} replica{'' if count == '1' else 's'}{f' at {rest}' if rest else ''}"


_DAY: Final = ARRIVALS + 44.0 + REPLICAS + 70.0
_LOWER: Final = LOWER + 60.0


def _drawing(inside: str, height: float) -> str:
    said = 'role="img" aria-label="arrivals and replicas over the day, ranges by cost and promise, times at more load"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" {said}>\n'
        f"<style>{THEME}{STYLE}</style>\n"
        f'<rect class="page" width="{WIDTH:.0f}" height="{height:.0f}"/>\n{inside}\n</svg>\n'
    )


# ---- the day


def _day(answer: Answer, top: float) -> str:
    """Return arrivals, and below them replicas, by the clock of the recording."""
    course, wide = answer.course, WIDTH - LEFT - RIGHT
    across = clock(answer.simulated.recorded_s)
    upper = Panel(LEFT, top, wide, ARRIVALS, across, linear(max(answer.came)))
    fixed = answer.fixed.range.max
    most = max(*(each.replicas for each in course), fixed)
    lower = Panel(LEFT, top + ARRIVALS + 44.0, wide, REPLICAS, across, _whole(most))
    each_s = answer.simulated.recorded_s / len(answer.came)
    came = _steps([(at * each_s, per_s) for at, per_s in enumerate(answer.came)], answer.simulated.recorded_s)
    parts = [_area(upper, came, "came")]
    for stretch in _stretches(course):
        ends_s = stretch[-1].at_s + (stretch[-1].at_s - stretch[-2].at_s if len(stretch) > 1 else 0.0)
        ends_s = min(ends_s, answer.simulated.recorded_s)
        if answer.simulated.simulated < answer.simulated.recorded and not answer.simulated.is_checked:
            parts += [_part(panel, stretch[0].at_s, ends_s) for panel in (upper, lower)]
        ran = _steps([(each.at_s, each.replicas) for each in stretch], ends_s)
        parts += [_area(lower, ran, "ran"), f'<polyline class="line blue" points="{lower.path(ran)}"/>']
    right, y = LEFT + wide, lower.y(fixed)
    if answer.chosen.range.min != answer.chosen.range.max:
        words = f"without scaling: {fixed}"
        parts += [line((LEFT, y), (right, y), "fixed"), text(right, y - 6, words, "", "end")]
    frames = [
        upper.frame("Arrivals, requests/s", None, lambda value: f"{value:g}"),
        lower.frame("Replicas that are paid for", moment(answer.simulated.recorded_s), lambda value: f"{value:g}"),
    ]
    return "\n".join([*frames, *parts])


def _whole(most: float) -> Scale:
    """Return a scale with whole marks."""
    step = float(max(math.ceil(linear(most).high / TICKS), 1))
    return Scale(0.0, step * math.ceil(most / step), step=step)


def _stretches(course: tuple[Moment, ...]) -> list[list[Moment]]:
    found: list[list[Moment]] = []
    for each in course:
        if each.is_first:
            found.append([])
        found[-1].append(each)
    return found


def _steps(points: list[Point], ends_s: float) -> list[Point]:
    """Return each value held until the next."""
    found = [points[0]]
    for (_, before), (at_s, value) in pairwise(points):
        found += [(at_s, before), (at_s, value)]
    return [*found, (ends_s, points[-1][1])]


def _area(panel: Panel, points: list[Point], kind: str) -> str:
    whole_path = [(points[0][0], panel.up.low), *points, (points[-1][0], panel.up.low)]
    return f'<polygon class="{kind}" points="{panel.path(whole_path)}"/>'


def _part(panel: Panel, begins_s: float, ends_s: float) -> str:
    x, width = panel.x(begins_s), panel.x(ends_s) - panel.x(begins_s)
    return f'<rect class="part" x="{x:.1f}" y="{panel.top:.1f}" width="{width:.1f}" height="{panel.height:.1f}"/>'


# ---- ranges, and times at more load


def _lower(answer: Answer, top: float) -> str:
    return f"{_ranges(answer, top)}\n{_times(answer, top)}"


def _ranges(answer: Answer, top: float) -> str:
    """Return every range that was tried, by what it costs and how much of its error budget it used."""
    of_month = HOURS_OF_MONTH if answer.is_priced else 1.0
    points = [(each, each.figures.usd_per_hour * of_month, each.figures.spent(answer.slos)) for each in answer.tried]
    costs = [usd for _, usd, _ in points]
    across = linear(max(costs) * 1.04)
    up = logarithmic([*(spent for *_, spent in points), 1.0], SPENT_LEAST, SPENT_MOST)
    panel = Panel(LEFT, top, HALF, LOWER, across, up)
    title = f"Ranges: error budget used, by {'cost of a month' if answer.is_priced else 'replicas on average'}"
    words = dollars if answer.is_priced else lambda value: f"{value:g}"
    parts = [panel.frame(title, words, lambda value: f"{value:.0%}")]
    y = panel.y(1.0)
    parts += [line((LEFT, y), (LEFT + HALF, y), "limit"), text(LEFT + HALF, y - 6, "all of it", "note", "end")]
    labels = []
    for each, usd, spent in points:
        kind, place = "held" if spent <= 1.0 else "missed", f'cx="{panel.x(usd):.1f}" cy="{panel.y(spent):.1f}"'
        name = f"{each.range.name}{f' on {each.pool}' if answer.is_priced else ''}"
        parts.append(f'<circle class="{kind}" {place} r="5"><title>{escape(name)}</title></circle>')
        is_chosen = (each.pool, each.range) == (answer.chosen.pool, answer.chosen.range)
        if is_chosen:
            labels.append(f'<circle class="chosen" {place} r="9"/>')
            labels.append(_label(panel, usd, panel.y(spent) + 26, name))
        elif (each.pool, each.range) == (answer.fixed.pool, answer.fixed.range):
            labels.append(_label(panel, usd, panel.y(spent) - 12, name))
    return "\n".join([*parts, *labels])


def _label(panel: Panel, usd: float, y: float, name: str) -> str:
    is_right = panel.x(usd) > panel.left + panel.width * 0.7
    return text(panel.x(usd) + (8 if is_right else -8), y, name, "note", "end" if is_right else "start")


def _times(answer: Answer, top: float) -> str:
    """Return which share of requests was how fast, under the plan: as recorded, and at more load."""
    left, slo = WIDTH - RIGHT - HALF, answer.slos[0]
    finite = [each for curve in answer.curves for each in curve.seconds[1:] if math.isfinite(each) and each > 0.0]
    across = logarithmic([*finite, slo.limit_s], 1e-4, 1e4)
    panel = Panel(left, top, HALF, LOWER, across, Scale(0.0, 1.0, step=0.25))
    named = "time to first token" if slo.measure == "ttft" else "latency"
    parts = [panel.frame(f"Requests answered within a {named}", seconds, lambda value: f"{value:.0%}")]
    x = panel.x(slo.limit_s)
    parts += [line((x, top), (x, top + panel.height), "limit")]
    parts.append(f'<circle class="chosen" cx="{x:.1f}" cy="{panel.y(slo.target):.1f}" r="5"/>')
    for number, curve in enumerate(answer.curves):
        points = [
            (max(at_s, across.low), share)
            for at_s, share in zip(curve.seconds, SHARES, strict=True)
            if math.isfinite(at_s)
        ]
        if points:
            parts.append(f'<polyline class="line {LOADS[curve.times]}" points="{panel.path(points)}"/>')
        name = "as recorded" if curve.times == 1 else f"{curve.times} times as much"
        x, y = left + 128.0 * number, top + panel.height + 42
        parts += [line((x, y - 4), (x + 18, y - 4), f"line {LOADS[curve.times]}"), text(x + 24, y, name)]
    return "\n".join(parts)
