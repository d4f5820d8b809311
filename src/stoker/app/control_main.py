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
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

import stoker
from stoker.api.app import build
from stoker.app import process_main, settings
from stoker.app.bounded_http import BoundedHttp
from stoker.app.home import Home
from stoker.app.settings import Settings
from stoker.blob.folder import FolderBlobs
from stoker.control import chores, gameday, keys, replicas
from stoker.control.apply import Effects
from stoker.control.around import Around
from stoker.control.drift.files import Learning
from stoker.control.drift.watch import DriftWatch
from stoker.control.feedback import FeedbackWatch
from stoker.control.fleet import Fleet
from stoker.control.gauges import Gauges
from stoker.control.hooks import HookPost
from stoker.control.loop import LEASE, Loop
from stoker.control.models import ModelRegistry
from stoker.control.numbers import Numbers
from stoker.control.observe import Observer
from stoker.control.plane import ControlPlane
from stoker.control.policies import Admission
from stoker.control.releases import ask, gates, policies
from stoker.control.releases.keys import Signer
from stoker.control.releases.runner import Releases
from stoker.control.remedies import Remedies
from stoker.control.rollouts import RolloutWatch
from stoker.control.routes import RoutePublisher
from stoker.control.stats import StatsReader
from stoker.control.traces import Traces
from stoker.core.drift import Apart
from stoker.core.shares import Teller
from stoker.core.watched import Seen
from stoker.observe.feedback.quality import Estimated
from stoker.observe.feedback.store import FeedbackStore
from stoker.observe.history.collect import Collector, Own, Remote
from stoker.observe.history.history import History
from stoker.observe.incidents.evidence import Recorded
from stoker.observe.incidents.incidents import Incidents
from stoker.observe.notify.post import Post
from stoker.observe.objectives.watch import Watch
from stoker.observe.samples import SampleStore
from stoker.placement.local import LocalDriver
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, refuse, serve
from stoker.registry import layout
from stoker.store import leases, revisions, schema, signing
from stoker.store.engine import Database, open_engine, schema_version, sqlite_url
from stoker.telemetry.metrics import Registry, Snapshot, encode_snapshot
from stoker.telemetry.process import watch_lag
from stoker.telemetry.sealing import KeyRing
from stoker.types.drift import Answer, Drawn, Reference
from stoker.types.errors import Conflict
from stoker.types.replica import ReplicaStats
from stoker.types.signing import SignedVersion

if TYPE_CHECKING:
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
    if schema_version(engine) != schema.VERSION:
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


def compose(home: Home, chosen: Settings, database: Database, blobs: FolderBlobs) -> ControlPlane:
    """Return the control plane of concrete parts."""
    driver = LocalDriver(str(home.run / "agent.sock"))
    metrics = Registry(NAME)
    routes = RoutePublisher()
    observer = Observer(driver)
    effects = Effects(driver, observer, blobs, home, time.time, partial(_signed, database))
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    loop = Loop(database, observer, effects, routes, home, holder, metrics)
    history = History(home.metrics, bytes_max=chosen.metrics_max_bytes)
    gauges = Gauges(metrics, observer, routes, history)
    fleet = Fleet(metrics)
    gateways = [Remote(name, home.address(name)) for name in (f"gateway-{n}" for n in range(chosen.gateways))]
    around = Around(driver, observer, metrics, fleet.loaded)
    collector = Collector(history, (Own(metrics, gauges.refresh), *gateways), around.due)
    post = Post(metrics, f"http://127.0.0.1:{chosen.api_port}")
    counted = partial(_counted, collector, chosen.otlp_interval_s)
    numbers = Numbers(metrics, driver, observer, fleet, gauges.refresh, counted)
    observer.on_change = partial(_changed, numbers, loop)
    watch = Watch(database, history, post, lambda: loop.lease, metrics, collector.sampled)
    loop.asked = watch.asked
    evidence = Recorded(database, history)
    incidents = Incidents(database, evidence, evidence.quarantined, lambda: loop.lease, watch.alerted)
    remedies = Remedies(database, incidents, lambda: observer.statuses, metrics, loop.wake)
    loop.acts = remedies.in_force
    admission = Admission(database, blobs, observer, metrics)
    judges = gates.Gates(blobs, ask.Fleet(lambda: observer.statuses, home.address), policies.Asked(admission))
    return ControlPlane(
        database=database,
        driver=driver,
        observer=observer,
        models=ModelRegistry(database, blobs, home.models, home.tmp, admission),
        admission=admission,
        routes=routes,
        loop=loop,
        history=history,
        collector=collector,
        stats=StatsReader(database, observer, routes, collector, chosen.gateways),
        gauges=gauges,
        watch=watch,
        post=post,
        incidents=incidents,
        remedies=remedies,
        rollouts=_rollouts(RolloutWatch(home.address, chosen.gateways, routes, history, loop.wake), loop),
        shares=Teller(chosen.gateways, time.monotonic()),
        metrics=metrics,
        samples=SampleStore(home.samples, KeyRing(home.samples, chosen.samples_key), chosen.samples_max_bytes),
        numbers=numbers,
        drift=DriftWatch(database, blobs, home.drift, home.address, metrics, _learn, _compare),
        traces=Traces(home.address, chosen.gateways, metrics),
        feedback=_feedback(home, database, loop, metrics),
        hooks=HookPost(database, home.root / "hooks", lambda: loop.lease, metrics),
        releases=_releases(home, database, judges, loop, metrics),
        process=NAME,
    )


def _changed(numbers: Numbers, loop: Loop) -> None:
    numbers.look()
    loop.wake()


def _feedback(home: Home, database: Database, loop: Loop, metrics: Registry) -> FeedbackWatch:
    feedback = FeedbackWatch(database, FeedbackStore(home.feedback), home.address, metrics, _expect)
    feedback.judged = loop.wake
    return feedback


def _rollouts(watch: RolloutWatch, loop: Loop) -> RolloutWatch:
    loop.readings, loop.rates = watch.readings, watch.rates
    return watch


def _releases(home: Home, database: Database, judges: gates.Gates, loop: Loop, metrics: Registry) -> Releases:
    releases = Releases(database, judges, Signer(home.platform_key), lambda: loop.lease, metrics, loop.wake)
    loop.decided = releases.wake
    return releases


async def _counted(collector: Collector, age_max_s: float) -> list[Snapshot]:
    """Return what the gateways counted, as the history was told it last."""
    sample = await collector.newest(age_max_s)
    return [answer.snapshot for name, answer in sample.answers.items() if name != NAME]


async def _signed(database: Database, project: str, model: str, number: int) -> SignedVersion:
    return await database.reading(lambda connection: signing.signed(connection, project, model, number))


def _learn(learning: Learning, answers: Mapping[str, Answer], seen: Seen, now_s: float) -> Reference | str:
    from stoker.control.drift.learning import learned  # numpy: 0.1 s that most starts need not pay

    return learned(learning, answers, seen, now_s)


def _compare(reference: Reference, drawn: Sequence[Drawn]) -> tuple[Apart, ...]:
    from stoker.observe.drift.space import compared

    return compared(reference, drawn)


def _expect(known: Sequence[tuple[float, bool]], waiting: Sequence[float]) -> Estimated:
    from stoker.observe.feedback.expected import expected  # as with drift: numpy, which most starts need not pay

    return expected(known, waiting)


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
        await _serve(home, chosen, compose(home, chosen, database, blobs), asked)
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
    background = [
        asyncio.create_task(plane.observer.watch()),
        asyncio.create_task(plane.drift.run()),
        asyncio.create_task(plane.feedback.run()),
        asyncio.create_task(chores.run(plane.database, plane.models, plane.samples)),
        asyncio.create_task(plane.collector.run()),
        asyncio.create_task(plane.watch.run()),
        asyncio.create_task(watch_lag(plane.metrics)),
        asyncio.create_task(plane.incidents.run()),
        asyncio.create_task(plane.remedies.run()),
        asyncio.create_task(plane.rollouts.run()),
        asyncio.create_task(plane.hooks.run()),
        asyncio.create_task(gameday.watch(plane)),
        asyncio.create_task(plane.releases.run()),
    ]
    acting = asyncio.create_task(plane.loop.run())
    serving = asyncio.create_task(server.serve(sockets))
    if chosen.otlp_endpoint:
        background += [asyncio.create_task(sender.run()) for sender in _otlp(chosen, plane)]
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
        await plane.post.close()
        await plane.history.close()
        await plane.feedback.close()
        await linked.close()
        (home.run / "control-api.sock").unlink(missing_ok=True)


def _otlp(chosen: Settings, plane: ControlPlane) -> "list[Sender]":
    from stoker.control.otlp import (
        Receiver,
        Sender,
        numbers,
        traces,
    )  # an HTTP client that control without a receiver does not need

    headers = Path(chosen.otlp_headers) if chosen.otlp_headers else None
    receiver = Receiver(chosen.otlp_endpoint, chosen.otlp_interval_s, headers)
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
