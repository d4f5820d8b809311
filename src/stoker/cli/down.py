"""`stoker down`: drain and stop the platform of a state folder; and the ending that `up` shares."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Final

import click

from stoker.app.home import Home
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session
from stoker.client.connection import Connection
from stoker.types.errors import StokerError

LOOK_S: Final = 0.1
HURRY_TIMEOUT_S: Final = 2.0
# One Ctrl-C more than this leaves at once, with the platform as it is then.
HURRIES_MAX: Final = 2


@click.command(
    cls=Command,
    example="""
    stoker down
    stoker down --drain 0
    """,
)
@click.option(
    "--drain", "drain_s", type=click.FloatRange(0, 3600), help="Seconds that running requests may take to finish."
)
@click.pass_obj
def command(session: Session, drain_s: float | None) -> None:
    """Drain and stop the platform. Requests that run are finished first; Ctrl-C hurries."""
    from stoker.app import settings

    chosen = settings.load(os.environ, home=session.home, drain_s=drain_s)
    was_running = end(session.folder, chosen.drain_s)
    click.echo("stopped" if was_running else f"nothing was running from {session.home}")


def end(home: Home, drain_s: float) -> bool:
    """Stop everything with a progress line; Ctrl-C meanwhile ends the patience. Return whether anything ran."""
    from stoker.app.down import down

    presses = 0

    def press(*_: object) -> None:
        nonlocal presses
        presses += 1
        if presses > HURRIES_MAX:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, press) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # In a thread, so that Ctrl-C interrupts nothing half-way: it only asks for less patience.
    worker = ThreadPoolExecutor(1)
    try:
        with Progress("Stopping") as progress:
            ending = worker.submit(down, home, drain_s=drain_s, progress=progress.step)
            is_hurrying = False
            while not ending.done():
                wait([ending], timeout=LOOK_S)
                if presses and not is_hurrying:
                    is_hurrying = True
                    progress.step("hurrying: what runs is cut")
                    _hurry(home)
            return ending.result()
    finally:
        worker.shutdown(wait=False)
        for number, handler in before.items():
            signal.signal(number, handler)


def _hurry(home: Home) -> None:
    """Ask the agent, which drains already, to wait no longer; without an agent nothing is drained anyway."""
    with suppress(StokerError):
        Connection(f"unix:{home.run / 'agent.sock'}", timeout_s=HURRY_TIMEOUT_S).exchange(
            "POST", "/v1/shutdown", query={"drain_s": 0}
        )
