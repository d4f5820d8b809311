"""A run as a picture: arrivals, replicas and waiting over time, one line a policy, in a page without any script."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final

from stoker.sim.run import Sample

WIDTH: Final = 960
PANEL: Final = 150
LEFT, RIGHT, TOP, GAP = 56, 16, 30, 44
TICKS: Final = 4  # above zero
SPANS: Final = 6  # of the time
# Okabe and Ito's colours, which colour-blind readers can tell apart; they stand on white and on black.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c00", "#666666")
THEME: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --dim: #6e7781; --rule: #d0d7de; --page: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #c9d1d9; --dim: #8b949e; --rule: #30363d; --page: #0d1117; }
}
"""
# No fonts from elsewhere: the picture must look the same offline.
DRAWING: Final = """
text { fill: var(--dim); font: 12px system-ui, sans-serif; } text.title { fill: var(--ink); font-weight: 600; }
.rule { stroke: var(--rule); } .line { fill: none; stroke-width: 1.6; } .area { fill: var(--dim); opacity: .35; }
.page { fill: var(--page); }
"""
PAGE: Final = """
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0; } p { color: var(--dim); margin: .2rem 0 1rem; } svg { width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; } th { color: var(--dim); font-weight: 500; }
.key { display: inline-block; width: .8em; height: .8em; margin-right: .5em; border-radius: 2px; }
"""


@dataclass(frozen=True, slots=True)
class Track:
    """One policy's run."""

    name: str
    timeline: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class _Panel:
    """Where a panel stands, and what its axes reach."""

    top: float
    duration_s: float
    most: float

    def x(self, at_s: float) -> float:
        return LEFT + at_s / self.duration_s * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return self.top + PANEL - value / self.most * PANEL


def page(title: str, what: str, tracks: Sequence[Track], table: Sequence[Sequence[str]]) -> str:
    """Return a page of its own: the picture, and `table` (first row: headings; first column: names of tracks)."""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{THEME}{PAGE}</style>\n"
        f"<h1>{escape(title)}</h1><p>{escape(what)}</p>\n{svg(tracks)}\n{_table(tracks, table)}</html>\n"
    )


def svg(tracks: Sequence[Track]) -> str:
    """Return the three panels, which can stand alone."""
    duration_s = max((sample.at_s for track in tracks for sample in track.timeline), default=0.0) or 1.0
    rates = _rates(tracks[0].timeline)
    height = TOP + 3 * (PANEL + GAP)
    said = 'role="img" aria-label="arrivals, replicas and waiting over time"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {said}>',
        f"<style>{THEME}{DRAWING}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        _legend(tracks),
    ]
    panel = _Panel(TOP, duration_s, _round_up(max((rate for _, rate in rates), default=1.0)))
    parts += [_frame(panel, "arrivals, requests/s"), _area(panel, rates)]
    most = max(sample.ready + sample.starting for track in tracks for sample in track.timeline)
    panel = _Panel(TOP + PANEL + GAP, duration_s, _round_up(most))
    parts.append(_frame(panel, "replicas, from order to stop"))
    for track, colour in zip(tracks, COLOURS, strict=False):
        paid = [(each.at_s, float(each.ready + each.starting)) for each in track.timeline]
        parts.append(_line(panel, paid, colour, track.name))
    most = max(sample.waiting for track in tracks for sample in track.timeline)
    panel = _Panel(TOP + 2 * (PANEL + GAP), duration_s, _round_up(most))
    parts.append(_frame(panel, "requests waiting"))
    for track, colour in zip(tracks, COLOURS, strict=False):
        waiting = [(each.at_s, float(each.waiting)) for each in track.timeline]
        parts.append(_line(panel, waiting, colour, track.name))
    return "\n".join([*parts, "</svg>"])


def _rates(timeline: Sequence[Sample]) -> list[tuple[float, float]]:
    return [
        (after.at_s, (after.arrived - before.arrived) / (after.at_s - before.at_s))
        for before, after in pairwise(timeline)
    ]


def _round_up(value: float) -> float:
    """Return the next number with TICKS round parts."""
    step = 1.0
    while step * TICKS < value:
        for factor in (2.0, 2.5, 2.0):
            step *= factor
            if step * TICKS >= value:
                break
    return step * TICKS


def _frame(panel: _Panel, title: str) -> str:
    parts = [f'<text class="title" x="{LEFT}" y="{panel.top - 10:.0f}">{escape(title)}</text>']
    for at in range(TICKS + 1):
        value = panel.most * at / TICKS
        y = panel.y(value)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for at in range(SPANS + 1):
        at_s = panel.duration_s * at / SPANS
        x, y = panel.x(at_s), panel.top + PANEL + 16
        anchor = "end" if at == SPANS else "middle"
        parts.append(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{_moment(at_s)}</text>')
    return "\n".join(parts)


def _moment(at_s: float) -> str:
    return f"{at_s / 60:.0f} min" if at_s >= 60 or at_s == 0 else f"{at_s:.0f} s"


def _area(panel: _Panel, points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return ""
    base = panel.y(0.0)
    along = " ".join(f"{panel.x(at_s):.1f},{panel.y(value):.1f}" for at_s, value in points)
    first, last = panel.x(points[0][0]), panel.x(points[-1][0])
    return f'<polygon class="area" points="{first:.1f},{base:.1f} {along} {last:.1f},{base:.1f}"/>'


def _line(panel: _Panel, points: Sequence[tuple[float, float]], colour: str, name: str) -> str:
    """Return steps: each value holds until the next that differs, the last to the end."""
    words: list[str] = []
    before = points[0][1]
    for at_s, value in points:
        if value != before or not words or at_s == points[-1][0]:
            x = panel.x(at_s)
            words.append(f"{x:.1f},{panel.y(before):.1f} {x:.1f},{panel.y(value):.1f}")
        before = value
    return (
        f'<polyline class="line" stroke="{colour}" points="{" ".join(words)}"><title>{escape(name)}</title></polyline>'
    )


def _legend(tracks: Sequence[Track]) -> str:
    parts, x = [], float(WIDTH - RIGHT)
    for track, colour in reversed(list(zip(tracks, COLOURS, strict=False))):
        x -= 7.0 * len(track.name) + 34.0
        parts.append(f'<rect x="{x:.0f}" y="{TOP - 20}" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18:.0f}" y="{TOP - 10}">{escape(track.name)}</text>')
    return "".join(parts)


def _table(tracks: Sequence[Track], rows: Sequence[Sequence[str]]) -> str:
    keys = {track.name: colour for track, colour in zip(tracks, COLOURS, strict=False)}
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = ""
    for row in rows[1:]:
        key = f'<span class="key" style="background: {keys[row[0]]}"></span>' if row[0] in keys else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        body += f"<tr><td>{key}{escape(row[0])}</td>{cells}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"
