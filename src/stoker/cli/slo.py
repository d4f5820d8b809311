"""`stoker slo`: what endpoints promise, and how they keep it."""

from collections.abc import Sequence
from typing import Final

import click

from stoker.cli.output import columns, items, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.client.views import SloView

_BAR: Final = 10
_COLOURS: Final = {"page": "red", "ticket": "yellow", "ok": "green"}


@click.command(
    cls=Command,
    example="""
    stoker slo
    stoker slo digits
    stoker slo export digits --format prometheus-rules > rules.yaml
    """,
)
@click.argument("words", nargs=-1, metavar="[[export] ENDPOINT]", shell_complete=complete_endpoint)
@click.option(
    "--format",
    "form",
    type=click.Choice(["openslo", "prometheus-rules"]),
    default="openslo",
    help="With export: OpenSLO v1 documents, or recording and alerting rules for Prometheus.",
)
@output_option
@project_option
@click.pass_obj
def command(session: Session, words: tuple[str, ...], form: str, output: str, project: str) -> None:
    """Show how objectives stand, of every endpoint, or of one with each rule; or export them."""
    if len(words) == 2 and words[0] == "export":
        _export(session, project, words[1], form)
        return
    if len(words) > 1:
        raise click.UsageError("one ENDPOINT is expected; `stoker slo export ENDPOINT` exports")
    found = session.control().slos(f"{project}/{words[0]}" if words else None)
    if words and not found:
        session.know(project, words[0])
    show(items(found), output, lambda: _one(found) if words else "\n".join([slos_table(found), *_without(found)]))


def slos_table(found: Sequence[SloView]) -> str:
    """Return objectives with what is attained, left and burning, a line each."""
    header = ("ENDPOINT", "OBJECTIVE", "TARGET", "ATTAINED", "BUDGET LEFT", "BURN", "GONE IN", "STATE")
    rows = [
        (
            f"{one.project}/{one.endpoint}",
            named(one),
            percent(one.target),
            percent(one.attained) if one.attained is not None else "no data",
            budget(one),
            f"{one.burn_rate:.3g}x" if one.attained is not None else "-",
            span(one.exhausted_in_s) if one.exhausted_in_s is not None else "-",
            state(one),
        )
        for one in found
    ]
    return columns(header, rows, empty="nothing was judged yet; every endpoint is, within seconds")


def _without(found: Sequence[SloView]) -> list[str]:
    """Return why objectives that somebody chose have no data, a line each."""
    return [
        click.style(f"{one.project}/{one.endpoint} {named(one)}: {one.because}", dim=True)
        for one in found
        if one.attained is None and one.alert != "none" and one.because.startswith("no data")
    ]


def named(one: SloView) -> str:
    """Return an objective's name, and whose it is where each tenant or segment has one by itself."""
    return f"{one.name}/{one.part}" if one.part else one.name


def budget(one: SloView) -> str:
    """Return what is left of an error budget: `███████··· 71 %`."""
    if one.attained is None:
        return "-"
    full = min(max(round(one.budget_left * _BAR), 0), _BAR)
    colour = "red" if one.budget_left <= 0 else "yellow" if one.budget_left < 0.25 else "green"
    return f"{click.style('█' * full, fg=colour)}{'·' * (_BAR - full)} {one.budget_left:.0%}"


def state(one: SloView) -> str:
    """Return the state in its colour; one that wakes nobody says so."""
    text = click.style(one.state, fg=_COLOURS.get(one.state))
    return text + (click.style(" (tracked)", dim=True) if one.alert == "none" and one.state == "ok" else "")


def percent(ratio: float) -> str:
    """Return a share as people write objectives: `99.95 %`."""
    return f"{100 * ratio:.6g} %"


def span(seconds: float) -> str:
    """Return a time as an objective's windows are written: `5m`, `6h`, `30d`."""
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "m")):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.0f}s"


def _one(found: Sequence[SloView]) -> str:
    parts = [slos_table(found)]
    for one in found:
        parts += ["", click.style(named(one), bold=True) + f"  {one.because}"]
        header = ("RULE", "SEVERITY", "WINDOWS", "FIRES AT", "LONG", "SHORT", "")
        rows = [
            (
                burn.rule,
                burn.severity,
                f"{span(burn.long_s)}/{span(burn.short_s)}",
                f"{burn.threshold:.3g}x",
                f"{burn.long:.3g}x",
                f"{burn.short:.3g}x",
                click.style("fires", fg="red") if burn.firing else "",
            )
            for burn in one.burns
        ]
        parts.append(columns(header, rows))
        parts += [click.style(f"{step.do}: {step.because}", fg="yellow") for step in one.in_force]
    return "\n".join(parts)


def _export(session: Session, project: str, name: str, form: str) -> None:
    from stoker.protocol import openslo, promrules, yamltree  # PyYAML takes longer to import than most commands to run

    resource = session.control().endpoint(project, name).resource
    made = openslo.documents(resource) if form == "openslo" else [promrules.rules(resource)]
    click.echo(yamltree.to_text(made), nl=False)
