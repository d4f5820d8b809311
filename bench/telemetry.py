"""What metering and tracing cost: an observation, all that is counted of one request, a trace, and gateways without.

The gateways are the same build before the same replica, which only echoes; in one every instrument does nothing and the
layer that counts is taken out (bench/baselines/unmetered.py), in one nothing is traced (bench/baselines/untraced.py).
Rounds alternate, and what is compared is the processor time of a request: the machine may be busy with something else.
"""

import contextlib
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, cast

import msgspec

from bench import rounds
from bench.build import need_sources
from bench.figures import Figure
from bench.gateway import BODY
from bench.load import Load
from bench.report import Section
from bench.rounds import say
from bench.servers import Contender
from stoker.core.tracing import Cap, Pace
from stoker.gateway.access import AccessLog
from stoker.gateway.exchange import Exchange
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.layers import meter
from stoker.gateway.meters import Meters
from stoker.gateway.tracer import Tracer
from stoker.protocol import tracecontext
from stoker.protocol.frames import EndHead
from stoker.telemetry import otlp_traces
from stoker.telemetry.metrics import Registry
from stoker.telemetry.prometheus import expose
from stoker.telemetry.views import VLLM
from stoker.types.ids import KeyId, ProjectName
from stoker.types.replica import Timings, Usage
from stoker.types.routes import KeyRoute
from stoker.types.traces import TraceAnswer, TraceQuestion
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, Rig

CONNECTIONS = 64
OBSERVATION_US = 0.3
REQUEST_US = 15.0
THROUGHPUT_RATIO = 0.97
TRACED_US = 3.0
METERED, UNMETERED, UNTRACED = "metered", "unmetered", "untraced"
MODULES = {
    METERED: "stoker.app.gateway_main",
    UNMETERED: "bench.baselines.unmetered",
    UNTRACED: "bench.baselines.untraced",
}


def measure(folder: Path, *, seconds: float, turns: int) -> Section:
    """Measure all of them."""
    need_sources("what metering costs")
    small = {**instruments(), **tracing()}
    with rigs.rig(folder / "rig", replicas=1) as rig, contextlib.ExitStack() as stack:
        contenders = [stack.enter_context(gateway(rig, folder / name, name)) for name in MODULES]
        samples = rounds.alternate(contenders, Load(BODY, CONNECTIONS, seconds), rounds=turns)
    # The least of all rounds: what a neighbour does to a processor's caches only ever adds.
    cost = {name: min(sample.cpu_us for sample in taken) for name, taken in samples.items()}
    pairs = zip(samples[METERED], samples[UNMETERED], strict=True)
    ratio = median(with_.rate / without.rate for with_, without in pairs)
    request_us = small.pop("all of one request")
    figures = [
        Figure("an observation", small["Histogram.observe"], "µs", OBSERVATION_US, "at most"),
        Figure("all that is counted of one request", request_us, "µs", REQUEST_US, "at most"),
        Figure(
            "gateway, processor time of a request more than unmetered",
            cost[METERED] - cost[UNMETERED],
            "µs",
            REQUEST_US,
            "at most",
            f"{cost[METERED]:.1f} against {cost[UNMETERED]:.1f} µs, c={CONNECTIONS}",
        ),
        Figure(
            "ids and the end of a request without a trace",
            small["a request without a trace"],
            "µs",
            TRACED_US,
            "at most",
        ),
        Figure(
            "gateway, processor time of a request more than untraced",
            cost[METERED] - cost[UNTRACED],
            "µs",
            TRACED_US,
            "at most",
            f"{cost[METERED]:.1f} against {cost[UNTRACED]:.1f} µs, at the default of 1 %",
        ),
        Figure("throughput with / without metering", ratio, "×", THROUGHPUT_RATIO, "at least"),
    ]
    rows = [["what", "µs"], *([name, f"{cost_us:.2f}"] for name, cost_us in small.items())]
    return Section("What metering costs", figures, {"Instruments": rows})


@contextlib.contextmanager
def gateway(rig: Rig, folder: Path, name: str) -> Iterator[Contender]:
    """Run one of the two gateways before the rig's replica."""
    own = Rig(type(rig.home)(folder))
    own.home.make()
    (own.home.gateway / "routes.json").write_bytes((rig.home.gateway / "routes.json").read_bytes())
    holder, port = rigs.held_port()
    argv = [sys.executable, "-m", MODULES[name], "--home", str(folder), "--port", str(port)]
    process = subprocess.Popen(argv)
    try:
        own.port = port
        rigs.until(own.accepts, f"the {name} gateway accepts")
        url = f"http://127.0.0.1:{port}/v2/models/digits/infer"
        yield Contender(name, url, (process.pid,), (("Authorization", f"Bearer {KEY}"),))
    finally:
        process.kill()
        process.wait()
        holder.close()


def instruments() -> dict[str, float]:
    """Return microseconds of processor time, the best of many."""
    registry = Registry("bench")
    meters = Meters(registry, "default", "digits")
    exchange, lane = one_request(), cast(Any, type("Lane", (), {}))()
    lane.meters, lane.route = meters, type("Route", (), {"sheds": False})()
    replica = meters.replica("digits-1", "r0")
    histogram = registry.histogram("stoker_loop_seconds")
    counter = registry.counter("stoker_loop_errors_total")
    found = {
        "Counter.add": _best(counter.add),
        "Histogram.observe": _best(lambda: histogram.observe(0.00123)),
        "a request's tenant": _best(lambda: meters.tenants.of("tenant").ended(200, 1, ())),
        "a try at its replica": _best(lambda: replica.ended(200, 0.00123)),
    }
    now_s = time.monotonic()

    def whole() -> None:
        replica.ended(200, 0.00123)
        meter.observe(exchange, lane, 200, now_s)

    found["all of one request"] = _best(whole)
    snapshot = registry.snapshot()
    series = sum(len(metric.series) for metric in snapshot.metrics)
    found["a series in /metrics"] = _best(lambda: expose(snapshot, VLLM), number=20) / series
    for name, cost in found.items():
        say(f"  {name:<40} {cost:6.2f} µs")
    return found


def tracing() -> dict[str, float]:
    """Return microseconds of processor time, the best of many: of a request without a trace, and of a trace."""
    tracer = Tracer(Registry("bench"), 0.0)
    exchange, lane = one_request(), cast(Any, type("Lane", (), {}))()
    lane.pace, exchange.lane, exchange.status = Pace(), lane, 200
    lane.route = type("Route", (), {"endpoint": "digits", "project": "default"})()
    exchange.relay.replica = type("Replica", (), {"id": "r0", "revision": "digits-1"})()  # type: ignore[union-attr]
    exchange.relay.problem = None  # type: ignore[union-attr]
    exchange.sends = 1
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    access = AccessLog(Path(), Registry("bench"))

    def without() -> None:
        exchange.request.started_s = time.monotonic()
        tracer.begin(exchange, None)
        tracecontext.write(exchange.trace, exchange.span + 1, is_sampled=exchange.is_sampled)
        tracer.end(exchange)

    def kept() -> None:
        exchange.trail = None
        tracer._consider(exchange, exchange.sent_s + 0.01, is_slow=False)

    found = {
        "ids of a trace": _best(lambda: tracer.begin(exchange, None)),
        "a caller's traceparent": _best(lambda: tracer.begin(exchange, parent)),
        "a request without a trace": _best(without),
    }
    tracer._caps["head"] = Cap(1e12, 0.0)
    exchange.is_sampled, exchange.caller = True, None
    found["a trace that is kept"] = _best(kept)
    held = msgspec.msgpack.decode(tracer.ring.answer(TraceQuestion(limit=1)), type=TraceAnswer).items
    found["a trace as spans for OTLP (in control)"] = _best(lambda: otlp_traces.encode(held, "1", "h"), number=200)
    found["a line for the access log (in the gateway)"] = _best(
        lambda: (access.add(exchange, exchange.sent_s), access._waiting.clear())
    )
    for name, cost in found.items():
        say(f"  {name:<44} {cost:6.2f} µs")
    return found


def one_request() -> Exchange:
    """Return an exchange as it is when it has been answered."""
    now_s = time.monotonic()
    exchange = Exchange(cast(Any, None), HttpRequest(b"POST", b"/", {}, now_s), cast(Any, _Route()), "digits", "")
    exchange.id, exchange.revision = "req-bench-1", "digits-1"
    exchange.key = KeyRoute("", KeyId("bench"), ProjectName("default"))
    exchange.admitted_s = exchange.routed_s = exchange.sent_s = now_s + 2e-5
    timings = Timings(queue_s=1e-4, batch_wait_s=1e-5, compute_s=2e-4, batch_rows=8)
    relay = cast(Any, _Relay())
    relay.end = EndHead(usage=Usage(rows=1), timings=timings)
    exchange.relay, exchange.usage = relay, relay.end.usage
    return exchange


class _Route:
    method = "infer"


class _Relay:
    end: EndHead


def _best(call: Callable[[], object], number: int = 2000) -> float:
    """Return the microseconds of one call, without what the loop around it takes."""
    timer = timeit.Timer(call, timer=time.process_time)
    empty = timeit.Timer(lambda: None, timer=time.process_time)
    took_s = min(timer.repeat(repeat=60, number=number)) - min(empty.repeat(repeat=20, number=number))
    return max(took_s, 0.0) / number * 1e6
