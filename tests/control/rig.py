"""Control as a real process, alone or under a real agent, and the models that tests push to it."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stoker.app.home import Home
from stoker.client.connection import Connection
from stoker.client.control import ControlClient
from stoker.client.credentials import read_credentials
from stoker.client.registration import Registration
from stoker.client.upload import push
from stoker.client.views import PushedVersion
from tests.databases import migrated
from tests.ports import free_ports

WAIT_S = 90.0  # to give up, not to be quick: whatever is waited for comes, on a busy machine too
AGENT_ALONE = Path(__file__).parents[1] / "agent" / "alone.py"
PYTHON_MODEL = """
import time
class Model:
    inputs = {{"x": ("FP32", [-1, 4])}}
    outputs = {{"y": ("FP32", [-1, 4])}}
    def load(self, folder):
        {load}
    def predict(self, inputs):
        {work}
        return {{"y": inputs["x"] * {scale}}}
"""


def until(claim: Callable[[], Any], what: str | Callable[[], str] = "", timeout_s: float = WAIT_S) -> Any:
    """Poll `claim` until it is true and return what it said; `what` may look at how far it came."""
    end_s = time.monotonic() + timeout_s
    while True:
        value = claim()
        if value:
            return value
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {timeout_s} s: {(what() if callable(what) else what) or claim}")
        time.sleep(0.01)


class Rig:
    """One state folder with a control process (`start`) or an agent that keeps one (`start_agent`)."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.port, _ = free_ports(2)  # and the API's, the next one
        self.process: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self.log = root.with_name(root.name + ".log")
        self.environ: dict[str, str] = {}  # settings of what is started
        self.has_database = True  # before it is started for the first time, which saves it the migrations

    def start(self, *, wait: bool = True) -> None:
        """Start control. A new folder is given a database; without `has_database` control makes it."""
        arguments = ("stoker.app.control_main", "--api-port", str(self.port + 1), "--gateways", "1")
        self._spawn(arguments)
        if wait:
            self.wait_ready()

    def start_agent(self) -> None:
        self._spawn(("stoker.app.agent_main", "--port", str(self.port), "--gateways", "1"))
        self.wait_ready()

    def start_apart(self) -> None:
        """Start an agent without a platform, and control beside it: nothing restarts control but the test."""
        self.home.make()
        environment = {**os.environ, "STOKER_PROCESS": f"{self.home.id}/agent"}
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, str(AGENT_ALONE), str(self.home.root)], stdout=log, stderr=log, env=environment
            )
        self.start()
        until(self.client.nodes, "the agent is seen")

    def wait_ready(self) -> None:
        until(self.is_ready, "control is ready")

    def is_ready(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"exit code {self.process.returncode}:\n{self.log.read_text()}")
        if not self.home.credentials.exists():
            return False
        return self.client.is_ready()

    @property
    def client(self) -> ControlClient:
        credentials = read_credentials(self.home.credentials)
        return ControlClient(Connection(f"unix:{self.home.run / 'control-api.sock'}", credentials.key))

    def client_of(self, key: str) -> ControlClient:
        """Return a client with another key."""
        return ControlClient(Connection(f"unix:{self.home.run / 'control-api.sock'}", key))

    @property
    def key(self) -> str:
        return read_credentials(self.home.credentials).key

    def key_ids(self, *, admin_only: bool = False) -> set[str]:
        listed = self.client.keys()
        return {key.id for key in listed if key.admin or not admin_only}

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill_control(self) -> None:
        """Kill the control that the agent keeps; it restarts it."""
        os.kill(self.processes()["control"], signal.SIGKILL)

    def terminate(self, timeout_s: float = WAIT_S) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def processes(self) -> dict[str, int]:
        """Return the pids of everything that runs for this state folder, by process name; no helpers of replicas."""
        names, parents = {}, {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    environment = (folder / "environ").read_bytes().split(b"\0")
                    state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                except OSError:
                    continue
                for pair in environment:
                    if pair.startswith(f"STOKER_PROCESS={self.home.id}/".encode()) and state != "Z":
                        names[int(folder.name)] = pair.decode().partition("/")[2]
                        parents[int(folder.name)] = int(parent)
        # A replica's child (it measures its threads in one) has the environment, and so the name, of the replica.
        return {name: pid for pid, name in names.items() if names.get(parents[pid]) != name}

    def request(
        self, method: str, path: str, body: Any = None, *, key: str | None = "", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """Call the API over TCP; return status, decoded JSON (or bytes) and headers. No key: `key=None`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port + 1, timeout=WAIT_S)
        try:
            sent = dict(headers or {})
            if key is not None:
                sent["Authorization"] = f"Bearer {key or self.key}"
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            raw = answer.read()
            is_json = (answer.getheader("content-type") or "").startswith("application/json") and raw
            return answer.status, json.loads(raw) if is_json else raw, answer.headers
        finally:
            connection.close()

    def push(self, name: str, source: Path, **what: Any) -> PushedVersion:
        return push(self.client, name, source, Registration(files=(), **what), lambda *_: None)

    def _spawn(self, arguments: tuple[str, ...]) -> None:
        module, *rest = arguments
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
        environment |= self.environ
        if self.has_database and not self.home.database.exists():
            self.home.make()
            migrated(self.home.database).dispose()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--home", str(self.home.root), *rest],
                stdout=log,
                stderr=log,
                env=environment,
            )

    def close(self) -> None:
        """End everything that runs for this folder, whatever the test left."""
        for process in (self.process, self.agent):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for _ in range(3):
            for pid in self.processes().values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if not self.home.run.is_relative_to(self.home.root):
            shutil.rmtree(self.home.run, ignore_errors=True)


def endpoint(name: str = "a", model: str = "m", project: str = "default", **spec: Any) -> dict[str, Any]:
    """Return an endpoint's manifest as JSON; small, so that several fit on a small machine."""
    return {
        "apiVersion": "stoker/v1",
        "kind": "Endpoint",
        "metadata": {"name": name, "project": project},
        "spec": {"model": model, "task": "predict", "resources": {"cpu": 0.25, "memory": "256Mi"}, **spec},
    }


def conditions(rig: Rig, name: str = "a") -> dict[str, Any]:
    return {each.type: each for each in rig.client.endpoint("default", name).status.conditions}


def python_model(folder: Path, *, load: str = "pass", work: str = "pass", scale: int = 1) -> Path:
    """Make a model of Python code in `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(PYTHON_MODEL.format(load=load, work=work, scale=scale))
    return folder


def is_served(rig: Rig, name: str = "a", key: str = "") -> bool:
    """Return whether the gateway knows the key and a ready replica: control may know before it."""
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=WAIT_S)
    try:
        connection.request("GET", f"/v2/models/{name}/ready", headers={"Authorization": f"Bearer {key or rig.key}"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def infer(rig: Rig, name: str = "a", *, value: float = 1, **more: str) -> list[float]:
    """Ask the endpoint through the gateway, with `more` headers; raises AssertionError with what it said."""
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=WAIT_S)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [value] * 4}
    try:
        headers = {"Authorization": f"Bearer {rig.key}", "Content-Type": "application/json", **more}
        connection.request("POST", f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]}), headers)
        answer = connection.getresponse()
        raw = answer.read()
        assert answer.status == 200, (answer.status, raw)
        data: list[float] = json.loads(raw)["outputs"][0]["data"]
        return data
    finally:
        connection.close()
