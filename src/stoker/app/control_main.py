"""The control plane as a process: what it is made of, in which order it starts and ends. Composition only.

python -m stoker.app.control_main --home H --api-port P --gateways N
"""

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

import stoker
from stoker.api.app import build
from stoker.app import process_main, settings
from stoker.app.bounded_http import BoundedHttp
from stoker.app.control_parts import compose
from stoker.app.home import Home
from stoker.app.settings import Settings
from stoker.blob.folder import FolderBlobs
from stoker.control import chores, gameday, keys, replicas, tuning
from stoker.control.loop import LEASE
from stoker.control.plane import ControlPlane
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, refuse, serve
from stoker.registry import layout
from stoker.store import copies, leases, revisions, schema
from stoker.store.engine import Database, open_engine, schema_version, sqlite_url
from stoker.telemetry.metrics import encode_snapshot
from stoker.telemetry.process import watch_lag
from stoker.types.errors import Conflict
from stoker.types.replica import ReplicaStats

if TYPE_CHECKING:
    from stoker.app.far_http import FarServer
    from stoker.control.otlp import Sender

NAME: Final = "control"
LOCK_WAIT_S: Final = 5.0  # a control that was told to stop gives its lease back first
BACKLOG: Final = 256
GRACE_S: Final = 3.0  # for requests that run when control is told to stop
_log: Final = logging.getLogger(__name__)


class Answers:
    """Control's end of the frames: who it is, whether it is ready, what it counted."""

    body_max_bytes = 1 << 16

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._boot = secrets.token_hex(8)

    def hello(self) -> Hello:
        """See protocol.link.Handler."""
        state = self.stats().state
        return Hello(wire=frames.WIRE_VERSION, name=NAME, kind=NAME, pid=os.getpid(), boot=self._boot, state=state)

    def stats(self) -> ReplicaStats:
        """See protocol.link.Handler."""
        return ReplicaStats(state="ready" if self._plane.is_ready else "loading")

    def request(self, exchange: Exchange) -> None:
        """See protocol.link.Handler."""
        raise refuse(exchange.head.method)

    def call(self, exchange: Exchange) -> None:
        """See protocol.link.Handler."""
        if exchange.head.method != "metrics":
            raise refuse(exchange.head.method)
        self._plane.gauges.refresh()
        exchange.end(EndHead("application/msgpack"), encode_snapshot(self._plane.metrics.snapshot()))

    def drain(self) -> None:
        """Control holds nothing that would have to finish."""


class ApiServer(uvicorn.Server):
    """uvicorn without its own signal handlers; the process has one for all."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        yield


def take_lock(home: Home, wait_s: float = LOCK_WAIT_S) -> int:
    """Return a descriptor that holds this state folder's lock while it is open. Raises Conflict.

    Whoever holds it knows that no other control lives here, so it need not wait for the lease of a dead one.
    """
    lock = os.open(home.run / "control.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until_s:
                os.close(lock)
                raise Conflict(f"another control runs for {home.root}") from None
            time.sleep(0.02)
        else:
            return lock


def open_database(home: Home) -> Database:
    """Return the database at the schema of this stoker; migrates it when it is behind."""
    engine = open_engine(sqlite_url(home.database))
    found = schema_version(engine)
    if found != schema.VERSION:
        if found:  # the way back: a stoker of before starts from it
            kept = copies.copy_before(home.database, found)
            _log.warning("the database is brought to a newer schema", extra={"schema": found, "copy": str(kept)})
        from stoker.store import migrate  # a third of a second that most starts need not pay

        logging.getLogger("alembic").setLevel(logging.WARNING)
        began_s = time.perf_counter()
        migrate.upgrade(engine)
        _log.info("migrated", extra={"schema": schema.VERSION, "seconds": round(time.perf_counter() - began_s, 3)})
    home.database.chmod(0o600)
    return Database(engine)


def clean_up(home: Home, database: Database, blobs: FolderBlobs) -> None:
    """Remove what a crash left half-made. Only for the holder of the lock."""
    known: set[str] = {each.replica for each in database.read(revisions.assignments)}
    removed = blobs.clean() + layout.clean(home.models) + layout.clean(home.tmp) + replicas.sweep(known, home)
    if removed:
        _log.info("removed what a crash had left", extra={"files": removed})


def listen(home: Home, api_port: int) -> list[socket.socket]:
    """Return the API's sockets: loopback, and a Unix socket that only this user can open. Raises OSError."""
    inet = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    inet.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        inet.bind(("127.0.0.1", api_port))
    except OSError as taken:
        inet.close()
        raise OSError(taken.errno, f"port {api_port} is taken; set STOKER_API_PORT to another one") from taken
    path = home.run / "control-api.sock"
    path.unlink(missing_ok=True)
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unix.bind(str(path))
    path.chmod(0o600)
    for each in (inet, unix):
        each.listen(BACKLOG)
        each.setblocking(False)
    return [inet, unix]


async def run(home: Home, chosen: Settings, asked: asyncio.Event) -> None:
    """Run control until `asked`."""
    home.make()
    lock = take_lock(home)
    database = open_database(home)
    blobs = FolderBlobs(home.blobs, home.tmp)
    try:
        clean_up(home, database, blobs)
        database.write(lambda connection: leases.break_lease(connection, LEASE))
        api = f"http://127.0.0.1:{chosen.api_port}"
        where = keys.Addresses(api, str(home.run / "control-api.sock"), chosen.gateway_url, chosen.tls_cert)
        keys.bootstrap(database, home.credentials, where)
        await _serve(home, chosen, compose(NAME, home, chosen, database, blobs), asked)
    finally:
        database.close()
        os.close(lock)


async def _serve(home: Home, chosen: Settings, plane: ControlPlane, asked: asyncio.Event) -> None:
    config = uvicorn.Config(
        build(plane, stoker.__version__),
        http=BoundedHttp,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=BoundedHttp.connections_max,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(GRACE_S),
    )
    server = ApiServer(config)
    sockets = listen(home, chosen.api_port)
    await plane.history.start()
    background = _background(chosen, plane)
    acting = asyncio.create_task(plane.loop.run())
    serving = asyncio.create_task(server.serve(sockets))
    senders = partial(_otlp, chosen, plane)
    tuned = tuning.follow(plane.routes, plane.usual, plane.samples, senders)
    background.append(asyncio.create_task(tuned))
    others = _to_others(home, chosen, plane)
    linked = await serve(home.address(NAME), Answers(plane))
    stopping = asyncio.create_task(asked.wait())
    try:
        # None of them ends before it is told to; one that does takes the process with it, and the agent restarts it.
        await asyncio.wait((acting, serving, stopping, *background), return_when=asyncio.FIRST_COMPLETED)
    finally:
        plane.routes.release()
        plane.loop.stop()
        server.should_exit = True
        for task in (stopping, *background):
            task.cancel()
        await asyncio.gather(acting, serving)
        if others is not None:
            await others.close()
        await plane.post.close()
        await plane.history.close()
        await plane.feedback.close()
        await linked.close()
        (home.run / "control-api.sock").unlink(missing_ok=True)


def _background(chosen: Settings, plane: ControlPlane) -> list[asyncio.Task[None]]:
    """Start what runs as long as the process does."""
    kept_s = chosen.usage_records_days * 86_400.0
    return [
        asyncio.create_task(plane.observer.watch()),
        asyncio.create_task(plane.drift.run()),
        asyncio.create_task(plane.feedback.run()),
        asyncio.create_task(
            chores.run(plane.database, plane.models, plane.samples, kept_s, chosen.usage_records_max_bytes)
        ),
        asyncio.create_task(plane.collector.run()),
        asyncio.create_task(plane.watch.run()),
        asyncio.create_task(watch_lag(plane.metrics)),
        asyncio.create_task(plane.incidents.run()),
        asyncio.create_task(plane.remedies.run()),
        asyncio.create_task(plane.rollouts.run()),
        asyncio.create_task(plane.quiet.run()),
        asyncio.create_task(plane.hooks.run()),
        asyncio.create_task(gameday.watch(plane)),
        asyncio.create_task(plane.releases.run()),
        asyncio.create_task(plane.scaling.run()),
        asyncio.create_task(plane.starts.run()),
        asyncio.create_task(plane.shapes.run()),
        asyncio.create_task(plane.boundary.run()),
        asyncio.create_task(plane.ahead.run()),
        asyncio.create_task(plane.used.run()),
        asyncio.create_task(plane.sign_in.providers.run()),
        asyncio.create_task(plane.costs.watch.run()),
        asyncio.create_task(plane.audit.run()),
        asyncio.create_task(plane.secrets.run()),
        *([asyncio.create_task(plane.nodes.run())] if plane.nodes.is_open else []),
    ]


def _to_others(home: Home, chosen: Settings, plane: ControlPlane) -> "FarServer | None":
    """Listen to other nodes, where any may join. Raises OSError."""
    if not plane.nodes.is_open:
        return None
    from stoker.api.joining import Joining  # what one machine alone does not need
    from stoker.app.far_http import FarServer, nodes_judge

    mine = plane.nodes.identity
    server = FarServer(Joining(plane, FolderBlobs(home.blobs, home.tmp)).app(), mine, nodes_judge(mine), asks_all=True)
    host, _, port = chosen.nodes.rpartition(":")
    server.start(host.strip("[]"), int(port))
    plane.nodes.on_look = mine.look
    return server


def _otlp(chosen: Settings, plane: ControlPlane, endpoint: str, interval_s: float) -> "list[Sender]":
    from stoker.control.otlp import (
        Receiver,
        Sender,
        numbers,
        traces,
    )  # an HTTP client that control without a receiver does not need

    headers = Path(chosen.otlp_headers) if chosen.otlp_headers else None
    receiver = Receiver(endpoint, interval_s, headers)
    who = (stoker.__version__, socket.gethostname())
    sources = (numbers(plane.numbers.everything, *who), traces(plane.traces.take, *who))
    return [Sender(receiver, source, plane.metrics) for source in sources]


def main() -> int:
    """Run control with the arguments' settings; return its exit code."""
    parser = argparse.ArgumentParser(prog="stoker-control")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--api-port", type=int, dest="api_port")
    parser.add_argument("--gateways", "--node-gateways", type=int)
    chosen = settings.load(os.environ, **vars(parser.parse_args()))
    # Before numpy is there: on the small matrices of drift two threads take five times the processor of one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    home = Home(chosen.home)
    return process_main.run(NAME, chosen.log_level, lambda asked: run(home, chosen, asked))


if __name__ == "__main__":
    sys.exit(main())
