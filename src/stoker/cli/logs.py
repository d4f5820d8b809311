"""`stoker logs`: what an endpoint's replicas, or the platform's own processes, wrote."""

import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

import click

from stoker.cli.logline import readable
from stoker.cli.session import Command, Session, complete_endpoint, project_option
from stoker.client.connection import Connection
from stoker.client.control import FOREVER, ControlClient
from stoker.types.errors import NotFound, StokerError

# Lines read but not yet printed, over all replicas; a slow terminal slows the readers.
LINES_MAX: Final = 1000
REPLICAS_MAX: Final = 64
LOOK_AGAIN_S: Final = 1.0
_COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue")

Lines = Callable[[], Iterator[bytes]]


@click.command(
    cls=Command,
    example="""
    stoker logs digits
    stoker logs smol -f --tail 20
    stoker logs --process control
    """,
)
@click.argument("name", required=False, shell_complete=complete_endpoint)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, also by new replicas.")
@click.option(
    "--tail", type=click.IntRange(0, 10_000), default=200, help="How many of the last lines; 200 unless told."
)
@click.option("--replica", help="Only this replica.")
@click.option("--process", help="A process of the platform on this machine: control, gateway-0, …")
@project_option
@click.pass_obj
def command(
    session: Session, name: str | None, follow: bool, tail: int, replica: str | None, process: str | None, project: str
) -> None:
    """Show the logs of an endpoint, each line with its replica when there are several.

    On a terminal lines are laid out to be read; a pipe or a file gets them as they are, JSON where stoker wrote them.
    """
    if (name is None) == (process is None):
        raise click.UsageError("name an endpoint, or a process with --process")
    if process is not None:
        _print_one(_process_log(session, process, tail, follow))
        return
    assert name is not None
    control = session.control()
    found = [one.replica for one in control.endpoint(project, name).replicas]
    if replica is not None:
        found = [one for one in found if one == replica or one.endswith(f"-{replica}")]
    if not found and not follow:
        raise NotFound(f"{name} has no replica{f' {replica}' if replica else ''}; see `stoker describe {name}`")
    if not follow and len(found) == 1:
        _print_one(control.replica_log(found[0], tail=tail))
    else:
        _Reader(control, project, name, replica, tail=tail, follow=follow).run()


def _process_log(session: Session, process: str, tail: int, follow: bool) -> Iterator[bytes]:
    agent = Connection(f"unix:{session.folder.run / 'agent.sock'}")
    return agent.stream(
        "GET",
        f"/v1/processes/{process}/logs",
        query={"tail": tail, "follow": follow},
        timeout_s=FOREVER if follow else None,
    )


def _print_one(pieces: Iterator[bytes]) -> None:
    for line in _lines(pieces):
        click.echo(_said(line))


def _said(line: str) -> str:
    """Return a line as it is for programs, laid out for people."""
    return readable(line) if sys.stdout.isatty() else line


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    waiting = b""
    for piece in pieces:
        *whole, waiting = (waiting + piece).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")
    if waiting:
        yield waiting.decode("utf-8", "replace")


class _Reader:
    """Reads the logs of all replicas of an endpoint at once, each line printed whole."""

    def __init__(
        self, control: ControlClient, project: str, name: str, only: str | None, *, tail: int, follow: bool
    ) -> None:
        self._control = control
        self._project = project
        self._name = name
        self._only = only
        self._tail = tail
        self._follow = follow
        self._lines: queue.Queue[tuple[str, str | None]] = queue.Queue(LINES_MAX)
        self._reading: set[str] = set()
        self._known: list[str] = []

    def run(self) -> None:
        """Print until Ctrl-C when following, else until every log ended."""
        self._look()
        while self._follow or self._reading:
            try:
                replica, line = self._lines.get(timeout=LOOK_AGAIN_S)
            except queue.Empty:
                self._look()
                continue
            if line is None:
                self._reading.discard(replica)
            else:
                click.echo(self._prefix(replica) + _said(line))

    def _look(self) -> None:
        """Begin to read replicas that were not there before."""
        try:
            replicas = [one.replica for one in self._control.endpoint(self._project, self._name).replicas]
        except StokerError:
            return  # control is being restarted, or the endpoint is gone; what is read already goes on
        for replica in replicas:
            is_meant = self._only is None or replica == self._only or replica.endswith(f"-{self._only}")
            if is_meant and replica not in self._known and len(self._reading) < REPLICAS_MAX:
                self._known.append(replica)
                self._reading.add(replica)
                threading.Thread(target=self._read, args=(replica,), daemon=True).start()

    def _read(self, replica: str) -> None:
        try:
            for line in _lines(self._control.replica_log(replica, tail=self._tail, follow=self._follow)):
                self._lines.put((replica, line))
        except StokerError as problem:
            self._lines.put((replica, f"(the log ended: {problem.message})"))
        self._lines.put((replica, None))

    def _prefix(self, replica: str) -> str:
        if len(self._known) == 1:
            return ""
        colour = _COLOURS[self._known.index(replica) % len(_COLOURS)]
        return click.style(replica.rpartition("-")[2], fg=colour) + " "
