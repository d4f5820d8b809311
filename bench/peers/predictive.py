"""stoker beside the servers of predictive models: the same ONNX model, one row a request, each at its best settings.

The peers are measured one after another, each in alternating rounds with stoker and then stopped: an idle peer takes
processor time too (Ray's several hundredths of a core), which would be a round's noise.
"""

import contextlib
import json
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.figures import Sample
from bench.load import Load, warm_up
from bench.peers import install
from bench.peers.compare import (
    ALONE,
    BUSY,
    BY_HAND,
    FRAMEWORK,
    OWN,
    STOKER,
    TWO_WORKERS,
    Found,
    Kind,
    Row,
    figures,
    table,
)
from bench.peers.install import NotHere, last_words, place
from bench.peers.process import Running, Start, ask, free_port, rss_mb, wait_for
from bench.predict import PATH, body_for
from bench.report import Section
from bench.rounds import Effort, alternate, say
from bench.servers import Contender, Server
from bench.up import Platform

ROUNDS_MAX, SECONDS_MAX, WARM_S = 3, 3.0, 2.0
ONE_GATEWAY = "stoker, 1 gateway"
MODEL_VARIABLE = "BENCH_MODEL"  # bench/peers/digits.py reads it
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Peer:
    """A row: its name, its settings in words, what is installed, and how it is started in its folder on a port."""

    name: str
    settings: str
    package: install.Package
    start: Callable[[Path, int], Start]


def _module(folder: Path, module: str, *arguments: object) -> list[str]:
    return [str(folder / "bin" / "python"), "-m", f"bench.peers.{module}", *map(str, arguments)]


def _litserve(folder: Path, port: int) -> Start:
    return Start(_module(folder, "serve_litserve", port, 2, 1), port, "/predict", ONE_THREAD)


def _bentoml(workers: int) -> Callable[[Path, int], Start]:
    def start(folder: Path, port: int) -> Start:
        command = [str(folder / "bin" / "bentoml"), "serve", "bench.peers.serve_bentoml:DigitsService"]
        env = {**ONE_THREAD, "BENCH_WORKERS": str(workers), "BENTOML_DO_NOT_TRACK": "True"}
        env["BENTOML_HOME"] = str(folder / "home")
        return Start([*command, "--host", "127.0.0.1", "--port", str(port)], port, "/infer", env)

    return start


def _mlserver(batch: int) -> Callable[[Path, int], Start]:
    def start(folder: Path, port: int) -> Start:
        place = folder / f"settings-{batch}"
        place.mkdir(exist_ok=True)
        server = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_endpoint": None}
        server |= {"parallel_workers": 0, "debug": False, "access_log": False}  # no process between it and the model
        (place / "settings.json").write_text(json.dumps(server))
        model = {"name": "digits", "implementation": "bench.peers.serve_mlserver.Runtime"}
        batching = {"max_batch_size": batch, "max_batch_time": 0.001} if batch else {}
        (place / "model-settings.json").write_text(json.dumps({**model, **batching}))
        return Start([str(folder / "bin" / "mlserver"), "start", str(place)], port, PATH, ONE_THREAD)

    return start


def _kserve(workers: int) -> Callable[[Path, int], Start]:
    def start(folder: Path, port: int) -> Start:
        given = (
            "--http_port",
            port,
            "--workers",
            workers,
            "--enable_grpc",
            "false",
            "--enable_latency_logging",
            "false",
        )
        return Start(_module(folder, "serve_kserve", *given), port, PATH, ONE_THREAD)

    return start


def _pytriton(instances: int) -> Callable[[Path, int], Start]:
    def start(folder: Path, port: int) -> Start:
        # Triton's embedded Python must be the one whose library it reads: another of the same name has other modules.
        env = {**ONE_THREAD, "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}
        env["PYTRITON_HOME"] = str(folder / "home")
        return Start(_module(folder, "serve_pytriton", port, instances), port, PATH, env)

    return start


def _ray(folder: Path, port: int) -> Start:
    env = {**ONE_THREAD, "RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    return Start(_module(folder, "serve_ray", port, 2), port, "/", {**env, "RAY_USAGE_STATS_ENABLED": "0"})


PEERS = (
    Peer("LitServe", "2 workers, fast_queue, no access log", install.LITSERVE, _litserve),
    Peer("BentoML", "1 worker, async API, no access log", install.BENTOML, _bentoml(1)),
    Peer("BentoML, 2 workers", "async API, no access log", install.BENTOML, _bentoml(2)),
    Peer("MLServer", "in process (parallel_workers 0), no metrics", install.MLSERVER, _mlserver(0)),
    Peer("MLServer, batched", "as above, batches of 64 in 1 ms", install.MLSERVER, _mlserver(64)),
    Peer("KServe SDK", "1 worker, no gRPC, no latency log", install.KSERVE, _kserve(1)),
    Peer("KServe SDK, 2 workers", "no gRPC, no latency log", install.KSERVE, _kserve(2)),
    Peer("PyTriton", "1 instance, dynamic batches of 64, no gRPC, no metrics", install.PYTRITON, _pytriton(1)),
    Peer("PyTriton, 2 instances", "as above", install.PYTRITON, _pytriton(2)),
    Peer("Ray Serve", "HAProxy, throughput flags, 2 replicas", install.RAY, _ray),
)


def measure(
    open_platform: Callable[[int | None], AbstractContextManager[Platform]], model: Path, effort: Effort
) -> Section:
    """Return the tables and figures.

    open_platform: starts one that serves `model`, with so many gateways; None: as many as where nobody says.
    """
    effort = Effort(min(effort.rounds, ROUNDS_MAX), min(effort.seconds, SECONDS_MAX))
    body = body_for(model)
    found = Found()
    with tempfile.TemporaryDirectory() as folder, open_platform(None) as platform:
        platform.wait_for(PATH, body)

        def ours() -> Contender:
            return platform.contender(PATH, STOKER)

        for workers in (1, 2):
            name = "FastAPI + ORT" if workers == 1 else TWO_WORKERS
            _beside(found, name, BY_HAND, _by_hand(name, model, body, workers), ours, body, effort)
        for peer in PEERS:
            _beside(found, peer.name, FRAMEWORK, _peer(peer, model, body, Path(folder)), ours, body, effort)
        _beside(found, ONE_GATEWAY, OWN, _alone(open_platform, body), ours, body, effort)
        found.own_rss_mb = rss_mb(list(platform.pids().values()))
    tables = {f"c = {c}": table(found, c) for c in (BUSY, ALONE)}
    return Section("digits beside other servers", figures(found), {**tables, "peers and their settings": settings()})


def settings() -> list[list[str]]:
    """Return which version of each peer was measured, and how it was set."""
    rows = [["", "version", "settings"]]
    rows.extend([peer.name, f"{peer.package.name} {peer.package.version}", peer.settings] for peer in PEERS)
    return rows


def _beside(
    found: Found,
    name: str,
    kind: Kind,
    open_peer: AbstractContextManager[Callable[[], Contender]],
    ours: Callable[[], Contender],
    body: bytes,
    effort: Effort,
) -> None:
    """Measure one peer in alternating rounds with stoker and note it in `found`, or why it is not there."""
    try:
        with open_peer as theirs:
            # Its processes are counted after load: some servers start their workers with the first requests.
            warm_up(theirs(), Load(body, BUSY, WARM_S), WARM_S)
            own_samples: dict[int, list[Sample]] = {}
            samples: dict[int, list[Sample]] = {}
            for connections in (BUSY, ALONE):
                taken = alternate([ours(), theirs()], Load(body, connections, effort.seconds), rounds=effort.rounds)
                own_samples[connections], samples[connections] = taken[STOKER], taken[name]
            found.rows.append(Row(name, kind, samples, own_samples, rss_mb(theirs().pids)))
    except (NotHere, OSError, RuntimeError) as why:
        found.absent[name] = last_words(str(why))
        say(f"  {name}: {found.absent[name]}")


@contextlib.contextmanager
def _by_hand(name: str, model: Path, body: bytes, workers: int) -> Iterator[Callable[[], Contender]]:
    several = (str(workers),) if workers > 1 else ()
    with Server(name, "bench.baselines.fastapi_onnx", str(model), *several) as server:
        wait_for(server.contender(PATH).url, (), body)
        yield lambda: server.contender(PATH)


@contextlib.contextmanager
def _peer(peer: Peer, model: Path, body: bytes, folder: Path) -> Iterator[Callable[[], Contender]]:
    start = peer.start(place(peer.package), free_port())
    start = replace(start, env={**start.env, MODEL_VARIABLE: str(model)})
    with Running(peer.name, start, folder, body) as running:
        check(ask(start.url, start.headers, body))
        yield running.contender


@contextlib.contextmanager
def _alone(
    open_platform: Callable[[int | None], AbstractContextManager[Platform]], body: bytes
) -> Iterator[Callable[[], Contender]]:
    with open_platform(1) as platform:
        platform.wait_for(PATH, body)
        yield lambda: platform.contender(PATH, ONE_GATEWAY)


def check(answer: bytes) -> None:
    """Raise NotHere unless `answer` holds what the model says of the digit: a server of errors is fast."""
    outputs = {output["name"]: output["data"] for output in json.loads(answer).get("outputs", [])}
    if outputs.get("label") != [0]:
        raise NotHere(f"answers wrongly: {answer[:100]!r}")
