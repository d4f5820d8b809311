"""`stoker incidents`: what went wrong, with its causes and timeline."""

from collections.abc import Sequence
from typing import Final

import click

from stoker.cli.output import age, clock, columns, fields, items, show
from stoker.cli.session import Command, Session, output_option, write_example
from stoker.cli.why import act_lines, cause_lines, harm_words, timeline_line
from stoker.core.diagnose.causes import TITLES
from stoker.core.diagnose.incident import Incident

_EXAMPLE: Final = """
stoker incidents --open
stoker incidents show 12
stoker incidents show 12 --markdown > postmortem.md
stoker incidents close 12 --because "rolled back"
"""


class IncidentsGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=IncidentsGroup, invoke_without_command=True)
@click.option("--open", "only_open", is_flag=True, help="Only those that go on.")
@output_option
@click.pass_context
def command(ctx: click.Context, only_open: bool, output: str) -> None:
    """List, show and close incidents."""
    if ctx.invoked_subcommand is None:
        found = ctx.obj.control().incidents(only_open=only_open)
        show(items(found), output, lambda: _table(found))


@command.command(name="show", cls=Command, example="stoker incidents show 12 --markdown")
@click.argument("number", type=click.IntRange(min=1))
@click.option("--markdown", is_flag=True, help="As the draft of a post-mortem.")
@output_option
@click.pass_obj
def show_one(session: Session, number: int, markdown: bool, output: str) -> None:
    """Show one incident: harm, causes, timeline."""
    if markdown:
        click.echo(session.control().postmortem(number), nl=False)
        return
    incident = session.control().incident(number)
    show(incident, output, lambda: _page(incident))


@command.command(cls=Command, example='stoker incidents close 12 --because "rolled back"')
@click.argument("number", type=click.IntRange(min=1))
@click.option("--because", default="closed by hand", help="How it ended.")
@click.pass_obj
def close(session: Session, number: int, because: str) -> None:
    """End an incident by hand; one whose endpoint is well again ends by itself."""
    incident = session.control().close_incident(number, because)
    click.echo(f"incident {incident.number} is over: {incident.resolution}")


def _table(found: Sequence[Incident]) -> str:
    rows = [
        (
            str(one.number),
            f"{one.project}/{one.endpoint}",
            click.style("open", fg="red") if one.is_open else "over",
            age(one.since_s),
            harm_words(one.harm) or "-",
            TITLES[one.causes[0].kind] if one.causes else "not known",
        )
        for one in found
    ]
    return columns(("NUMBER", "ENDPOINT", "STATE", "SINCE", "HARM", "LIKELIEST CAUSE"), rows, empty="no incidents")


def _page(incident: Incident) -> str:
    head = fields(
        [
            ("incident", click.style(str(incident.number), bold=True)),
            ("endpoint", f"{incident.project}/{incident.endpoint}"),
            ("state", click.style("open", fg="red") if incident.is_open else f"over: {incident.resolution}"),
            ("since", clock(incident.since_s)),
            ("until", "" if incident.is_open else clock(incident.closed_at_s)),
            ("raised by", incident.raised_by),
            ("harm", harm_words(incident.harm)),
        ]
    )
    timeline = [timeline_line(clock(one.at_s), one.kind, one.text) for one in incident.timeline]
    acts = act_lines(incident.acts)
    return "\n".join([head, *cause_lines(incident.causes), *acts, "", click.style("Timeline", bold=True), *timeline])
