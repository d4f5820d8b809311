"""stoker as a gateway of language models beside other gateways: the same fast upstream behind each of them.

stoker checks a key, holds it to limits and meters every request; the others relay. Each is measured in rounds that
alternate with stoker and with the upstream itself, and then stopped.
"""

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import percentile
from bench.load import Load, own, warm_up
from bench.load import run as load_run
from bench.peers import install
from bench.peers.install import NotHere, last_words, place
from bench.peers.measured import DIRECT, STOKER, Found, Kind, Measured, figures, median_of, table
from bench.peers.process import Running, Start, ask, free_port, rss_mb
from bench.report import Section
from bench.rounds import Effort, say
from bench.servers import Contender, Server
from bench.up import STOKER as STOKER_COMMAND
from bench.up import Platform

PATH = "/v1/chat/completions"
CONNECTIONS = 64
ROUNDS_MAX, SECONDS_MAX = 2, 3.0
PACED_STREAMS, PACED_EVENTS, GAP_MS = 64, 50, 10
MANY, MANY_EVENTS = 500, 100
TIMEOUT_S = 30.0
MANIFEST = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: fake}
spec:
  model: fake@1
  engine: openai
  options: {slots: 1024}
  limits: {concurrency: 1024, queue_max: 1024}
  resources: {cpu: 0.1, memory: 512Mi}
"""
NGINX = """
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream fake {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    keepalive_requests 100000000;
    location / {{
      proxy_pass http://fake; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Peer:
    """A row: its settings in words, what is installed (None: a Debian package), and how it starts.

    `start` takes the peer's folder, one for its files of this run, its port and the upstream's.
    """

    name: str
    kind: Kind
    settings: str
    package: install.Package | None
    start: Callable[[Path, Path, int, int], Start]


def _nginx(_folder: Path, scratch: Path, port: int, upstream: int) -> Start:
    found = shutil.which("nginx")
    if found is None:
        raise NotHere("not installed: apt-get install nginx-light")
    settings = scratch / "nginx.conf"
    settings.write_text(NGINX.format(folder=scratch, port=port, upstream=upstream))
    return Start([found, "-p", str(scratch), "-c", str(settings), "-g", "daemon off;"], port, PATH)


def _router(module: str) -> Callable[[Path, Path, int, int], Start]:
    def start(folder: Path, _scratch: Path, port: int, upstream: int) -> Start:
        command = [str(folder / "bin" / "python"), "-m", module, "--worker-urls", f"http://127.0.0.1:{upstream}"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin", "--log-level", "error"]
        command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
        return Start([*command, "--max-concurrent-requests", "4096"], port, PATH)

    return start


def _litellm(workers: int) -> Callable[[Path, Path, int, int], Start]:
    def start(folder: Path, scratch: Path, port: int, upstream: int) -> Start:
        at = {"model": "openai/fake", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
        settings = scratch / "litellm.json"  # JSON is YAML too
        general = {
            "dangerously_permit_weak_or_unset_master_key": True
        }  # no check of keys: the less it does, the faster
        models = [{"model_name": "fake", "litellm_params": at}]
        settings.write_text(json.dumps({"model_list": models, "general_settings": general}))
        command = [str(folder / "bin" / "litellm"), "--config", str(settings), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--num_workers", str(workers)]
        # The price list from its own package, not from the internet.
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
        return Start([*command, "--telemetry", "False"], port, PATH, env)

    return start


def _portkey(folder: Path, _scratch: Path, port: int, upstream: int) -> Start:
    script = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    headers = (
        ("x-portkey-provider", "openai"),
        ("x-portkey-custom-host", f"http://127.0.0.1:{upstream}/v1"),
        ("Authorization", "Bearer none"),
    )
    return Start(["node", str(script), f"--port={port}", "--headless"], port, PATH, {"NODE_ENV": "production"}, headers)


PEERS = (
    Peer("nginx", "proxy", "2 workers, upstream keep-alive, proxy_buffering off", None, _nginx),
    Peer("vllm-router", "router", "round robin", install.VLLM_ROUTER, _router("vllm_router.launch_router")),
    Peer("sglang-router", "router", "round robin", install.SGLANG_ROUTER, _router("sglang_router.launch_router")),
    Peer("smg", "router", "round robin", install.SMG, _router("smg.launch_router")),
    Peer("LiteLLM", "litellm", "1 worker, no keys, no database, no callbacks", install.LITELLM, _litellm(1)),
    Peer("Portkey", "other", "as it comes", install.PORTKEY, _portkey),
    Peer("LiteLLM, 2 workers", "litellm", "no keys, no database, no callbacks", install.LITELLM, _litellm(2)),
)


def body(events: int = 1, gap_ms: int = 0, *, stream: bool = False) -> bytes:
    """Return a request for `events` events, `gap_ms` apart."""
    content = f"every {gap_ms} ms" if gap_ms else "hi"
    asked = {"model": "fake", "max_tokens": events, "messages": [{"role": "user", "content": content}]}
    return json.dumps({**asked, "stream": True} if stream else asked).encode()


def measure(effort: Effort) -> Section:
    """Return the tables and figures."""
    effort = Effort(min(effort.rounds, ROUNDS_MAX), min(effort.seconds, SECONDS_MAX))
    found = Found()
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(DIRECT, "bench.peers.upstream") as upstream,
        serving(upstream.port) as (platform, ours),
    ):
        rounds = Rounds(found, upstream.contender(PATH), ours, effort)
        rounds.beside("bare relay", "relay", _relay(upstream.port))
        for number, peer in enumerate(PEERS):
            scratch = Path(folder) / str(number)
            scratch.mkdir()
            rounds.beside(peer.name, peer.kind, _peer(peer, scratch, upstream.port))
        found.processes_mb = {name: rss_mb([pid]) for name, pid in platform.pids().items()}
    return Section(
        "gateways of language models",
        figures(found),
        {"side by side": table(found), "peers and their settings": settings()},
    )


def settings() -> list[list[str]]:
    """Return which version of each peer was measured, and how it was set."""
    rows = [["", "version", "settings"]]
    for peer in PEERS:
        version = f"{peer.package.name} {peer.package.version}" if peer.package else "Debian's"
        rows.append([peer.name, version, peer.settings])
    return rows


@dataclass(frozen=True)
class Rounds:
    """What all peers are measured beside."""

    found: Found
    direct: Contender
    ours: Callable[[], Contender]
    effort: Effort

    def beside(self, name: str, kind: Kind, open_peer: AbstractContextManager[Callable[[], Contender]]) -> None:
        """Measure one peer in rounds that alternate with stoker and the upstream, or note why it is not there."""
        try:
            with open_peer as theirs:
                for contender in (self.direct, self.ours(), theirs()):
                    warm_up(contender, Load(body(), CONNECTIONS, 1.0), 1.0)
                    _streams(contender, PACED_STREAMS, PACED_EVENTS, 1, spread_s=0.0)
                taken: dict[str, list[Measured]] = {DIRECT: [], STOKER: [], name: []}
                for _ in range(self.effort.rounds):
                    for contender in (self.direct, self.ours(), theirs()):
                        taken[contender.name].append(_one(contender, self.effort.seconds))
            self.found.add(name, kind, taken)
            for who, samples in taken.items():
                say(f"  {who:<20} {median_of(samples)}")
        except (NotHere, OSError, RuntimeError) as why:
            self.found.absent[name] = last_words(str(why))
            say(f"  {name}: {self.found.absent[name]}")


def _one(contender: Contender, seconds: float) -> Measured:
    """Return one round: tiny answers, streams that begin one after another, many streams at once."""
    tiny = load_run(contender, Load(body(), CONNECTIONS, seconds))
    paced = _streams(contender, PACED_STREAMS, PACED_EVENTS, 4, spread_s=PACED_EVENTS * GAP_MS / 1000)
    first = [stream["ttft_s"] for stream in paced["streams"] if stream["ok"]]
    with Peak(contender.pids) as peak:
        many = _streams(contender, MANY, MANY_EVENTS, 1, spread_s=0.0)
    events = sum(stream["events"] for stream in many["streams"])
    failed = sum(not stream["ok"] for stream in [*paced["streams"], *many["streams"]])
    return Measured(
        tiny,
        ttft_p50_s=percentile(first, 0.5),
        ttft_p99_s=percentile(first, 0.99),
        chunks_a_second=events / many["seconds"],
        gap_p99_s=many["gap_p99_s"],
        rss_mb=peak.mb,
        failed=failed,
    )


def _streams(contender: Contender, connections: int, events: int, each: int, *, spread_s: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bodies"
        path.write_bytes(b"\n".join([body(events, GAP_MS, stream=True)] * connections * each))
        headers = [*contender.headers, ("Content-Type", "application/json")]
        plan = {"url": contender.url, "headers": headers, "bodies": str(path), "connections": connections}
        return own("bench.streams", {**plan, "timeout_s": TIMEOUT_S, "spread_s": spread_s}, seconds=TIMEOUT_S * each)


class Peak:
    """The most resident memory that processes had together, looked at ten times a second. A context manager."""

    def __init__(self, pids: tuple[int, ...]) -> None:
        self._pids = pids
        self._is_over = threading.Event()
        self._watching = threading.Thread(target=self._watch)
        self.mb = 0.0

    def __enter__(self) -> "Peak":
        self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._watching.join()

    def _watch(self) -> None:
        while True:
            self.mb = max(self.mb, rss_mb(self._pids))
            if self._is_over.wait(0.1):
                return


@contextmanager
def serving(upstream_port: int, command: Path = STOKER_COMMAND) -> Iterator[tuple[Platform, Callable[[], Contender]]]:
    """Run stoker before the upstream, with a key that is held to limits."""
    with Platform(command=command) as platform:
        platform.up()
        url = f"url=http://127.0.0.1:{upstream_port}/v1"
        platform.cli("push", "fake", "--format", "remote", "--task", "chat", "--option", url)
        platform.cli("apply", "-f", "-", stdin=MANIFEST)
        key = platform.cli("keys", "create", "bench", "--rps", "100000", "--tpm", "1000000000", "-q").strip()
        platform.wait_for(PATH, body())
        headers = (("Authorization", f"Bearer {key}"),)

        def contender() -> Contender:
            return Contender(STOKER, platform.url + PATH, tuple(platform.pids().values()), headers)

        yield platform, contender


@contextmanager
def _relay(upstream_port: int) -> Iterator[Callable[[], Contender]]:
    with Server("bare relay", "bench.baselines.relay", str(upstream_port)) as server:
        yield lambda: server.contender(PATH)


@contextmanager
def _peer(peer: Peer, scratch: Path, upstream_port: int) -> Iterator[Callable[[], Contender]]:
    folder = place(peer.package) if peer.package else scratch
    start = peer.start(folder, scratch, free_port(), upstream_port)
    with Running(peer.name, start, scratch, body()) as running:
        for asked in (body(), body(2, stream=True)):
            said = ask(start.url, start.headers, asked)
            if b"xxx" not in said and b"hello" not in said:
                raise NotHere(f"answers wrongly: {said[:100]!r}")
        yield running.contender
