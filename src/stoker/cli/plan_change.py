"""`stoker plan --set`: what a change of an endpoint would do, before it is applied."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from stoker.cli.output import columns
from stoker.sim.calendar import said
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.change import Change, Line, Scheduled, Side
from stoker.sim.sizing.words import dollars, seconds
from stoker.types.errors import InvalidInput
from stoker.types.resources import EndpointSpec

if TYPE_CHECKING:
    from stoker.sim.sizing.slos import Slo

# What a simulation can tell the effect of.
CHANGED: Final = ("replicas.", "scaling.", "limits.queue_max", "limits.timeout")
UNKNOWN: Final = ("scaling.signals",)  # simulated engines have no gauges
CLOSED: Final = (
    "closed: of all requests, those refused at once because a schedule lets no replica be; the rest is of the others"
)


def changed(spec: EndpointSpec, settings: Sequence[str]) -> EndpointSpec:
    """Return `spec` with settings such as `replicas.max=6`. Raises InvalidInput."""
    from stoker.protocol import yamltree
    from stoker.protocol.scaling import scaling_problems

    tree: dict[str, Any] = msgspec.to_builtins(spec)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.startswith(CHANGED) or path.startswith(UNKNOWN):
            raise InvalidInput(
                f"{setting!r}: write PATH=VALUE of {', '.join(CHANGED)} (but not "
                f"{' or '.join(UNKNOWN)}), such as replicas.max=6"
            )
        (value, *_), faults = yamltree.parse(text or "''")
        *parents, last = path.split(".")
        place = tree
        for each in parents:
            place = place.get(each, {})
        if faults or last not in place:
            raise InvalidInput(f"{setting!r}: there is no {path} in an endpoint, or {text!r} is no value")
        place[last] = yamltree.plain(value)
    try:
        found = msgspec.convert(tree, EndpointSpec)
    except msgspec.ValidationError as wrong:
        raise InvalidInput(f"{', '.join(settings)}: {wrong}") from wrong
    if found.replicas.min > found.replicas.max:
        raise InvalidInput(f"replicas.min {found.replicas.min} is more than replicas.max {found.replicas.max}")
    if problems := scaling_problems(found):
        raise InvalidInput("\n".join(f"{field.removeprefix('spec.')}: {message}" for field, message in problems))
    return found


def range_of(spec: EndpointSpec) -> Range:
    """Return the replicas that an endpoint may have while no schedule is on."""
    most = spec.replicas.max if spec.scaling.schedules else max(spec.replicas.max, 1)
    return Range(spec.replicas.min, most, spec.scaling.utilization)


def text(change: Change, slos: "Sequence[Slo]", is_priced: bool) -> str:
    """Return the numbers of both sides and their difference; what is more than chance is in colour."""
    header = ("", f"NOW: {_title(change.now)}", f"THEN: {_title(change.then)}", "DIFFERENCE")
    told = [each for each in change.lines if is_priced or "cost" not in each.name]
    is_closing = any(each.name == "closed" and (each.now or each.then) for each in told)
    rows = [_row(each, [slo.name for slo in slos]) for each in told if is_closing or each.name != "closed"]
    count = len(change.now.runs)
    note = f"means of {count} draws of the demand, the same for both; ±: 95 % interval, dim where it may be chance"
    notes = [note, CLOSED] if is_closing else [note]
    return "\n".join([columns(header, rows), *(click.style(each, dim=True) for each in notes), *_schedules(change)])


def _title(side: Side) -> str:
    count = len(side.schedules)
    return f"{side.range.name}{f', {count} schedule' if count else ''}{'s' if count > 1 else ''}"


def _schedules(change: Change) -> list[str]:
    """Return which schedules there are, and how long each was on."""
    sides = (("now", change.now), ("then", change.then)) if change.now.schedules != change.then.schedules else (
        ("both", change.now),
    )  # fmt: skip
    lines = [_schedule(title, each) for title, side in sides for each in side.schedules]
    if not lines:
        return []
    begins = f"what came begins on {said(change.begins_at_s)}; --begins 'mon 08:00' would be another day"
    return [*lines, click.style(begins, dim=True)]


def _schedule(title: str, one: Scheduled) -> str:
    bounds = [f"{what} {count}" for what, count in (("min", one.min), ("max", one.max)) if count is not None]
    line = f"{title}: {one.name}: {', '.join(bounds)}; on for {one.on_ratio * 100:.0f} % of the time"
    return click.style(line, fg="yellow") if not one.on_ratio else click.style(line, dim=True)


def _row(line: Line, promises: Sequence[str]) -> tuple[str, ...]:
    is_share = line.name in promises or line.name in ("answered", "closed")
    if is_share:
        now, then, by = (f"{each * 100:.2f} %" for each in (line.now, line.then, line.difference.mean))
        half = f"{(line.difference.high - line.difference.mean) * 100:.2f}"
    else:
        say = dollars if line.name.startswith("cost") else seconds if " p" in line.name else _plain
        now, then, by = say(line.now), say(line.then), say(abs(line.difference.mean))
        half = say(line.difference.high - line.difference.mean)
        by = f"−{by}" if line.difference.mean < 0 else by
    good = (line.difference.mean > 0) == (is_share and line.name != "closed")
    colour = {"fg": "green" if good else "red"} if line.is_clear else {"dim": True}
    sign = "+" if line.difference.mean > 0 else ""
    return line.name, now, then, click.style(f"{sign}{by} ± {half}", **colour)


def _plain(value: float) -> str:
    return f"{value:.2f}"
