"""`stoker why`: what is wrong with an endpoint, why, and what to do, for somebody who was woken up for it."""

import shutil
import textwrap
import time
from collections.abc import Sequence
from typing import Final

import click

from stoker.cli.output import duration, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.core.diagnose.causes import TITLES, Cause, Remedy
from stoker.core.diagnose.scale import percent
from stoker.core.diagnose.shift import Harm
from stoker.core.diagnose.verdict import Explanation
from stoker.core.diagnose.window import PHASES, SINCE_MAX_S, UNTIL_MAX_S
from stoker.core.remedies import effect
from stoker.types.errors import InvalidInput
from stoker.types.remedies import Act
from stoker.types.units import parse_seconds

BAR: Final = 20  # characters of a bar
TEXT_MIN: Final = 30  # characters in a line, however narrow the terminal
SURE: Final = 0.5  # from here on the first cause is named as the cause
TIMELINE_SHOWN: Final = 12
RUNBOOKS: Final = "docs/how-to/runbooks.md"
TO_DO: Final[dict[Remedy, str]] = {
    "none": "nothing can be done from here without knowing more: follow the runbook",
    "eject": "take it out: the gateways eject what is far from its peers; otherwise restart it",
    "roll_back": "go back to the revision before: stoker rollback {endpoint}",
    "scale": "give it more replicas: raise spec.replicas and stoker apply",
    "shed": "hold the callers back: stoker keys limit KEY --rps N",
    "restart": "restart its replicas one after the other, and give them more memory",
}


@click.command(
    cls=Command,
    example="""
    stoker why chat
    stoker why chat --since 30m
    stoker why chat --since 9h --until 8h
    """,
)
@click.argument("name", shell_complete=complete_endpoint)
@click.option("--since", help="How long ago it began, such as 30m; by default the last hour is searched.")
@click.option("--until", help="How long ago it ended, such as 8h; by default it goes on.")
@click.option("--open", "is_raised", is_flag=True, help="Open an incident that is followed until it is over.")
@output_option
@project_option
@click.pass_obj
def command(
    session: Session, name: str, since: str | None, until: str | None, is_raised: bool, output: str, project: str
) -> None:
    """Say why an endpoint is worse than before: causes, likeliest first, each with its evidence."""
    until_s = _ago_s("until", until, UNTIL_MAX_S)
    since_s = _ago_s("since", since, (until_s or 0.0) + SINCE_MAX_S)
    control = session.control()
    found = control.why(project, name, since_s, until_s)
    show(found, output, lambda: page(found, name))
    if is_raised:
        incident = control.raise_incident(project, name, "opened with stoker why")
        click.echo(f"\nincident {incident.number} is open; stoker incidents show {incident.number}", err=True)


def _ago_s(option: str, text: str | None, most_s: float) -> float | None:
    if text is None:
        return None
    try:
        found_s = parse_seconds(text)
    except ValueError as wrong:
        raise InvalidInput(f"--{option} {text}: {wrong}", field=option) from wrong
    if found_s > most_s:
        reach = f"at most {SINCE_MAX_S / 3600:.0f}h are looked at, which ended up to {UNTIL_MAX_S / 86_400:.0f}d ago"
        raise InvalidInput(f"--{option} {text}: {reach}, such as --since 9h --until 8h", field=option)
    return found_s


def page(found: Explanation, name: str) -> str:
    """Return the verdict, the causes, what to do and what was changed, in this order."""
    diagnosis = found.diagnosis
    lines = [click.style(verdict(found, name), bold=True)]
    if diagnosis.is_wrong:
        lines += ["", *_harm_lines(found), *cause_lines(diagnosis.causes), *_to_do(found, name)]
    lines += act_lines(found.acts)
    changes = [timeline_line(_clock(one.at_s), one.kind, one.what) for one in found.changes[-TIMELINE_SHOWN:]]
    if changes:
        lines += ["", click.style("What was done", bold=True), *changes]
    lines += ["", click.style(_compared(found), dim=True)]
    if diagnosis.not_judged:
        names = ", ".join(kind.replace("_", " ") for kind in diagnosis.not_judged)
        lines.append(click.style(f"not judged, for nothing here measures it: {names}", dim=True))
    return "\n".join(lines)


def verdict(found: Explanation, name: str) -> str:
    """Return the one sentence that matters."""
    diagnosis = found.diagnosis
    if not diagnosis.is_wrong and found.requests == 0:
        return f"nobody asked {name} from {_clock(found.bad_from_s)} to {_clock(found.bad_until_s)}: nothing to judge."
    if not diagnosis.is_wrong and found.base_requests == 0:
        return f"{name} fails no more than chance; that it is slower cannot be told: nobody asked it before."
    if not diagnosis.is_wrong:
        return f"{name} is as it was: nothing got worse by more than chance."
    since = f"since {_clock(diagnosis.since_s)}"
    if not diagnosis.causes:
        return f"{name} is worse {since}, and nothing that is measured explains it."
    first = diagnosis.causes[0]
    where = f" ({first.where})" if first.where else ""
    how = "because" if first.confidence >= SURE else "perhaps because"
    return f"{name} is worse {since}, {how} {TITLES[first.kind]}{where}."


def cause_lines(causes: Sequence[Cause]) -> list[str]:
    """Return each cause with a bar and its evidence."""
    lines = ["", click.style("Why", bold=True)] if causes else []
    for cause in causes:
        full = round(cause.confidence * BAR)
        bar = click.style("█" * full, fg="red" if cause.confidence >= SURE else "yellow") + "·" * (BAR - full)
        share = f"{percent(cause.affected_ratio)} of the requests" if cause.affected_ratio < 0.995 else ""
        where = ", ".join(each for each in (cause.where, share) if each)
        lines.append(f"  {bar} {cause.confidence:4.0%}  {TITLES[cause.kind]}")
        if where:
            lines.append(f"  {'':{BAR}}       {where}")
        for line in cause.evidence:
            lines += [f"  {'':{BAR}}       {click.style(part, dim=True)}" for part in _folded(line, BAR + 9)]
    return lines


def timeline_line(clock: str, kind: str, text: str) -> str:
    """Return one line of what was done, folded so that its columns stay columns."""
    head = f"  {clock}  {kind:<8} "
    return head + f"\n{'':{len(head)}}".join(_folded(text, len(head)))


def _folded(text: str, indent: int) -> list[str]:
    width = max(shutil.get_terminal_size().columns - indent, TEXT_MIN)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def harm_words(harm: Harm) -> str:
    """Return what is wrong, in words."""
    words = {
        "latency": "slower",
        "errors": "more errors",
        "refusals": "more refused or given up",
        "quality": "other answers",
        "deaths": "replicas killed by requests",
    }
    return ", ".join(words[kind] for kind in harm.__struct_fields__ if getattr(harm, kind) > 0)


def _harm_lines(found: Explanation) -> list[str]:
    added = found.diagnosis.added_s
    top = sorted((phase for phase in PHASES if added.get(phase, 0.0) > 0), key=lambda phase: -added[phase])[:3]
    where = ", ".join(f"{phase.replace('_', ' ')} +{duration(added[phase])}" for phase in top)
    harm = f"  {harm_words(found.diagnosis.harm)}"
    return [harm + (f"; a request spends more time in: {where}" if where and found.diagnosis.harm.latency > 0 else "")]


def act_lines(acts: Sequence[Act]) -> list[str]:
    """Return what an incident did by itself, each act with how it ended."""
    lines = ["", click.style("What it did by itself", bold=True)] if acts else []
    for act in acts:
        lines.append(timeline_line(_clock(act.at_s), "act", f"{act.number}: {act.what}, for {act.because}"))
        if act.is_in_force:
            lines.append(timeline_line(" " * 8, "", click.style("in force", fg="yellow")))
            continue
        how = f"over after {duration(act.ended_at_s - act.at_s)}: {act.outcome}"
        seen = f"; {effect(act.before, act.after)}" if act.after is not None else ""
        lines.append(timeline_line(" " * 8, "", how + seen))
    return lines


def _to_do(found: Explanation, name: str) -> list[str]:
    causes = found.diagnosis.causes
    if not causes:
        return []
    first = causes[0]
    itself = f"{found.next_act}, for {found.next_because}" if found.next_act else f"nothing: {found.next_because}"
    return [
        "",
        click.style("What to do", bold=True),
        f"  {TO_DO[first.remedy].format(endpoint=name)}",
        f"  runbook: {RUNBOOKS}#{first.runbook}",
        *(f"  {line}" for line in _folded(f"by itself: {itself}", 2)),
    ]


def _compared(found: Explanation) -> str:
    bad, base = (found.bad_from_s, found.bad_until_s), (found.base_from_s, found.base_until_s)
    words = [f"{_clock(start_s)} to {_clock(end_s)}" for start_s, end_s in (bad, base)]
    return f"compared {words[0]} with {words[1]}"


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
