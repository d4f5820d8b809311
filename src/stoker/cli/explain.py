"""`stoker explain scale`: why an endpoint has as many replicas as it has, now or at any moment."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import click

from stoker.cli.output import clock, columns, duration, fields, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option, write_example
from stoker.client.scaling import LIMIT, ScalingView, scaling
from stoker.core.scale.record import Record
from stoker.types.errors import InvalidInput
from stoker.types.units import parse_seconds

_EXAMPLE: Final = """
stoker explain scale chat
stoker explain scale chat --at 10m
stoker explain scale chat --at 14:05
"""


class ExplainGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=ExplainGroup)
def command() -> None:
    """Say why the platform decided as it did."""


@command.command(cls=Command, example=_EXAMPLE)
@click.argument("name", shell_complete=complete_endpoint)
@click.option("--at", help="How long ago, such as 10m, or when: 14:05, 2027-01-11T14:05. By default now.")
@click.option("-n", "--limit", type=click.IntRange(1, 500), default=LIMIT, show_default=True, help="Decisions shown.")
@output_option
@project_option
@click.pass_obj
def scale(session: Session, name: str, at: str | None, limit: int, output: str, project: str) -> None:
    """Show the decision about an endpoint's replicas with the numbers it was made from, and those before it."""
    at_s = None if at is None else moment_s(at, time.time())
    found = scaling(session.control().connection, project, name, at_s, limit)
    show(found, output, lambda: page(found))


def moment_s(text: str, now_s: float, option: str = "--at") -> float:
    """Return the unix time that `text` means: so long ago, a time of today (or yesterday), or a date and time."""
    try:
        return now_s - parse_seconds(text)
    except ValueError:
        pass
    try:
        if "-" in text:
            return datetime.fromisoformat(text).timestamp()
        today = datetime.fromtimestamp(now_s)
        hours = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M")
    except ValueError as wrong:
        raise InvalidInput(
            f"{option} {text}: neither 10m, 14:05 nor 2027-01-11T14:05", field=option.lstrip("-")
        ) from wrong
    found_s = today.replace(hour=hours.hour, minute=hours.minute, second=hours.second, microsecond=0).timestamp()
    return found_s if found_s <= now_s else found_s - 86_400.0


def page(found: ScalingView) -> str:
    """Return the decision, its signals and inputs, then the decisions before it."""
    bounds = f"{found.replicas.min} to {found.replicas.max} replicas"
    newest = found.now or next(iter(found.records), None)
    if newest is None:
        if not found.is_scaled:
            return f"{found.endpoint} does not scale: replicas.min and replicas.max are both {found.replicas.max}"
        return f"nothing was decided about {found.endpoint} ({bounds}) until then"
    lines = [
        click.style(f"{found.endpoint}: {_replicas(newest.desired)} at {clock(newest.at_s)} ({bounds})", bold=True),
        f"  {newest.because}",
    ]
    if newest.limit:
        lines.append(click.style(f"  {newest.limit}", fg="yellow"))
    if newest.room and newest.room != newest.because:
        lines.append(click.style(f"  {newest.room}", fg="yellow"))
    lines += ["", click.style("What each signal called for", bold=True), _signals(newest)]
    lines += ["", click.style("What was seen", bold=True), _inputs(newest)]
    changes = [each for each in found.records if each.desired != each.before]
    if changes:
        lines += ["", click.style("Changes", bold=True), _changes(changes)]
    return "\n".join(lines)


def _signals(newest: Record) -> str:
    rows = [(each.signal, f"{each.up:.2f}", f"{each.stay:.2f}", each.because) for each in newest.signals]
    return columns(("SIGNAL", "NEEDS", "KEEPS", "BECAUSE"), rows, empty="  none was measured")


def _inputs(newest: Record) -> str:
    sight = newest.sight
    rows = [
        ("arrivals", f"{sight.rate_short:.3g}/s in 6 s, {sight.rate_long:.3g}/s in {sight.span_s:.0f} s"),
        ("served", f"{sight.ended} in {duration(sight.service_s)} each" if sight.ended else "none since the last look"),
        ("held", f"{sight.in_flight} in flight, {sight.waiting} waiting; {sight.places:g} places in a replica"),
        ("replicas", f"{sight.ready} ready, {sight.pending} starting"),
        ("cold start", duration(sight.cold_start_s) if sight.cold_start_s else "not measured yet"),
        ("age", f"{newest.at_s - sight.at_s:.1f} s"),
    ]
    if sight.language.kv_free_ratio is not None:
        rows.append(("cache", f"{sight.language.kv_free_ratio:.0%} free"))
    if sight.cpu_ratio is not None:
        rows.append(("cores", f"{sight.cpu_ratio:.0%} busy"))
    return fields(rows)


def _changes(changes: Sequence[Record]) -> str:
    rows = [(clock(each.at_s), f"{each.before} → {each.desired}", each.because) for each in changes]
    return columns(("AT", "REPLICAS", "BECAUSE"), rows, empty="")


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"
