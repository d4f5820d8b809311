"""The replica process: one engine behind one socket, from the first byte of the model to the last answer.

    listen (state loading) → verify signature and digests → load → warm up → ready → draining → exit

It listens before anything else, so that whoever started it can see how far it is. A load that fails is written to
`spec.error_file` and ends the process with failure.EXIT_FAILED; a SIGTERM drains, then ends it with 0.
"""

import asyncio
import gc
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgspec

from stoker.core.certificates import REPLICA_DOOR
from stoker.protocol import direct, frames, handed, secure
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, Server, bind_tcp, refuse, serve
from stoker.runtime import failure, measure
from stoker.runtime.embed import EmbedWork
from stoker.runtime.engines import registry
from stoker.runtime.engines.port import (
    CallsOut,
    Describes,
    EmbedEngine,
    GenerateEngine,
    HasServer,
    PredictEngine,
    TakesKey,
)
from stoker.runtime.faults import Failing, Faults, failing
from stoker.runtime.generate import GenerateWork
from stoker.runtime.handed import Handed
from stoker.runtime.mapping import mapped
from stoker.runtime.numbers import Numbers
from stoker.runtime.predict import PredictWork
from stoker.runtime.stopwatch import Stopwatch
from stoker.runtime.verify import verify
from stoker.runtime.work import CountsShapes, HandsOver, Watched, Work, WorkStats
from stoker.telemetry.metrics import encode_snapshot
from stoker.telemetry.process import watch_lag
from stoker.types import faults, shapes
from stoker.types.drift import REFERENCE_BYTES_MAX, Answer
from stoker.types.engines import AUTO
from stoker.types.errors import Draining, EngineFailed, StokerError, TooLarge, Unavailable
from stoker.types.feedback import Handover
from stoker.types.models import FileEntry
from stoker.types.replica import ReplicaSpec, ReplicaState, ReplicaStats
from stoker.types.sandbox import Confinement
from stoker.types.signing import SignedVersion
from stoker.types.starts import IMPORTS, VERIFY

LOADING_RETRY_S: Final = 1.0
IDLE_POLL_S: Final = 0.02  # between two looks at whether a draining replica has finished

# (model, files, what to hold them to) → what is to be said of them; raises SignatureRefused.
Demand = Callable[[str, Sequence[FileEntry], SignedVersion], str]

_log = logging.getLogger(__name__)


class Given(NamedTuple):
    """What this process had before it was confined, and how it is."""

    bound: socket.socket
    confinement: Confinement
    others: socket.socket | None = None  # for gateways and control on another node


class Replica:
    """What the process answers (a link.Handler)."""

    def __init__(
        self,
        spec: ReplicaSpec,
        loop: asyncio.AbstractEventLoop,
        demand: Demand | None,
        watch: Stopwatch,
        confinement: Confinement | None = None,
    ) -> None:
        # Gateways hold the endpoint's own limit; a reference must fit besides.
        self.body_max_bytes = max(spec.max_body_bytes, 2 * REFERENCE_BYTES_MAX)
        self.state: ReplicaState = "loading"
        self.error = ""
        self.work: Work | None = None
        self._spec = spec
        self._loop = loop
        self._demand = demand
        self._confinement = confinement
        self._boot = secrets.token_hex(8)
        self._stage = ""
        self._fraction = 0.0
        self._server: HasServer | None = None  # what gateways may speak to past this process; has a key
        self.about = ""  # the engine, as it says itself
        self.numbers = Numbers(spec, watch)
        self._watch = watch
        self._has_begun = False  # somebody asked for an answer
        self.faults = Faults(spec.memory_bytes, loop)
        self._failing: Failing | None = None
        self._handed = Handed(spec.secrets)

    def hello(self) -> Hello:
        """See link.Handler."""
        return Hello(
            wire=frames.WIRE_VERSION,
            name=self._spec.replica,
            kind="replica",
            pid=os.getpid(),
            boot=self._boot,
            revision=self._spec.revision,
            state=self.state,
        )

    def stats(self) -> ReplicaStats:
        """See link.Handler."""
        work = self.work.stats() if self.work is not None else WorkStats()
        return ReplicaStats(
            state=self.state,
            queued=work.queued,
            running=work.running,
            slots=work.slots,
            finished=work.finished,
            tokens=work.tokens,
            kv_used_ratio=work.kv_used_ratio,
            batch_rows_mean=round(work.batch_rows_mean, 2),
            busy_s=round(work.busy_s, 3),
            stage=self._stage,
            fraction=self._fraction,
            error=self.error,
            engine=self.about,
            is_severed=self.faults.is_severed,
            phases=self._watch.taken,
            sandbox=self._confinement,
        )

    def request(self, exchange: Exchange) -> None:
        """See link.Handler."""
        most = self._spec.max_body_bytes
        if len(exchange.body) > most:  # the link lets more through, for a CALL that brings a reference
            raise TooLarge(f"a body of {len(exchange.body)} bytes; at most {most} are allowed")
        if self.state == "ready" and self.work is not None:
            if self._failing is not None:
                self._failing.check(exchange.head.request)
            if not self._has_begun:
                self._time_first(exchange)
            self.work.take(exchange)
        elif self.state == "draining":
            raise Draining("this replica is draining", retry_after_s=LOADING_RETRY_S)
        else:
            raise Unavailable(f"this replica is {self.state}", retry_after_s=LOADING_RETRY_S)

    def call(self, exchange: Exchange) -> None:
        """See link.Handler.

        `stats`: ReplicaStats as JSON. `metrics`: a Snapshot. `direct`: see protocol/direct.py. `drift`: see Watched,
        `predictions`: HandsOver; other work, or none yet, answers why not. `shapes`: see CountsShapes. `fault`: see
        runtime/faults.py. `secrets`: see protocol/handed.py.
        """
        match exchange.head.method:
            case "stats":
                exchange.end(EndHead(), msgspec.json.encode(self.stats()))
            case "metrics":
                exchange.end(EndHead("application/msgpack"), encode_snapshot(self.numbers.snapshot(self.stats())))
            case direct.METHOD if self._server is not None:
                exchange.end(EndHead(), direct.encode(self._server.direct))
            case handed.METHOD:
                self._handed.take(exchange)
            case faults.METHOD:
                self.faults.take(exchange)
            case shapes.METHOD if isinstance(self.work, CountsShapes):
                self.work.tell_shapes(exchange)
            case "drift" if isinstance(self.work, Watched):
                self.work.watch(exchange)
            case "drift":
                exchange.end(EndHead(), msgspec.msgpack.encode(Answer(problem="the model does not serve yet")))
            case "predictions" if isinstance(self.work, HandsOver):
                self.work.hand_over(exchange)
            case "predictions":
                exchange.end(
                    EndHead(), msgspec.msgpack.encode(Handover(problem="no predict model serves here, or not yet"))
                )
            case other:
                raise refuse(other)

    def drain(self) -> None:
        """See link.Handler."""
        if self.state in ("ready", "loading"):
            self.state = "draining"

    def progress(self, stage: str, fraction: float) -> None:
        """Take how far the load is; called from the loading thread."""
        self._stage, self._fraction = stage, fraction
        self._watch.enter(stage)

    def serve_with(self, work: Work) -> None:
        """The engine is there: take requests from now on, unless told to drain meanwhile."""
        self.work = work
        self._stage, self._fraction = "", 1.0
        self._watch.enter("")
        if self.state == "loading":
            self.state = "ready"

    def load(self) -> Work:
        """Verify, load and warm up; blocks. Raises StokerError with the engine's words."""
        spec = self._spec
        self.progress(VERIFY, 0.0)
        self._failing = failing(os.environ.get(faults.BAD_REVISION, ""))
        if self._demand is not None and (said := self._demand(spec.model, spec.manifest.files, spec.signed)):
            _log.warning("a version that no trusted key signed", extra={"replica": spec.replica, "reason": said})
        verify(Path(spec.model_dir), spec.manifest, self.progress)
        if spec.engine == AUTO:
            spec = measure.resolve(spec, self.progress)
            _log.info("engine chosen", extra={"replica": spec.replica, "engine": spec.engine})
        spec = self._handed.wait(spec, self.progress)
        self.progress(IMPORTS, 0.0)
        engine_load = registry.find(spec)
        self.progress("engine", 0.0)
        engine = engine_load(spec, self.progress)
        if isinstance(engine, Describes):
            self.about = engine.about
        if isinstance(engine, HasServer):
            self._server = engine
        if isinstance(engine, TakesKey):
            self._handed.engine = engine
        if isinstance(engine, CallsOut):
            self.faults.dependency = engine
        work: Work
        match spec.task:  # the registry gives the shape of engine that the task needs
            case "predict":
                work = PredictWork(spec, mapped(cast(PredictEngine, engine), spec.mapping), self._loop)
            case "embed":
                work = EmbedWork(spec, cast(EmbedEngine, engine), self._loop)
            case "chat":
                work = GenerateWork(spec, cast(GenerateEngine, engine), self._loop)
        self.progress("warm-up", 0.0)
        work.warm_up()
        return work

    def _time_first(self, exchange: Exchange) -> None:
        self._has_begun = True
        began_s = time.monotonic()

        def ended(head: EndHead) -> None:
            self._watch.answered(head.timings.first_token_s or time.monotonic() - began_s)

        exchange.on_end = ended


async def run(spec: ReplicaSpec, demand: Demand | None, watch: Stopwatch, given: Given | None = None) -> int:
    """Serve until told to stop; return the exit code. `demand` holds the version to its signatures before a load."""
    loop = asyncio.get_running_loop()
    replica = Replica(spec, loop, demand, watch, given.confinement if given is not None else None)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await serve(spec.address, replica, given.bound if given is not None else None)
    others = given.others if given is not None else None
    looking = await _open_to_others(spec, server, loop, others) if spec.listen else None
    replica.faults.impair = server.impair
    loading = _in_thread(replica.load, loop)
    stopping = loop.create_task(stop.wait())
    lag = loop.create_task(watch_lag(replica.numbers.registry))
    try:
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            return 0
        try:
            replica.serve_with(loading.result())
        except StokerError as problem:
            replica.state, replica.error = "failed", problem.message
            failure.report(spec, problem)
            return failure.EXIT_FAILED
        # What the load made lives until the end; the collector need not walk it at every full collection.
        gc.collect()
        gc.freeze()
        _log.info("ready", extra={"replica": spec.replica, "model": spec.model, "engine": replica.about})
        await stopping
        replica.drain()
        assert replica.work is not None
        # What gateways do past this process too: its end may be the end of the server.
        while not replica.work.is_idle or server.passed:  # noqa: ASYNC110 - once in a process' life
            await asyncio.sleep(IDLE_POLL_S)
        return 0
    finally:
        for task in (stopping, lag, looking):
            if task is not None:
                task.cancel()
        await server.close()
        if replica.work is not None:
            replica.work.close()


async def _open_to_others(
    spec: ReplicaSpec, server: Server, loop: asyncio.AbstractEventLoop, bound: socket.socket | None
) -> asyncio.Task[None]:
    """Listen to gateways and control on another node; return what keeps looking whom to trust. Raises OSError."""
    mine = secure.Identity(Path(spec.identity))
    await server.open_to(bound or bind_tcp(spec.listen), secure.Gate(mine, REPLICA_DOOR))
    return loop.create_task(secure.keep_looking(mine, server.doubt), name="look whom to trust")


def _in_thread(load: Any, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[Work]":
    """Run `load` in a daemon thread of its own: an engine that hangs in C must not hold up a stop."""
    done: asyncio.Future[Work] = loop.create_future()

    def settle(work: Work | None, problem: Exception | None) -> None:
        if done.cancelled():
            return
        if problem is not None:
            done.set_exception(problem)
        elif work is not None:
            done.set_result(work)

    def body() -> None:
        try:
            work = load()
        except StokerError as problem:
            loop.call_soon_threadsafe(settle, None, problem)
        except Exception as bug:  # the boundary to third-party loaders
            _log.exception("the load raised")
            failed = EngineFailed(f"{type(bug).__name__}: {bug}")
            loop.call_soon_threadsafe(settle, None, failed)
        else:
            loop.call_soon_threadsafe(settle, work, None)

    threading.Thread(target=body, name="load", daemon=True).start()
    return done
