"""A rollout as people read it: what it does now in a line, its verdict as a table, its story as a timeline."""

from collections.abc import Iterable, Sequence
from typing import Final

import click

from stoker.cli.output import age, clock, columns, fields
from stoker.client.rollouts import LineView, RolloutDetail, RolloutView
from stoker.core import conditions
from stoker.core.rollout.state import Entry
from stoker.core.rollout.table import Phase
from stoker.core.verdict.odds import Tally
from stoker.types.statuses import EndpointStatus

BAR_WIDTH: Final = 24
_COLOURS: Final[dict[Phase, str]] = {
    "promoted": "green",
    "keeping": "green",
    "rolled-back": "red",
    "returning": "red",
    "refused": "red",
    "paused": "yellow",
    "awaiting": "yellow",
    "reported": "yellow",
}
_EVENTS: Final = {
    "worse": "red",
    "crashed": "red",
    "stalled": "red",
    "inconclusive": "red",
    "returned": "red",
    "refused": "red",
    "abort": "red",
    "deny": "red",
    "unanswered": "red",
    "asked": "yellow",
    "untold": "yellow",
    "lost": "red",
    "told": "green",
    "approve": "green",
    "kept": "green",
    "passed": "green",
    "arrived": "green",
    "look": "bright_black",
}


def table(found: Sequence[RolloutView]) -> str:
    """Return rollouts, a line each."""
    rows = [
        (
            str(one.number),
            f"{one.project}/{one.endpoint}",
            one.strategy,
            phase(one.phase),
            f"{one.baseline_model or one.baseline} → {one.canary_model or one.canary}",
            f"{one.weight} %" if not one.is_ended else "-",
            age(one.began_s),
            one.because,
        )
        for one in found
    ]
    header = ("NUMBER", "ENDPOINT", "STRATEGY", "STATE", "FROM → TO", "TRAFFIC", "BEGAN", "BECAUSE")
    return columns(header, rows, empty="no rollouts; the next change of an endpoint's model makes one")


def page(one: RolloutDetail, entries: int, status: EndpointStatus = EndpointStatus()) -> str:  # noqa: B008 - frozen
    """Return all of a rollout, with the newest `entries` of its timeline, and what `status`, its endpoint's, says."""
    waits, untold = "" if one.is_ended else conditions.newer(status), _untold(one, status)
    head = fields(
        [
            ("rollout", f"{click.style(str(one.number), bold=True)} of {one.project}/{one.endpoint}, {one.strategy}"),
            ("state", f"{phase(one.phase)}  {where(one) or _gates(one)}".rstrip()),
            ("canary", _arm(one.canary, one.canary_model, _share(one))),
            ("baseline", _arm(one.baseline, one.baseline_model, 100 - _share(one))),
            ("this step", need(one)),
            ("verdict", verdict(one)),
            ("because", one.because),
            ("stuck", click.style(waits, fg="red") if waits else ""),
            ("hooks", click.style(untold, fg="red") if untold else ""),
            ("asked", f"to {one.ordered}" if one.ordered else ""),
            ("began", clock(one.began_s)),
            ("ended", clock(one.ended_s) if one.ended_s else ""),
        ]
    )
    parts = [head]
    if lines := seen(one):
        parts += ["", click.style("Evidence", bold=True), _indented(evidence(lines, one.part))]
    shown = one.timeline[-entries:] if entries else one.timeline
    if shown:
        parts += ["", click.style("Timeline", bold=True)]
        if left := one.earlier + len(one.timeline) - len(shown):
            parts.append(click.style(f"  … {left} earlier; --entries 0 shows all", dim=True))
        parts.append(_indented("\n".join(timeline(shown))))
    return "\n".join(parts)


def _untold(one: RolloutDetail, status: EndpointStatus) -> str:
    """Return which hooks of the rollout cannot be told now, and why; "" where all are."""
    said = conditions.find(status.conditions, conditions.HOOKS)
    return said.message if said is not None and f" of rollout {one.number}: " in said.message else ""


def brief(one: RolloutView) -> str:
    """Return what a running rollout does, in a few words: `canary 25 %, step 2 of 3`."""
    if one.phase == "gating":
        return f"{one.strategy}, its gates run"
    words = (
        f"{one.strategy} {one.phase}" if one.phase in ("paused", "returning", "awaiting", "keeping") else one.strategy
    )
    return ", ".join(part for part in (f"{words} {one.weight} %", where(one)) if part)


def short(one: RolloutView) -> str:
    """Return the same where there is hardly room: ` → #3 25 %`."""
    return f" → #{one.canary.rpartition('-')[2]} {'gates' if one.phase == 'gating' else f'{one.weight} %'}"


def where(one: RolloutView) -> str:
    """Return which step it is in, "" where there are not several."""
    if one.is_ended or one.phase == "gating" or len(one.steps) < 2:
        return ""
    return f"step {one.step + 1} of {len(one.steps)}" if one.step < len(one.steps) else "after the last step"


def _gates(one: RolloutView) -> str:
    return f"its gates run; `stoker release show {one.endpoint}` says which" if one.phase == "gating" else ""


def need(one: RolloutView) -> str:
    """Return how far the step that runs is from what it needs."""
    if one.phase != "stepping" or not one.steps:
        return ""
    return f"{one.requests} of {one.requests_min} requests, {age(one.since_s)} of {one.dwell_s:g}s"


def verdict(one: RolloutDetail) -> str:
    """Return how near the evidence is to aborting, and the newest sentence of who judges."""
    if not seen(one) or one.is_ended:
        return ""
    return f"{times(one.part)} of what aborts" + (f"; {one.verdict}" if one.verdict else "")


def seen(one: RolloutDetail) -> list[LineView]:
    """Return the lines that say anything: what nobody has counted yet says nothing."""
    return [each for each in one.lines if each.canary is not None or each.e != 1.0]


def phase(name: Phase) -> str:
    """Return a phase in its colour."""
    return click.style(name, fg=_COLOURS.get(name, "cyan"))


def evidence(lines: Iterable[LineView], part: float) -> str:
    """Return the table of metrics by cohort: both arms, and how near each is to aborting by itself."""
    rows = [
        (
            each.metric,
            each.cohort or "all",
            _rate(each.canary),
            _rate(each.baseline),
            f"{each.e:.3g}",
            _coloured(each.part),
        )
        for each in lines
    ]
    rows.append((click.style("together", bold=True), "", "", "", "", _coloured(part)))
    return columns(("METRIC", "OF", "CANARY", "BASELINE", "E-VALUE", "× OF WHAT ABORTS"), rows)


def timeline(entries: Iterable[Entry]) -> list[str]:
    """Return what happened, a line each."""
    return [
        "  ".join(
            (
                click.style(clock(each.at_s), dim=True),
                click.style(each.event.ljust(12), fg=_EVENTS.get(each.event, "cyan")),
                f"{each.weight:3d} %",
                each.because,
            )
        )
        for each in entries
    ]


def times(part: float) -> str:
    """Return a part of what aborts: `0.03 ×`, `< 0.001 ×`, `> 1000 ×`."""
    if part < 0.001:
        return "< 0.001 ×"
    return "> 1000 ×" if part > 1000 else f"{part:.3g} ×"


def _share(one: RolloutDetail) -> int:
    return one.weight if not one.is_ended else 100 * (one.phase == "promoted")


def _arm(revision: str, model: str, share: int) -> str:
    full = round(BAR_WIDTH * share / 100)
    bar = click.style("█" * full, fg="cyan") + click.style("░" * (BAR_WIDTH - full), dim=True)
    return f"{bar} {share:3d} %  {revision}" + (f"  {click.style(model, dim=True)}" if model else "")


def _rate(tally: Tally | None) -> str:
    if tally is None or not tally.total:
        return "-"
    return f"{tally.bad} of {tally.total} ({tally.bad / tally.total:.2%})"


def _coloured(part: float) -> str:
    return click.style(times(part), fg="red" if part >= 1 else "yellow" if part >= 0.1 else None)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
