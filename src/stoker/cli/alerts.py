"""`stoker alerts`: what is wrong, who has taken it, what is silenced, and whether a receiver hears."""

import getpass
from collections.abc import Mapping
from typing import Final

import click

from stoker.cli.output import age, clock, columns, show
from stoker.cli.session import Command, Session, output_option, pairs, project_option, write_example
from stoker.client import alerts
from stoker.client.views import Alerts, AlertView
from stoker.core.alerts import SILENCE_MAX_S, matches
from stoker.types.units import parse_seconds

_EXAMPLE: Final = """
stoker alerts
stoker alerts ack 3f0c
stoker alerts silence endpoint=digits --for 2h --why "moving it"
stoker alerts test phone
"""
_COLOURS: Final = {"firing": "red", "acknowledged": "yellow", "silenced": "cyan", "resolved": "green"}


class AlertsGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=AlertsGroup, invoke_without_command=True)
@output_option
@click.pass_context
def command(ctx: click.Context, output: str) -> None:
    """List alerts and silences; take, silence, test."""
    if ctx.invoked_subcommand is None:
        found = alerts.everything(ctx.obj.control())
        show(found, output, lambda: alerts_text(found))


@command.command(cls=Command, example="stoker alerts ack 3f0c")
@click.argument("which", metavar="ID")
@click.option("--by", default="", help="Who takes it.  [default: your name on this machine]")
@click.pass_obj
def ack(session: Session, which: str, by: str) -> None:
    """Take an alert: nobody is told of it again until it ends. The beginning of an ID is enough."""
    control = session.control()
    found = [one.id for one in alerts.everything(control).items if one.id.startswith(which)]
    if len(found) > 1:
        raise click.UsageError(f"{which} is the beginning of {len(found)} alerts; give more of it")
    taken = alerts.take(control, found[0] if found else which, by or _me())
    click.echo(f"{taken.id} {taken.state}" + (f" by {taken.acknowledged_by}" if taken.acknowledged_by else ""))


@command.command(cls=Command, example='stoker alerts silence endpoint=digits --for 2h --why "moving it"')
@click.argument("match", nargs=-1, required=True, callback=pairs, metavar="LABEL=VALUE...")
@click.option("--for", "span", default="2h", help="How long, such as 30m or 2h.  [default: 2h]")
@click.option("--why", default="", help="What for; shown to who wonders.")
@click.option("--by", default="", help="Who silences.  [default: your name on this machine]")
@click.pass_obj
def silence(session: Session, match: dict[str, str], span: str, why: str, by: str) -> None:
    """Tell nobody of alerts with these labels for a while. A value may end in *."""
    try:
        for_s = parse_seconds(span)
    except ValueError as wrong:
        raise click.UsageError(f"--for: {wrong}") from wrong
    if not 0 < for_s <= SILENCE_MAX_S:
        raise click.UsageError(
            f"--for {span}: a silence lasts up to {SILENCE_MAX_S / 86_400:.0f}d, and not for nothing"
        )
    control = session.control()
    made = alerts.silence(control, match, for_s, why, by or _me())
    click.echo(f"silence {made.id} until {clock(made.until_s)}")
    if not any(matches(one.labels, match) for one in alerts.everything(control).items):
        note = "no alert of now has these labels; `stoker alerts -o json` shows what labels alerts have"
        click.echo(click.style(note, dim=True), err=True)


@command.command(cls=Command, example="stoker alerts unsilence 1f2e3d4c")
@click.argument("which", metavar="ID")
@click.pass_obj
def unsilence(session: Session, which: str) -> None:
    """End a silence."""
    alerts.unsilence(session.control(), which)
    click.echo(f"silence {which} ended")


@command.command(cls=Command, example="stoker alerts test phone")
@click.argument("notifier")
@project_option
@click.pass_obj
def test(session: Session, notifier: str, project: str) -> None:
    """Tell a receiver something, to see that it hears."""
    alerts.try_notifier(session.control(), project, notifier)
    click.echo(f"{project}/{notifier} took it")


def alerts_text(found: Alerts) -> str:
    """Return alerts, silences, and receivers that do not hear."""
    parts = [_alerts_table(found)]
    if found.silences:
        header = ("SILENCE", "LABELS", "UNTIL", "BY", "WHY")
        rows = [
            (one.id, _labels(one.match), clock(one.until_s), one.by or "-", one.why or "-") for one in found.silences
        ]
        parts += ["", columns(header, rows)]
    parts += [
        click.style(f"{receiver} has yet to hear {count} {noun}; see control's log", fg="yellow")
        for receiver, count in found.undelivered.items()
        for noun in ["notice" if count == 1 else "notices"]
    ]
    return "\n".join(parts)


def _alerts_table(found: Alerts) -> str:
    header = ("ID", "STATE", "SEVERITY", "ALERT", "OF", "FOR", "TOLD", "WHY")
    rows = [
        (
            one.id[:8],
            click.style(one.state, fg=_COLOURS.get(one.state)),
            one.severity,
            " ".join(filter(None, (one.labels.get("alertname", "-"), one.labels.get("slo")))),
            _of(one.labels),
            age(one.since_s),
            ", ".join(f"{each} (not yet)" if each in found.undelivered else each for each in one.told) or "-",
            (f"taken by {one.acknowledged_by}; " if one.acknowledged_by else "") + _why(one),
        )
        for one in found.items
    ]
    return columns(header, rows, empty="no alerts")


def _of(labels: Mapping[str, str]) -> str:
    """Return whose alert it is: an endpoint with its project, else a node, a process or whatever the labels say."""
    if "endpoint" in labels:
        return f"{labels.get('project', '')}/{labels['endpoint']}"
    return " ".join(value for name, value in labels.items() if name != "alertname") or "the platform"


def _why(one: AlertView) -> str:
    if one.muted_by or "slo" in one.labels:
        return one.muted_by or one.because
    return ": ".join(filter(None, (one.summary, one.because)))


def _labels(match: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in match.items())


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
