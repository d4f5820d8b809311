"""`stoker top`: the live view of a platform that runs already."""

import signal
import threading
import time

import click

from stoker.cli.output import is_live
from stoker.cli.session import Command, Session


@click.command(
    cls=Command,
    example="""
    stoker top
    stoker top --lines | tee platform.log
    """,
)
@click.option("--lines", is_flag=True, help="Print a line for each change instead; so it is without a terminal.")
@click.pass_obj
def command(session: Session, lines: bool) -> None:
    """Watch endpoints live: requests, latency, tokens, errors, loads. Ctrl-C ends it."""
    from stoker.cli.frames import Watch
    from stoker.cli.live import watch

    control = session.control()
    control.stats()  # a platform that does not answer is an error here, not a picture
    nodes = control.nodes()
    began_s = min((node.started_at_s for node in nodes if node.started_at_s), default=time.time())
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    watched = Watch(control, session.credentials().gateway, began_s)
    live = is_live() and not lines
    watch(watched, stop, stop.is_set, live=live, full_screen=True, footer="Ctrl-C ends the view")
