"""`stoker costs advise`: what to change so that serving costs less, and what that would do to what is promised."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stoker.cli.output import columns, items, show
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session, complete_endpoint, output_option
from stoker.client import costs
from stoker.types.errors import Forbidden, InvalidInput
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.units import parse_seconds

if TYPE_CHECKING:
    from stoker.cli.advise_platform import Advised
    from stoker.client.control import ControlClient
    from stoker.core.cost.hints import Hint
    from stoker.types.process import NodeStatus
    from stoker.types.resources import Resource
    from stoker.types.statuses import EndpointView

DAYS_MAX: Final = 7  # of which minutes are kept
ENDPOINTS_MAX: Final = 50  # of one question, the dearest; each takes seconds of simulation


@click.command(
    cls=Command,
    example="""
    stoker costs advise
    stoker costs advise digits --since 3d
    stoker costs advise --project search -o json
    stoker costs advise digits --manifests smaller.yaml && stoker apply -f smaller.yaml
    """,
)
@click.argument("endpoint", required=False, shell_complete=complete_endpoint)
@click.option("-p", "--project", default="", help="Of that project.  [default: every one, or an ENDPOINT's default]")
@click.option("--since", default="7d", show_default=True, help="How far back is looked: 1d to 7d, in whole days.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same gives the same advice.")
@click.option(
    "--manifests",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the endpoints as they should be into this file, for `stoker apply -f`.",
)
@output_option
@click.pass_obj
def advise(
    session: Session, /, endpoint: str | None, project: str, since: str, seed: int, manifests: Path | None, output: str
) -> None:
    """Say what would make endpoints cost less, and simulate what it does to what they promise.

    Replicas, sleep, the share of its places that a replica fills, cores and memory. What came in the days before is
    replayed on virtual time; what does not keep every objective there is not advised. Beside that, reckoned from what
    was measured: pools, engines, and endpoints that fall back to somebody who is paid. Nothing is changed.
    """
    from stoker.cli import advise_more
    from stoker.cli.advise_platform import advised, patched, spent
    from stoker.protocol import manifest

    days, control = _days(since), session.control()
    views = _endpoints(control, endpoint, project)
    report = costs.costs(control.connection, by="project,endpoint,kind", from_=f"{days}d", project=project)
    nodes = _nodes(control)
    found: list[Advised] = []
    with Progress("Advising") as progress:
        for number, view in enumerate(views):
            who = f"{view.project}/{view.name}"
            progress.step(f"{who} ({number + 1} of {len(views)})")

            def told(what: str, done: float, total: float, who: str = who) -> None:
                progress.step(f"{who}: {what}")
                progress.update(done, total)

            paid = spent(report, str(view.project), str(view.name))
            found.append(advised(control.query, view.resource, paid, nodes, days=days, seed=seed, told=told))
        progress.step("pools, engines and fallbacks")
        is_everything = endpoint is None and not project
        more = advise_more.advised(control, views, nodes, report, days=days, is_everything=is_everything)
    found.sort(key=lambda each: (-each.saves_per_month, not each.settings))
    if manifests is not None:
        settings = {(each.project, each.endpoint): each.settings for each in found if each.settings}
        changed: list[Resource] = [
            patched(view.resource, settings[key]) for view in views if (key := (view.project, view.name)) in settings
        ]
        manifests.write_text(manifest.to_yaml(changed, defaults=False) if changed else "")
    show({**items(found), "more": more}, output, lambda: page(found, manifests, more))


def page(found: "Sequence[Advised]", manifests: Path | None = None, more: "Sequence[Hint]" = ()) -> str:
    """Return the advice as people read it: who gains what, then each change with its effect and what it rests on.

    more: about pools, engines and fallbacks.
    """
    header = ("ENDPOINT", "CHANGE", "SAVES A MONTH", "LATE", "TTFT P95", "LATENCY P95", "SURE")
    rows = [_row(each) for each in found]
    parts = [columns(header, rows, empty="there is no endpoint to advise about"), *map(_reasons, found)]
    total = sum(each.saves_per_month for each in found if each.is_priced)
    if total > 0:
        parts.append(f"all together  about {_usd(total)} a month, where machines go when they are empty")
    if any(each.settings for each in found):
        parts.append(
            f"to do it      stoker apply -f {manifests}"
            if manifests is not None
            else "to do it      stoker costs advise --manifests advised.yaml && stoker apply -f advised.yaml"
        )
    if more:
        parts.append(_more(more))
    return "\n\n".join(parts)


def _more(hints: "Sequence[Hint]") -> str:
    """Return what is beside the settings of one endpoint: each change, what it rests on, what it takes for granted."""
    rows = [
        (each.kind, each.about, each.change, click.style(_usd(each.saves_micro_usd / 1e6), fg="green"))
        for each in hints
    ]
    told = "\n".join(
        f"{each.about}: {each.change}\n" + click.style(f"  {each.because};\n  assuming {each.assuming}", dim=True)
        for each in hints
    )
    return columns(("OF", "WHICH", "CHANGE", "SAVES A MONTH"), rows) + "\n\n" + told


def _row(each: "Advised") -> tuple[str, ...]:
    who = f"{each.project}/{each.endpoint}"
    if not each.settings:
        return who, "nothing to gain" if each.now is not None else "nothing to advise", "-", *_now(each), "-"
    changes = ", ".join(
        f"{setting.partition('=')[0]} {before} → {setting.partition('=')[2]}"
        for setting, before in zip(each.settings, each.was, strict=True)
    )
    return who, changes, _saved(each), *_now(each), each.confidence


def _now(each: "Advised") -> tuple[str, str, str]:
    from stoker.sim.sizing.words import seconds

    if each.now is None:
        return "-", "-", "-"
    then = each.then or each.now
    return (
        _change(f"{each.now.late_ratio * 100:.2f} %", f"{then.late_ratio * 100:.2f} %"),
        _change(seconds(each.now.ttft_p95_s), seconds(then.ttft_p95_s)),
        _change(seconds(each.now.latency_p95_s), seconds(then.latency_p95_s)),
    )


def _change(now: str, then: str) -> str:
    return now if now == then else f"{now} → {then}"


def _saved(each: "Advised") -> str:
    if each.saves_per_month < 0.0:
        more = -each.saves_per_month
        return click.style(f"costs {_usd(more) if each.is_priced else f'{more:,.0f} replica-h'} more", fg="yellow")
    said = _usd(each.saves_per_month) if each.is_priced else f"{each.saves_per_month:,.0f} replica-h"
    return click.style(said, fg="green")


def _reasons(each: "Advised") -> str:
    promises = ", ".join(each.promises)
    seen = f"{each.requests:,} requests in {each.days:.1f} days" if each.requests else ""
    lines = [", ".join(part for part in (seen, f"held to {promises}" if promises else "") if part), *each.because]
    told = "\n".join(f"  {line}" for line in lines if line)
    return f"{each.project}/{each.endpoint}\n{click.style(told, dim=True)}"


def _usd(amount: float) -> str:
    return f"${amount:,.2f}"


def _days(since: str) -> int:
    try:
        days = parse_seconds(since) / 86_400.0
    except ValueError as wrong:
        raise InvalidInput(f"--since {since}: {wrong}") from wrong
    if not 1.0 <= days <= DAYS_MAX or days != int(days):
        raise InvalidInput(f"--since {since}: 1d to {DAYS_MAX}d, in whole days, is what is kept by the minute")
    return int(days)


def _endpoints(control: "ControlClient", endpoint: str | None, project: str) -> "list[EndpointView]":
    if endpoint is not None:
        return [control.endpoint(project or str(DEFAULT_PROJECT), endpoint)]
    views = list(control.endpoints(project or None))
    if len(views) > ENDPOINTS_MAX:
        raise InvalidInput(f"{len(views)} endpoints, of which {ENDPOINTS_MAX} are looked at once; name a --project")
    return views


def _nodes(control: "ControlClient") -> "tuple[NodeStatus, ...]":
    """Return the machines; none where the key may not see them."""
    try:
        return control.nodes()
    except Forbidden:
        return ()
