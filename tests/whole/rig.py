"""A real platform, started as a user starts it, with handles to look at and to kill its processes."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stoker.app.home import Home
from stoker.client.connection import Connection
from stoker.client.control import ControlClient
from stoker.protocol import unixhttp
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.telemetry.metrics import decode_snapshot
from stoker.types.errors import Unavailable
from stoker.types.routes import RouteTable
from tests.ports import free_ports

STOKER = Path(sys.executable).parent / "stoker"


# A wait that ends with what it waits for costs nothing while that comes; a machine may be many times slower than usual.
WAIT_S = 120.0


def until(claim: Callable[[], Any], what: str | Callable[[], str] = "", timeout_s: float = WAIT_S) -> Any:
    """Poll `claim` until it is true and return what it said; fail with `what`, which may look at how far it came.

    A platform that cannot answer, because a part of it is being started, has not said it yet.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        began_s = time.monotonic()
        with suppress(Unavailable):
            if value := claim():
                return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {(what() if callable(what) else what) or claim}")
        time.sleep(min(max(time.monotonic() - began_s, 0.02), 0.2))  # looking costs what others work with


@dataclass(frozen=True)
class Process:
    """One process of the platform, as the kernel lists it."""

    pid: int
    name: str
    state: str


class Platform:
    """One state folder and what runs for it."""

    def __init__(self, home: Path, *, gateways: int = 1, grpc: bool = False) -> None:
        self.home = home
        self.port, api_port, self.grpc_port = free_ports(3)
        self.gateways = gateways
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STOKER_")},
            "STOKER_HOME": str(home),
            "PORT": str(self.port),
            "STOKER_API_PORT": str(api_port),
            "STOKER_GRPC_PORT": str(self.grpc_port if grpc else 0),
            "STOKER_START_TIMEOUT": str(WAIT_S),
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        loaded: dict[str, str] = json.loads((self.home / "credentials.json").read_text())
        return loaded

    @property
    def key(self) -> str:
        return self.credentials["key"]

    @property
    def client(self) -> ControlClient:
        """Return a client of control, which costs less than a command for each question."""
        return ControlClient(Connection(f"unix:{Home(self.home).run / 'control-api.sock'}", self.key))

    def cli(self, *arguments: str, check: bool = True, timeout_s: float = 2 * WAIT_S, stdin: str = "") -> str:
        """Run `stoker …`; return its standard output. With `check`, a failure shows everything it said."""
        done = subprocess.run(
            [str(STOKER), *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"stoker {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Run `stoker … -o json` and return what it says."""
        return json.loads(self.cli(*arguments, "-o", "json"))

    def new_key(self, *arguments: str) -> dict[str, Any]:
        """Make a key, and return it once every gateway knows it: one that is not known yet is a guess to them."""
        made: dict[str, Any] = self.json("keys", "create", *arguments)
        self.follows(lambda table: any(each.key == made["id"] for each in table.keys))
        return made

    def follows(self, claim: Callable[[RouteTable], bool] = lambda _: True) -> None:
        """Wait until a route table of which `claim` holds is out, and every gateway follows it, or a later one."""
        socket = str(Home(self.home).run / "control-api.sock")

        async def is_followed() -> bool:
            path = "/internal/v1/routes?after=-1&wait_s=0"
            status, body = await unixhttp.request(socket, "GET", path, timeout_s=WAIT_S)
            table = msgspec.json.decode(body, type=RouteTable) if status == 200 else None
            if table is None or not claim(table):
                return False
            for index in range(self.gateways):
                link = await connect(Home(self.home).address(f"gateway-{index}"))
                try:
                    _, seen = await link.call(RequestHead(method="metrics"), kind=Kind.CALL).answer()
                finally:
                    link.close()
                if decode_snapshot(seen).total("stoker_route_table_version") < table.version:
                    return False
            return True

        until(lambda: asyncio.run(is_followed()), what="every gateway follows the table")

    def up(self) -> None:
        self.cli("up", "--detach", "--gateways", str(self.gateways))

    def down(self) -> None:
        self.cli("down")

    def processes(self) -> list[Process]:
        """Return every living process that belongs to this state folder (by its environment)."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            variables = dict(pair.split(b"=", 1) for pair in environment if b"=" in pair)
            marker = variables.get(b"STOKER_PROCESS", b"").decode()
            mine = marker.startswith(self.home_id() + "/")
            if mine and state != "Z":
                found.append(Process(int(folder.name), marker.partition("/")[2], state))
        return found

    def home_id(self) -> str:
        return Home(self.home.resolve()).id

    def pid(self, name: str) -> int:
        """Return the pid of the process called `name` (a prefix of a replica's name is enough)."""
        pids = [process.pid for process in self.processes() if process.name.startswith(name)]
        assert pids, f"no process {name}: {self.processes()}"
        return min(pids)

    def kill(self, name: str) -> int:
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_for_good(self, name: str) -> None:
        """Kill `name` and who would start it again; the agent, which would start each of them, stands still first."""
        agent = self.pid("agent")
        os.kill(agent, signal.SIGSTOP)
        for each in ("keeper", name):
            self.kill(each)
        os.kill(agent, signal.SIGKILL)
        until(lambda: not {each.name for each in self.processes()} & {"agent", "keeper", name}, "nobody starts them")

    def kill_everything(self) -> None:
        """SIGKILL every process of this folder, also those that appear meanwhile."""
        while alive := self.processes():
            for process in alive:
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def database_is_sound(self) -> None:
        with sqlite3.connect(f"file:{self.home / 'state.db'}?mode=ro", uri=True) as database:
            assert database.execute("pragma integrity_check").fetchone() == ("ok",)
            assert database.execute("pragma foreign_key_check").fetchall() == []

    def logs(self) -> str:
        """Return the end of every log, for the message of a failed test."""
        return "\n".join(
            f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in sorted((self.home / "logs").glob("*.log"))
        )
