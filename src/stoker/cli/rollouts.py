"""`stoker rollouts`: how revisions get their traffic, why, and what somebody says to that."""

import time
from collections.abc import Callable
from typing import Final

import click

from stoker.cli import rollout_page
from stoker.cli.output import is_live, items, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option, write_example
from stoker.client.rollouts import RolloutDetail, Said
from stoker.types.errors import NotReachable

EVERY_S: Final = 1.0
ENTRIES: Final = 30  # of a timeline, without --entries
_EXAMPLE: Final = """
stoker rollouts
stoker rollouts show digits --watch
stoker rollouts show 12 -o json > rollout-12.json
stoker rollouts pause digits
"""


class RolloutsGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=RolloutsGroup, invoke_without_command=True)
@click.option("--endpoint", shell_complete=complete_endpoint, help="Only those of this endpoint.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, help="How many, the newest.  [default: 50]")
@output_option
@project_option
@click.pass_context
def command(ctx: click.Context, endpoint: str | None, limit: int, output: str, project: str) -> None:
    """List, show and steer rollouts: how a new revision gets the traffic, and what takes it away."""
    if ctx.invoked_subcommand is None:
        found = ctx.obj.rollouts().everything(project, endpoint, limit)
        show(items(found), output, lambda: rollout_page.table(found))


@command.command(
    name="show",
    cls=Command,
    example="""
    stoker rollouts show digits
    stoker rollouts show digits --watch
    stoker rollouts show 12 -o json > rollout-12.json
    """,
)
@click.argument("which", metavar="ENDPOINT|NUMBER", shell_complete=complete_endpoint)
@click.option("--watch", "-w", is_flag=True, help="Follow it until it ends.")
@click.option("--entries", type=click.IntRange(min=0), default=ENTRIES, help="Of the timeline, the newest; 0: all.")
@output_option
@project_option
@click.pass_obj
def show_one(session: Session, which: str, watch: bool, entries: int, output: str, project: str) -> None:
    """Show a rollout: who has the traffic, the verdict with its evidence, and what happened.

    ENDPOINT means its newest rollout. `-o json` has everything.
    """
    client = session.rollouts()

    wanted = None if output != "table" or not entries else entries

    def look() -> RolloutDetail:
        if which.isdecimal():
            return client.numbered(project, int(which), wanted)
        return client.newest(project, which, wanted)

    if watch and output == "table":
        follow(look, entries, live=is_live())
        return
    found = look()
    show(found, output, lambda: rollout_page.page(found, entries))


def follow(look: Callable[[], RolloutDetail], entries: int, *, live: bool) -> None:
    """Show a rollout until it ends: as a page that changes on a terminal, else its timeline as it grows."""
    found = look()
    if live:
        _draw(found, look, entries)
        click.echo(rollout_page.page(_patiently(look), entries))
        return
    said = 0.0
    while True:
        for line in rollout_page.timeline([each for each in found.timeline if each.at_s > said]):
            click.echo(line)
        said = found.timeline[-1].at_s if found.timeline else said
        if found.is_ended:
            return
        time.sleep(EVERY_S)
        found = _patiently(look)


def _draw(found: RolloutDetail, look: Callable[[], RolloutDetail], entries: int) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()

    def picture() -> Text:
        text = Text.from_ansi(rollout_page.page(found, min(entries or ENTRIES, max(console.height - 24, 3))))
        text.no_wrap, text.overflow = True, "ellipsis"
        return text

    with Live(picture(), console=console, transient=True, auto_refresh=False) as shown:
        while not found.is_ended:
            time.sleep(EVERY_S)
            found = _patiently(look)
            shown.update(picture(), refresh=True)


def _patiently(look: Callable[[], RolloutDetail]) -> RolloutDetail:
    """Ask again while control is being restarted."""
    for _ in range(20):
        try:
            return look()
        except NotReachable:
            time.sleep(EVERY_S / 2)
    return look()


@command.command(cls=Command, example="stoker rollouts pause digits")
@click.argument("endpoint", shell_complete=complete_endpoint)
@output_option
@project_option
@click.pass_obj
def pause(session: Session, endpoint: str, output: str, project: str) -> None:
    """Keep the canary's share as it is until somebody resumes it."""
    _say(session, (project, endpoint), "pause", "waits", output)


@command.command(cls=Command, example="stoker rollouts resume digits")
@click.argument("endpoint", shell_complete=complete_endpoint)
@output_option
@project_option
@click.pass_obj
def resume(session: Session, endpoint: str, output: str, project: str) -> None:
    """Go on with a rollout that is paused; its step begins anew."""
    _say(session, (project, endpoint), "resume", "goes on", output)


@command.command(cls=Command, example="stoker rollouts promote digits")
@click.argument("endpoint", shell_complete=complete_endpoint)
@output_option
@project_option
@click.pass_obj
def promote(session: Session, endpoint: str, output: str, project: str) -> None:
    """Give the canary all of the traffic, whatever steps are left."""
    _say(session, (project, endpoint), "promote", "is promoted", output)


@command.command(cls=Command, example="stoker rollouts abort digits")
@click.argument("endpoint", shell_complete=complete_endpoint)
@output_option
@project_option
@click.pass_obj
def abort(session: Session, endpoint: str, output: str, project: str) -> None:
    """Take the traffic away from the canary."""
    _say(session, (project, endpoint), "abort", "is aborted", output)


@command.command(cls=Command, example="stoker rollouts retry digits")
@click.argument("endpoint", shell_complete=complete_endpoint)
@output_option
@project_option
@click.pass_obj
def retry(session: Session, endpoint: str, output: str, project: str) -> None:
    """Try the revision again that was rolled back or refused."""
    _say(session, (project, endpoint), "retry", "is tried again", output)


def _say(session: Session, whose: tuple[str, str], order: Said, done: str, output: str) -> None:
    found = session.rollouts().say(*whose, order)
    words = f"rollout {found.number} of {'/'.join(whose)} {done}: {rollout_page.phase(found.phase)}"
    show(found, output, lambda: f"{words}, {found.canary} has {found.weight} % of the traffic")
