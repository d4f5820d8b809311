"""Control as a process, alone: how it starts, what it promises when it is killed, how it ends."""

import array
import asyncio
import fcntl
import http.client
import itertools
import json
import random
import socket
import stat
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.client.credentials import read_credentials
from stoker.control import replicas
from stoker.protocol.link import connect
from stoker.types.ids import ModelName, ReplicaId
from stoker.types.models import ModelVersion, manifest_digest
from tests.api.test_door import routes
from tests.control.rig import WAIT_S, Rig, endpoint, until
from tests.store.rows import manifest, revision


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A control that no test kills or stops."""
    rig = Rig(tmp_path_factory.mktemp("running") / "h")
    rig.start()
    yield rig
    rig.close()


@pytest.fixture(scope="module")
def second(running: Rig) -> Iterator[subprocess.Popen[str]]:
    """Another control on its folder. It waits a while for the first to end, and another test need not wait for it."""
    argv = [sys.executable, "-m", "stoker.app.control_main", "--home", str(running.home.root)]
    with subprocess.Popen([*argv, "--api-port", str(running.port)], stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_the_first_start_makes_an_admin_key_that_only_this_user_can_read(rig: Rig) -> None:
    rig.has_database = False
    rig.start()
    found = read_credentials(rig.home.credentials)
    assert stat.S_IMODE(rig.home.credentials.stat().st_mode) == 0o600
    assert stat.S_IMODE(rig.home.database.stat().st_mode) == 0o600
    assert stat.S_IMODE((rig.home.run / "control-api.sock").stat().st_mode) == 0o600
    assert found.api == f"http://127.0.0.1:{rig.port + 1}"
    assert found.api_socket == str(rig.home.run / "control-api.sock")
    assert rig.key_ids(admin_only=True) == {found.key_id}


def test_the_key_lasts_over_restarts_and_a_lost_file_gets_a_new_one(rig: Rig) -> None:
    rig.start()
    first = rig.key
    assert rig.terminate() == 0
    rig.start()
    assert rig.key == first
    rig.kill()
    rig.home.credentials.unlink()
    rig.start()
    assert rig.key != first
    assert rig.request("GET", "/api/v1/keys", key=first)[0] == 401
    assert len(rig.client.keys()) == 1


def test_control_is_small_after_a_warm_start(rig: Rig) -> None:
    rig.start()
    rig.terminate()
    rig.start()
    assert rig.process is not None
    status = Path(f"/proc/{rig.process.pid}/status").read_text()
    rss_mib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
    assert rss_mib < 80, "55 MiB were measured"


def test_a_warm_start_does_not_load_what_migrations_need(rig: Rig) -> None:
    code = (
        "import sys, stoker.app.control_main; print([m for m in ('alembic', 'numpy', 'aiohttp') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.usefixtures("second")
def test_a_taken_port_is_told_with_the_setting(running: Rig) -> None:
    other = Rig(running.home.root.with_name("h2"))
    try:
        other.port = running.port
        other.start(wait=False)
        assert other.process is not None
        assert other.process.wait(WAIT_S) == 1
        assert f"port {running.port + 1} is taken; set STOKER_API_PORT" in other.log.read_text()
    finally:
        other.close()


def test_it_answers_frames_as_the_agent_expects(running: Rig) -> None:
    rig = running

    async def ask() -> tuple[str, str, int]:
        link = await connect(rig.home.address("control"))
        try:
            assert link.hello is not None
            return link.hello.name, link.hello.state, link.hello.pid
        finally:
            link.close()

    assert rig.process is not None
    assert asyncio.run(ask()) == ("control", "ready", rig.process.pid)


@pytest.mark.alone
def test_told_to_stop_it_lets_waiting_gateways_go_and_ends_well(rig: Rig) -> None:
    rig.start()
    version = routes(rig)["version"]
    with socket.socket(socket.AF_UNIX) as gateway:
        gateway.connect(str(rig.home.run / "control-api.sock"))
        gateway.sendall(b"GET /internal/v1/routes?after=%d&wait_s=30 HTTP/1.1\r\nhost: x\r\n\r\n" % version)
        until(lambda: not unread(gateway), "control has heard the gateway")
        began_s = time.monotonic()
        assert rig.terminate() == 0
        assert gateway.recv(1000).startswith(b"HTTP/1.1 204 ")
        assert time.monotonic() - began_s < 5
    assert not (rig.home.run / "control-api.sock").exists()


def unread(one: socket.socket) -> int:
    """Return how many bytes its peer has yet to read."""
    told = array.array("i", [0])
    fcntl.ioctl(one, termios.TIOCOUTQ, told)
    return told[0]


def test_the_route_table_keeps_its_number_over_restarts_and_only_grows(rig: Rig, onnx_files: list[Path]) -> None:
    rig.start()
    first = routes(rig)
    rig.kill()
    rig.start()
    assert routes(rig) == first
    rig.push("m", onnx_files[0])
    rig.request("POST", "/api/v1/apply", endpoint())
    until(lambda: routes(rig)["endpoints"], "the endpoint is in the table")
    second = routes(rig)
    assert second["version"] > first["version"]
    rig.kill()
    rig.start()
    assert routes(rig) == second


def test_what_a_crash_left_half_made_is_removed_at_the_next_start(rig: Rig) -> None:
    rig.start()
    rig.kill()
    (rig.home.tmp / "blob-0123456789abcdef").write_bytes(b"half")
    (rig.home.replicas / "default.a-1-aaaaa.json").write_bytes(b"{}")
    (rig.home.replicas / "default.a-1-aaaaa.error").write_bytes(b"{}")
    (rig.home.replicas / "default.a-1-aaaaa").mkdir()
    (rig.home.replicas / ".default.a-1-aaaaa.json.12ab").write_bytes(b"")
    (rig.home.models / ".partial-00").mkdir()
    rig.start()
    assert [list(folder.iterdir()) for folder in (rig.home.tmp, rig.home.replicas, rig.home.models)] == [[], [], []]


def test_sweeping_keeps_the_files_of_known_replicas(rig: Rig) -> None:
    rig.home.make()
    for name in ("default.a-1-aaaaa", "default.b-1-bbbbb"):
        (rig.home.replicas / f"{name}.json").write_bytes(b"{}")
    assert replicas.sweep({"default.a-1-aaaaa"}, rig.home) == 1
    assert [path.name for path in rig.home.replicas.iterdir()] == ["default.a-1-aaaaa.json"]


def test_killed_at_random_moments_it_keeps_every_write_that_it_acknowledged(rig: Rig, onnx_files: list[Path]) -> None:
    random.seed(3)
    rig.start()
    rig.push("m", onnx_files[0])
    applied: dict[str, int] = {}
    keys: set[str] = set()
    aliases: dict[str, int] = {}
    numbers = itertools.count(1)  # over all rounds: a write whose answer was lost is never smaller than one before

    def write() -> None:
        for number in numbers:
            try:
                name = f"e{number % 5}"
                wanted = endpoint(name, limits={"queue_max": number})
                if rig.request("POST", "/api/v1/apply", wanted)[0] == 200:
                    applied[name] = number
                status, made, _ = rig.request("POST", "/api/v1/keys", {"name": str(number)})
                if status == 201:
                    keys.add(made["id"])
                if rig.request("PUT", "/api/v1/models/m/aliases/prod", {"number": 1})[0] == 204:
                    aliases["prod"] = 1
            except (OSError, http.client.HTTPException, json.JSONDecodeError):  # control was killed while it answered
                return

    for _ in range(4):
        goal = len(keys) + random.randint(3, 10)
        writer = threading.Thread(target=write)
        writer.start()
        until(lambda goal=goal: len(keys) >= goal, "writes are acknowledged")
        time.sleep(random.uniform(0.0, 0.02))  # in the middle of one
        rig.kill()
        writer.join(WAIT_S)
        rig.start()
        assert keys <= rig.key_ids()
        for name, number in applied.items():
            assert rig.client.endpoint("default", name).resource.spec.limits.queue_max >= number
        for alias, number in aliases.items():
            assert rig.client.version("m", alias).number == number
    assert len(keys) >= 4 * 3


def test_a_second_control_on_the_same_folder_does_not_start(running: Rig, second: subprocess.Popen[str]) -> None:
    _, said = second.communicate(timeout=WAIT_S)
    assert second.returncode == 1
    assert "another control runs" in said
    assert running.client.is_ready()


def test_environment_of_control_does_not_reach_replicas(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    version = ModelVersion(ModelName("m"), 1, manifest_digest(manifest()), manifest(), 0.0, 10)
    spec = replicas.process_spec(ReplicaId("default.a-1-aaaaa"), revision(version), version, 5.0, rig.home)
    assert set(spec.env) == {"HOME", "LANG", "TMPDIR", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"}
    given = replicas.process_spec(ReplicaId("default.a-1-aaaaa"), revision(version), version, 5.0, rig.home, (1, 3))
    assert given.env["CUDA_VISIBLE_DEVICES"] == "1,3", "it sees no other GPU"
    assert given.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
