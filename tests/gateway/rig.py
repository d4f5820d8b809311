"""A real gateway process in front of real replica processes, and a raw HTTP client that hides nothing."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stoker.app.home import Home
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect as link_to
from stoker.telemetry.metrics import Snapshot, decode_snapshot
from stoker.types.errors import ReplicaLost
from stoker.types.scaling import LaneLoad
from stoker.types.traces import Trace, TraceAnswer, TraceQuestion

KEY = "stk_admin000_0123456789012345678901234567890123456789012"
TEAM_KEY = "stk_team0000_0123456789012345678901234567890123456789012"
OLD_KEY = "stk_old00000_0123456789012345678901234567890123456789012"
FAKE = Path(__file__).parent / "fake_replica.py"
ENDPOINTS = ("digits", "smol", "mini", "secret")
WAIT_S = 100.0  # for what is seen to happen; a machine may be slow


def until(claim: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Poll until `claim` holds."""
    ends_s = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < ends_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def listeners(port: int) -> int:
    """Return how many sockets of this machine listen on `port`."""
    found = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            found += state == "0A" and int(local.rpartition(":")[2], 16) == port
    return found


@dataclass
class Rig:
    """Processes of one test module. Endpoints: digits (predict), smol (chat), mini (embed), all on every replica."""

    home: Home
    port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    holder: socket.socket | None = None
    version: int = 0
    keys: list[dict[str, Any]] = field(default_factory=list)  # more keys, of the project default
    providers: list[dict[str, Any]] = field(default_factory=list)  # who says who people are
    grpc_port: int = 0  # 0: none
    grpc_holder: socket.socket | None = None
    environ: dict[str, str] = field(default_factory=dict)  # of gateways
    tls: ssl.SSLContext | None = None  # how clients connect

    def add_key(self, name: str, **limits: Any) -> str:
        """Make a key with `limits` for the next table, and return its text."""
        text = f"stk_{name:0<8}_{'0' * 43}"
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        self.keys.append({"sha256": sha256, "key": name, "project": "default", "limits": limits})
        return text

    def write_table(self, replicas: list[str], **limits: Any) -> None:
        """Write the table that the next gateway starts from."""
        (self.home.gateway / "routes.json").write_text(json.dumps(self.table(replicas, **limits)))

    def table(self, replicas: list[str], **limits: Any) -> dict[str, Any]:
        """Return the next table."""
        self.version += 1
        places = [{"replica": name, "address": self.home.address(name)} for name in replicas]

        def endpoint(project: str, name: str, task: str) -> dict[str, Any]:
            revision = {
                "revision": f"{project}.{name}-1",
                "version": "1",
                "weight": 100,
                "platform": "onnx",
                "replicas": places,
                "signature": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}], "outputs": []},
            }
            return {
                "project": project,
                "endpoint": name,
                "task": task,
                "created_at_s": 1.0,
                "revisions": [revision],
                **limits,
            }

        def key(text: str, project: str, **more: Any) -> dict[str, Any]:
            return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "key": text[4:12], "project": project, **more}

        return {
            "version": self.version,
            "endpoints": [
                endpoint("default", "digits", "predict"),
                endpoint("default", "smol", "chat"),
                endpoint("default", "mini", "embed"),
                endpoint("team", "secret", "predict"),
            ],
            "keys": [
                key(KEY, "default", is_admin=True),
                key(TEAM_KEY, "team"),
                key(OLD_KEY, "default", expires_at_s=1.0),
                *self.keys,
            ],
            "providers": self.providers,
        }

    def start_replica(self, name: str, *arguments: str) -> None:
        """Start one replica process, and wait until it listens."""
        self.spawn_replica(name, *arguments)
        until(self.socket(name).exists, f"{name} listens")

    def spawn_replica(self, name: str, *arguments: str) -> None:
        self.socket(name).unlink(missing_ok=True)
        argv = [sys.executable, str(FAKE), self.home.address(name), name, str(self.log(name)), *arguments]
        self.processes[name] = subprocess.Popen(argv)

    def start_gateway(self, index: int = 0, gateways: int = 1) -> None:
        """Start a gateway process, and wait until it is ready."""
        self.spawn_gateway(index, gateways)
        until(lambda: self.socket(f"gateway-{index}").exists() and self.accepts(), f"gateway-{index} accepts")

    def spawn_gateway(self, index: int, gateways: int) -> None:
        if self.holder is None:
            self.holder, self.port = held_port()
        module = [sys.executable, "-m", "stoker.app.gateway_main", "--home", str(self.home.root), "--port"]
        argv = [*module, str(self.port), "--index", str(index), "--gateways", str(gateways)]
        log = (self.home.logs / f"gateway-{index}.log").open("ab")
        environment = {**os.environ, "STOKER_GRPC_PORT": str(self.grpc_port)}
        with log:
            self.processes[f"gateway-{index}"] = subprocess.Popen(argv, stderr=log, env={**environment, **self.environ})

    def socket(self, name: str) -> Path:
        return Path(self.home.address(name).removeprefix("unix:"))

    def accepts(self) -> bool:
        """Return whether every gateway that runs listens: they share the port, so one that answers says nothing."""
        alive = [name for name, each in self.processes.items() if name.startswith("gateway-") and each.poll() is None]
        if listeners(self.port) < len(alive):
            return False
        ports = [self.port, *([self.grpc_port] if self.grpc_port else [])]
        with contextlib.suppress(OSError):
            for port in ports:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        return False

    def log(self, name: str) -> Path:
        return self.home.logs / f"{name}.log"

    def lines(self, name: str) -> list[str]:
        path = self.log(name)
        return path.read_text().splitlines() if path.exists() else []

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes[name]
        os.kill(process.pid, number)
        if number == signal.SIGKILL:
            process.wait(WAIT_S)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait(WAIT_S)
        for holder in (self.holder, self.grpc_holder):
            if holder is not None:
                holder.close()


def held_port() -> tuple[socket.socket, int]:
    """Return a port, and what keeps it ours; it does not listen."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]


def keep_alive(rig: Rig, name: str, stop: "asyncio.Event") -> "asyncio.Task[None]":
    """Start `name` again whenever it dies, before it listens too, as an agent would; it listens at the end."""

    async def watch() -> None:
        while True:
            if rig.processes[name].poll() is not None:
                await asyncio.to_thread(rig.spawn_replica, name)
            elif stop.is_set() and rig.socket(name).exists():
                return
            await asyncio.sleep(0.05)

    return asyncio.get_running_loop().create_task(watch())


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(
        self, method: str, path: str, body: bytes | None = None, key: str | None = KEY, **headers: str
    ) -> Answer:
        self.send(method, path, body, key, **headers)
        return await self.answer(is_head=method == "HEAD")

    def send(self, method: str, path: str, body: bytes | None = None, key: str | None = KEY, **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: gateway"]
        if key is not None:
            lines.append(f"authorization: Bearer {key}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    async def head(self) -> tuple[int, dict[str, str]]:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in text[1:] if line)}
        return int(text[0].split()[1]), headers

    async def answer(self, *, is_head: bool = False) -> Answer:
        status, headers = await self.head()
        if is_head:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join([piece async for piece in self.chunks()]))
        return Answer(status, headers, await self.reader.readexactly(int(headers["content-length"])))

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int((await self.reader.readline()).strip(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)

    def close(self) -> None:
        self.writer.transport.abort()


async def connect(rig: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the gateway."""
    name = "localhost" if rig.tls is not None else None
    return await asyncio.open_connection("127.0.0.1", rig.port, ssl=rig.tls, server_hostname=name)


@contextlib.asynccontextmanager
async def client(rig: Rig) -> AsyncIterator[Client]:
    """Connect."""
    made = Client(*await connect(rig))
    try:
        yield made
    finally:
        made.close()


async def ask(rig: Rig, method: str, path: str, body: bytes | None = None, **more: Any) -> Answer:
    """Send one request on a connection of its own."""
    async with client(rig) as one:
        return await one.request(method, path, body, **more)


async def infer(rig: Rig, text: str, **more: Any) -> Answer:
    """POST `text` to digits."""
    return await ask(rig, "POST", "/v2/models/digits/infer", text.encode(), **more)


async def counted(rig: Rig, name: str = "gateway-0") -> Snapshot:
    """Return what one gateway, or another process, has counted by itself."""
    link = await link_to(rig.home.address(name))
    try:
        return decode_snapshot((await link.call(RequestHead(method="metrics"), kind=Kind.CALL).answer())[1])
    finally:
        link.close()


async def holds(claim: Callable[[], bool]) -> None:
    """Wait until `claim` holds (bounded by run)."""
    while not claim():
        await asyncio.sleep(0.005)


async def load_of(rig: Rig, endpoint: str = "digits") -> LaneLoad:
    """Return what the gateway tells scaling of an endpoint."""
    link = await link_to(rig.home.address("gateway-0"))
    try:
        _, answer = await link.call(RequestHead(method="loads"), kind=Kind.CALL).answer()
    finally:
        link.close()
    found = msgspec.json.decode(answer, type=list[LaneLoad])
    return next(each for each in found if (each.project, each.endpoint) == ("default", endpoint))


async def all_see(rig: Rig, count: int, *endpoints: str) -> bool:
    """Return whether every gateway answers and knows of `count` replicas of each endpoint that take requests.

    Every endpoint connects to a replica by itself: one that sees it says nothing of the others.
    """
    gateways = [name for name in rig.processes if name.startswith("gateway-")]
    try:
        numbers = [await counted(rig, name) for name in gateways]
    except ReplicaLost:  # its socket has a name before it listens
        return False
    names = endpoints or ENDPOINTS
    return {each.total("stoker_replicas_ready", endpoint=name) for each in numbers for name in names} == {count}


async def kept(rig: Rig, name: str = "gateway-0", **wanted: Any) -> list[Trace]:
    """Return the traces that one gateway keeps, as it answers control."""
    body = msgspec.msgpack.encode(TraceQuestion(**wanted))
    link = await link_to(rig.home.address(name))
    try:
        head = RequestHead(method="traces", body_bytes=len(body))
        _, answer = await link.call(head, body, kind=Kind.CALL).answer()
    finally:
        link.close()
    return msgspec.msgpack.decode(answer, type=TraceAnswer).items


async def the_trace(rig: Rig, name: str) -> Trace:
    """Return the one trace of that id, or of that request; it is kept just after the answer (bounded by run)."""
    while not (found := await kept(rig, id=name)):
        await asyncio.sleep(0.01)
    (one,) = found
    return one


def chat(text: str, *, stream: bool = False) -> bytes:
    """Return a chat request whose message is `text`."""
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "smol", "messages": messages, "stream": stream}).encode()


def run(work: Callable[[], Awaitable[None]], timeout_s: float = 90.0) -> None:
    """Run one test's coroutine."""

    async def bounded() -> None:
        async with asyncio.timeout(timeout_s):
            await work()

    asyncio.run(bounded())


@contextlib.contextmanager
def rig(
    folder: Path,
    replicas: int = 2,
    gateways: int = 1,
    environ: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    *,
    grpc: bool = False,
    **limits: Any,
) -> Iterator[Rig]:
    """Start `replicas` and `gateways`; kill all of them at the end."""
    home = Home(folder / "home")
    home.make()
    made = Rig(home, environ=environ or {}, tls=tls)
    if grpc:
        made.grpc_holder, made.grpc_port = held_port()
    try:
        names = [f"r{number}" for number in range(replicas)]
        made.write_table(names, **limits)
        for name in names:
            made.spawn_replica(name)
        for index in range(gateways):
            made.spawn_gateway(index, gateways)
        running = [*names, *(f"gateway-{index}" for index in range(gateways))]
        until(lambda: all(made.socket(name).exists() for name in running) and made.accepts(), f"{running} run")
        if replicas:
            until(lambda: asyncio.run(all_see(made, replicas)), "every gateway sees every replica")
            assert asyncio.run(infer(made, "ready?")).status == 200
        yield made
    finally:
        made.close()
