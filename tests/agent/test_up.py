"""`up` and `down` with the real processes of the platform: started, killed, attached to, ended."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
import pytest

from stoker.agent.kernel import ProcessLine
from stoker.app import keeper_main, settings
from stoker.app.down import down, marked
from stoker.app.home import Home
from stoker.app.settings import Settings
from stoker.app.up import node_status, up
from stoker.types.errors import Conflict, InvalidInput, NotReachable, Unavailable
from tests.agent.conftest import WAIT_S, kill_everything, until
from tests.databases import migrated
from tests.ports import free_ports


def pids(home: Home) -> dict[str, int]:
    """Return the pids of the platform's own processes (not of their children)."""
    found: dict[str, ProcessLine] = {}
    for line, name in marked(home).items():
        if name not in found or line.start_ticks < found[name].start_ticks:
            found[name] = line
    return {name: line.pid for name, line in found.items()}


@pytest.fixture
def chosen(tmp_path: Path) -> Iterator[Settings]:
    made = settings.load({}, home=tmp_path / "home", port=free_ports(2)[0], gateways=1, start_timeout_s=WAIT_S)
    Home(made.home).make()
    migrated(Home(made.home).database).dispose()
    yield made
    kill_everything(Home(made.home))
    shutil.rmtree(Home(made.home).run, ignore_errors=True)


def test_up_starts_everything_and_down_leaves_nothing(chosen: Settings) -> None:
    home, told = Home(chosen.home), list[str]()
    home.database.unlink()  # as at the very first start
    running = up(chosen, progress=told.append)
    assert not running.is_attached
    assert running.gateway_url == f"http://127.0.0.1:{chosen.port}"
    assert set(pids(home)) == {"keeper", "agent", "control", "gateway-0"}
    assert any("waiting for" in words for words in told)
    assert down(home, drain_s=5)
    assert marked(home) == {}
    assert list(home.processes.iterdir()) == []
    assert not down(home, drain_s=5)


def test_a_second_up_attaches_and_another_port_is_refused(chosen: Settings) -> None:
    home = Home(chosen.home)
    up(chosen)
    before = pids(home)
    again = up(settings.load({}, home=chosen.home))  # the port that runs, not the default one
    assert again.is_attached
    assert again.port == chosen.port
    assert pids(home) == before
    with pytest.raises(Conflict, match=f"PORT={chosen.port}") as refused:
        up(settings.load({"PORT": str(free_ports(1)[0])}, home=chosen.home))
    assert refused.value.field == "PORT"
    with pytest.raises(Conflict, match="STOKER_GRPC_PORT=0, not"):
        up(settings.load({"STOKER_GRPC_PORT": str(free_ports(1)[0])}, home=chosen.home))


def test_a_killed_agent_comes_back_to_the_same_processes_and_a_killed_keeper_too(chosen: Settings) -> None:
    home = Home(chosen.home)
    up(chosen)
    before = pids(home)
    os.kill(before["agent"], signal.SIGKILL)
    until(lambda: pids(home).get("agent", before["agent"]) != before["agent"], what="a new agent")
    os.kill(before["keeper"], signal.SIGKILL)
    until(lambda: pids(home).get("keeper", before["keeper"]) != before["keeper"], what="a new keeper")
    # and the new keeper keeps the agent that it did not start
    second = pids(home)["agent"]
    os.kill(second, signal.SIGKILL)
    until(lambda: pids(home).get("agent", second) != second, what="a third agent")
    until(lambda: answers(home), what="it answers")
    after = pids(home)
    assert (after["control"], after["gateway-0"]) == (before["control"], before["gateway-0"])
    assert up(chosen).is_attached
    # how an adopted process ended is known too (Linux 6.15 tells of processes that are not our children)
    os.kill(after["gateway-0"], signal.SIGKILL)
    until(lambda: pids(home).get("gateway-0", after["gateway-0"]) != after["gateway-0"], what="a new gateway")
    (gateway,) = (status for status in node_status(home).processes if status.name == "gateway-0")
    assert gateway.last_exit in ("killed by SIGKILL", "ended unseen (an earlier agent had started it)")
    down(home, drain_s=5)
    assert marked(home) == {}


def answers(home: Home) -> bool:
    try:
        return bool(node_status(home).processes)
    except NotReachable:
        return False


def test_everything_killed_at_once_is_started_again_by_the_next_up(chosen: Settings) -> None:
    home = Home(chosen.home)
    up(chosen)
    kill_everything(home)
    (home.tmp / "half-written").write_text("x")
    running = up(chosen)
    assert not running.is_attached
    assert list(home.tmp.iterdir()) == []
    down(home, drain_s=5)
    assert marked(home) == {}


def test_what_an_agent_left_is_taken_over_by_the_next_up(chosen: Settings) -> None:
    home = Home(chosen.home)
    up(chosen)
    before = pids(home)
    os.kill(before["keeper"], signal.SIGKILL)
    os.kill(before["agent"], signal.SIGKILL)
    until(lambda: not set(pids(home)) & {"agent", "keeper"})
    assert not up(chosen).is_attached
    after = pids(home)
    assert (after["control"], after["gateway-0"]) == (before["control"], before["gateway-0"])


def test_down_ends_what_a_dead_agent_left_and_a_hanging_agent_too(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(chosen.home)
    up(chosen)
    before = pids(home)
    os.kill(before["keeper"], signal.SIGKILL)
    os.kill(before["agent"], signal.SIGKILL)
    assert down(home, drain_s=5)
    assert marked(home) == {}
    up(chosen)
    monkeypatch.setattr(sys.modules[down.__module__], "ASK_TIMEOUT_S", 0.5)
    os.kill(pids(home)["agent"], signal.SIGSTOP)
    assert down(home, drain_s=5)
    assert marked(home) == {}
    assert list(home.processes.iterdir()) == []


def test_sigterm_to_the_keeper_ends_everything_in_order(chosen: Settings) -> None:
    home = Home(chosen.home)
    up(chosen)
    os.kill(pids(home)["keeper"], signal.SIGTERM)
    until(lambda: not marked(home), what="all ended")
    assert not (home.run / keeper_main.WANTED).exists()


def test_a_port_whose_last_holder_is_about_to_go_is_waited_for(chosen: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", chosen.port))
        other.listen()
        going = threading.Timer(0.2, other.close)
        going.start()
        up(chosen)
        going.join()
    assert down(Home(chosen.home), drain_s=5)


def test_a_taken_port_is_an_error_that_names_the_setting(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[up.__module__], "PORT_WAIT_S", 0.1)
    home = Home(chosen.home)
    chosen = msgspec.structs.replace(chosen, grpc_port=free_ports(1)[0])
    ports = ((chosen.port, "PORT"), (chosen.api_port, "STOKER_API_PORT"), (chosen.grpc_port, "STOKER_GRPC_PORT"))
    for port, variable in ports:
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            other.listen()
            with pytest.raises(
                InvalidInput, match=f"port {port} is taken by another program; set {variable}="
            ) as taken:
                up(chosen)
            assert taken.value.field == variable
    assert marked(home) == {}


def test_a_platform_that_cannot_start_says_why_and_leaves_nothing(chosen: Settings) -> None:
    home = Home(chosen.home)
    home.make()
    home.database.write_bytes(b"this is no database, only text that is long enough to be looked at" * 100)
    with pytest.raises(
        Unavailable, match=r"(?s)control died 3 times; its log is .*control\.log and ends with:\n.*database"
    ):
        up(chosen)
    assert marked(home) == {}


def test_a_folder_that_cannot_be_used_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="STOKER_HOME"):
        up(settings.load({}, home=tmp_path / "file", port=free_ports(1)[0]))


def test_two_ups_at_once_start_one_platform(chosen: Settings) -> None:
    home = Home(chosen.home)
    code = (
        "import sys; from stoker.app import settings; from stoker.app.up import up; "
        "print('here', flush=True); input(); up(settings.load({}, home=sys.argv[1], port=int(sys.argv[2]), gateways=1))"
    )
    second = subprocess.Popen(
        [sys.executable, "-c", code, str(chosen.home), str(chosen.port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert second.stdout is not None
    assert second.stdin is not None
    assert second.stdout.readline() == "here\n"
    second.stdin.write("go\n")
    second.stdin.flush()
    up(chosen)
    _, wrong = second.communicate()
    assert second.returncode == 0, wrong
    names = sorted(pids(home))
    assert names == ["agent", "control", "gateway-0", "keeper"]
    assert len([name for line, name in marked(home).items() if line.pid == line.session and name == "agent"]) == 1


def test_a_gateway_that_hangs_is_started_again_and_the_other_serves_meanwhile(chosen: Settings) -> None:
    chosen = msgspec.structs.replace(chosen, gateways=2, gateway_silent_s=4.0)
    home = Home(chosen.home)
    up(chosen)
    before = pids(home)
    os.kill(before["gateway-1"], signal.SIGSTOP)
    with ExitStack() as held:
        asked = [held.enter_context(ask(chosen.port)) for _ in range(60)]
        until(lambda: pids(home).get("gateway-1", before["gateway-1"]) != before["gateway-1"], what="it is left alone")
        answered = [is_answered(each) for each in asked]
    assert 0 < sum(answered) < len(asked), "one served, and the kernel gave connections to the other too"
    until(lambda: phases(home).get("gateway-1") == "ready", what="it serves again")
    for _ in range(40):
        with ask(chosen.port) as one:
            assert is_answered(one)
    after = pids(home)
    assert {name: pid for name, pid in after.items() if name != "gateway-1"} == {
        name: pid for name, pid in before.items() if name != "gateway-1"
    }


def ask(port: int) -> socket.socket:
    """Return a connection on which a request is under way; the kernel gives it to one of the gateways."""
    one = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    one.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    return one


def is_answered(one: socket.socket) -> bool:
    """Return whether it is; a gateway that ends gives none."""
    with suppress(OSError):
        return one.recv(100).startswith(b"HTTP/1.1 200 ")
    return False


def phases(home: Home) -> dict[str, str]:
    return {process.name: process.phase for process in node_status(home).processes}
