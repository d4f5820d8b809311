"""`stoker rollouts`: how revisions get their traffic, why, and what somebody says to that."""

import time
from collections.abc import Callable
from typing import Any, Final

import click

from stoker.cli import rollout_page
from stoker.cli.output import is_live, items, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option, write_example
from stoker.client.rollouts import RolloutDetail, Said
from stoker.types.errors import Forbidden, NotFound, NotReachable
from stoker.types.statuses import EndpointStatus

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
    """Show a rollout. Who has the traffic, the verdict with its evidence, and what happened.

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
    show(found, output, lambda: rollout_page.page(found, entries, _status(session, found)))


def _status(session: Session, found: RolloutDetail) -> EndpointStatus:
    """Return what is said of the rollout's endpoint now, where that says anything of it."""
    if found.is_ended and not found.spec.hooks:
        return EndpointStatus()
    try:
        return session.control().endpoint(found.project, found.endpoint).status
    except (Forbidden, NotFound):  # it is gone meanwhile, or not this key's to see
        return EndpointStatus()


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


def _steering(*, forward: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what every word to a rollout takes; `forward`: one that a freeze of rollouts forbids."""

    def decorate(said: Callable[..., None]) -> Callable[..., None]:
        over = click.option("--over-budget", is_flag=True, help="Also where an error budget's policy freezes rollouts.")
        reason = click.option("--reason", default="", help="Why, for the journal.")
        options = (click.argument("endpoint", shell_complete=complete_endpoint), *((over,) if forward else ()), reason)
        for each in reversed((*options, output_option, project_option)):
            said = each(said)
        return click.pass_obj(said)

    return decorate


@command.command(cls=Command, example="stoker rollouts pause digits")
@_steering(forward=False)
def pause(session: Session, **said: Any) -> None:
    """Keep the canary's share as it is until somebody resumes it."""
    _say(session, "pause", "waits", **said)


@command.command(cls=Command, example="stoker rollouts resume digits")
@_steering(forward=True)
def resume(session: Session, **said: Any) -> None:
    """Go on with a rollout that is paused; its step begins anew."""
    _say(session, "resume", "goes on", **said)


@command.command(cls=Command, example="stoker rollouts promote digits")
@_steering(forward=True)
def promote(session: Session, **said: Any) -> None:
    """Give the canary all of the traffic, whatever steps are left."""
    _say(session, "promote", "is promoted", **said)


@command.command(cls=Command, example="stoker rollouts abort digits")
@_steering(forward=False)
def abort(session: Session, **said: Any) -> None:
    """Take the traffic away from the canary."""
    _say(session, "abort", "is aborted", **said)


@command.command(cls=Command, example='stoker rollouts approve digits --reason "change 4711"')
@_steering(forward=False)
def approve(session: Session, **said: Any) -> None:
    """Let a revision go that a hook holds. Its rollout begins then."""
    _say(session, "approve", "is approved", **said)


@command.command(cls=Command, example='stoker rollouts deny digits --reason "not in the holidays"')
@_steering(forward=False)
def deny(session: Session, **said: Any) -> None:
    """Refuse a revision that a hook holds; what serves serves on."""
    _say(session, "deny", "is denied", **said)


@command.command(cls=Command, example="stoker rollouts retry digits")
@_steering(forward=True)
def retry(session: Session, **said: Any) -> None:
    """Try the revision again that was rolled back or refused."""
    _say(session, "retry", "is tried again", **said)


def _say(session: Session, order: Said, done: str, *, endpoint: str, project: str, output: str, **said: Any) -> None:
    found = session.rollouts().say(project, endpoint, order, **said)
    words = f"rollout {found.number} of {project}/{endpoint} {done}: {rollout_page.phase(found.phase)}"
    show(found, output, lambda: f"{words}, {found.canary} has {found.weight} % of the traffic")
