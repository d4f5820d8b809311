"""`stoker simulate --plan`: a whole platform on virtual time, and what became of each endpoint."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from stoker.cli.output import columns, duration, items, show
from stoker.cli.progress import Progress
from stoker.cli.values import file_bytes
from stoker.protocol import yamltree
from stoker.protocol.conform import misfits
from stoker.sim.document import Platform, read
from stoker.sim.picture import Track, page
from stoker.sim.platform.plan import PlatformPlan
from stoker.sim.platform.world import World
from stoker.sim.policies import named
from stoker.types.errors import InvalidInput

if TYPE_CHECKING:
    from stoker.sim.platform.outcome import Outcome

CLOSED = "CLOSED"  # stands behind ANSWERED where a schedule closes any of the endpoints
HEADINGS = ("ENDPOINT", "POLICY", "REQUESTS", "ANSWERED", "LATE", "WAIT P99", "FIRST P50", "P99", "LATENCY P50", "P99",
            "MOST", "REPLICA-HOURS", "RETRIES")  # fmt: skip


def run(file: Path, names: str, late_s: float, chart: Path | None, output: str) -> None:
    """Simulate the platform that `file` describes, and print what became of it.

    names: policies, by commas, each for every endpoint in a run of its own; "": as the plan says, in one run.
    """
    from stoker.cli.simulate import write

    plan = read(_tree(file), file.parent)
    count = sum(len(each.arrivals) for each in plan.endpoints)
    outcomes: list[Outcome] = []
    tracks: list[Track] = []
    with Progress("Simulating") as progress:
        for name in names.split(","):
            progress.step(f"{count:,} requests{f', {name}' if name else ''}")
            world = World(under(plan, name.strip()), late_s)
            outcomes += world.run(progress.update)
            title = f" {name}" if name else ""
            tracks += [Track(f"{key}{title}", site.ledger.timeline) for key, site in world.sites.items()]
    outcomes.sort(key=lambda each: list(world.sites).index(each.endpoint))
    if chart is not None:
        table = _table(outcomes)
        write(chart, page(f"Simulation of {file.name}", f"seed {plan.seed}, {plan.gateways} gateways", tracks, table))
    show(items(outcomes), output, lambda: _text(outcomes, late_s))
    if chart is not None and output == "table":
        click.echo(f"picture: {chart}")


def under(plan: PlatformPlan, name: str) -> PlatformPlan:
    """Return `plan` with the policy `name` for every endpoint; "": as it is."""
    if not name:
        return plan
    return replace(plan, endpoints=tuple(replace(each, policy=named(name)) for each in plan.endpoints))


def _tree(file: Path) -> object:
    """Return what is in `file`. Raises InvalidInput with the lines of what is wrong."""
    trees, faults = yamltree.parse(file_bytes(file))
    if len(trees) == 1 and not faults:
        faults = misfits(trees[0], msgspec.inspect.type_info(Platform))
    if faults or len(trees) != 1:
        lines = [f"line {each.line}: {each.field}: {each.message}" for each in faults]
        raise InvalidInput("\n".join(lines) or f"{file} holds {len(trees)} documents; a plan is one")
    return yamltree.plain(trees[0])


def _text(outcomes: "list[Outcome]", late_s: float) -> str:
    headings, *rows = _table(outcomes)
    words = f"late: waited over {late_s:g} s, or was not answered in time"
    if CLOSED in headings:
        words += "; closed: refused at once, because a schedule lets no replica be, and not late"
    lines = [columns(headings, rows), click.style(words, dim=True)]
    for each in outcomes:
        lost = {how: count for how, count in each.ends.items() if count and how != "ok"}
        if lost:
            lines.append(f"{_title(each)}: {', '.join(f'{count:,} {how}' for how, count in lost.items())}")
        if each.blocked_s > 0.0:
            lines.append(f"{_title(each)}: for {duration(each.blocked_s)} a replica had no room: {each.blocked}")
        lines += [
            f"{_title(each)}: {move.at_s:8.0f} s  {move.phase:<12} {move.weight:>3} %  {move.because}"
            for move in each.rollout
        ]
    return "\n".join(lines)


def _title(one: "Outcome") -> str:
    return f"{one.endpoint} ({one.policy})"


def _table(outcomes: "list[Outcome]") -> list[tuple[str, ...]]:
    """Return the headings and a row for each."""
    rows = [HEADINGS, *(_cells(each) for each in outcomes)]
    if not any(each.ends["closed"] for each in outcomes):
        return rows
    shares = (CLOSED, *(f"{each.ends['closed'] / max(each.requests, 1):.2%}" for each in outcomes))
    at = HEADINGS.index("ANSWERED") + 1
    return [(*row[:at], share, *row[at:]) for row, share in zip(rows, shares, strict=True)]


def _cells(one: "Outcome") -> tuple[str, ...]:
    return (
        one.endpoint,
        one.policy,
        f"{one.requests:,}",
        f"{one.ends['ok'] / max(one.requests, 1):.2%}",
        f"{one.late_ratio:.1%}",
        duration(one.wait.p99_s),
        duration(one.first.p50_s),
        duration(one.first.p99_s),
        duration(one.latency.p50_s),
        duration(one.latency.p99_s),
        str(one.replicas_most),
        f"{one.replica_hours:.2f}",
        f"{one.retries:,}",
    )
