"""`stoker up` and `stoker down` without their screens: start the platform of one state folder, and end it.

up:    state folder ▸ running already? then attach ▸ ports free? ▸ write down that it is wanted ▸ keeper ▸ agent ▸
       wait for control and the gateways, with the words of whatever does not come.
down:  ask the agent, which ends everything in order; without an agent, do the same from its records; then nothing
       that carries this state folder's marker runs any more.
"""

import errno
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stoker.agent import adopt, kernel, logs
from stoker.agent.records import Records
from stoker.app import agent_main, keeper_main, settings
from stoker.app.down import changing, clear, down, marked
from stoker.app.home import Home
from stoker.app.settings import Settings
from stoker.client.connection import Connection
from stoker.types.errors import Conflict, InvalidInput, NotReachable, StokerError, Unavailable
from stoker.types.process import NodeStatus, ProcessStatus

POLL_S: Final = 0.02
CHANGE_WAIT_S: Final = 0.5
# A process of the platform itself that dies so often while it starts has a reason that waiting will not cure.
CRASHES_MAX: Final = 3
# A killed process is a zombie before the last of its threads, and with it its sockets, are gone: also after a `down`.
PORT_WAIT_S: Final = 5.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A platform that answers."""

    home: Home
    is_attached: bool  # it ran before
    port: int
    api_port: int
    host: str
    grpc_port: int = 0  # 0: none
    tls_cert: str = ""  # the file with the certificate that the gateways show; "": they speak HTTP

    @property
    def gateway_url(self) -> str:
        """Where clients call it, from this machine."""
        return f"{'https' if self.tls_cert else 'http'}://{self._reachable}:{self.port}"

    @property
    def grpc_target(self) -> str:
        """What a gRPC client on this machine is given; empty without the port."""
        return f"{self._reachable}:{self.grpc_port}" if self.grpc_port else ""

    @property
    def _reachable(self) -> str:
        return "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host

    @property
    def api_url(self) -> str:
        """Where the control API answers."""
        return f"http://127.0.0.1:{self.api_port}"


class _Wanted(msgspec.Struct):
    """The file that keeps a platform wanted: the agent's command line, and what others must know of the settings."""

    agent: tuple[str, ...]
    port: int
    api_port: int
    host: str
    gateways: int
    grpc_port: int = 0
    tls_cert: str = ""
    tls_key: str = ""


def up(chosen: Settings, *, progress: Progress = lambda _: None) -> Running:
    """Start the platform of `chosen.home`, or attach to it when it runs; return once it answers.

    It goes on without this process: a keeper restarts its agent, the agent everything else. `progress` is told, in
    words, what is waited for.

    Raises:
        InvalidInput: a setting that cannot be: a port that is taken, a folder that cannot be written; `field` names it.
        Conflict: it runs already with other settings.
        Unavailable: it does not come up; the message ends with what the process that failed said last. What was
            started is ended again.
    """
    settings.check_grpc(chosen)
    home = Home(chosen.home)
    _make(home)
    with changing(home):
        chosen, is_attached = _begin(home, chosen)
    try:
        _wait_ready(home, chosen, progress)
    except StokerError:
        if not is_attached:
            down(home, drain_s=0.0)
        raise
    return Running(home, is_attached, chosen.port, chosen.api_port, chosen.host, chosen.grpc_port, chosen.tls_cert)


def _begin(home: Home, chosen: Settings) -> tuple[Settings, bool]:
    """Have the platform started; return the settings it runs with, and whether it ran before."""
    wanted = _read_wanted(home)
    is_attached = wanted is not None and _is_running(home)
    if wanted is not None and is_attached:
        chosen = _as_running(wanted, chosen)
    else:
        if chosen.tls_files is not None:
            from stoker.gateway.http import tls

            tls.context_of(tls.read(chosen.tls_files))
        _check_ports(home, chosen)
        if not marked(home):
            clear(home)
        _write_wanted(home, chosen)
        (home.run / keeper_main.AGENT_ERROR).unlink(missing_ok=True)
    # Also when it runs: the agent may be between two lives, or its keeper gone.
    keeper_main.start(home.run, home.logs, home.id)
    return chosen, is_attached


def agent_connection(home: Home) -> Connection:
    """Return the way to the agent's API."""
    return Connection(f"unix:{home.run / 'agent.sock'}")


def node_status(home: Home, *, after: int | None = None, wait_s: float = 0.0) -> NodeStatus:
    """Return what the agent says of this machine; with `after`, once that changed or `wait_s` is over.

    Raises NotReachable when no agent answers.
    """
    query = {"after": after, "wait_s": wait_s} if after is not None else None
    answer = agent_connection(home).exchange("GET", "/v1/node", query=query, timeout_s=wait_s + 5.0)
    return msgspec.json.decode(answer.body, type=NodeStatus)


def _make(home: Home) -> None:
    try:
        home.make()
    except OSError as refused:
        raise InvalidInput(
            f"the state folder {home.root} cannot be used: {refused}; set STOKER_HOME=…", field="STOKER_HOME"
        ) from refused


def _is_running(home: Home) -> bool:
    """Return whether somebody keeps the platform up: an agent, or a keeper between two lives of one."""
    return not set(adopt.CARETAKERS).isdisjoint(marked(home).values())


def _as_running(wanted: _Wanted, chosen: Settings) -> Settings:
    """Return `chosen` as the platform runs; raises Conflict where somebody asked for something else than runs.

    A value at its default counts as not asked for.
    """
    default = settings.load({}, home=chosen.home, port=chosen.port)
    for name, variable in (
        ("port", "PORT"),
        ("api_port", "STOKER_API_PORT"),
        ("grpc_port", "STOKER_GRPC_PORT"),
        ("gateways", "STOKER_GATEWAYS"),
        ("tls_cert", "STOKER_TLS_CERT"),
        ("tls_key", "STOKER_TLS_KEY"),
    ):
        runs, asked = getattr(wanted, name), getattr(chosen, name)
        usual = settings.DEFAULT_PORT if name == "port" else getattr(default, name)
        if asked not in (runs, usual):
            raise Conflict(
                f"the platform of {chosen.home} runs already, with {variable}={runs}, not {asked}; "
                "end it first (`stoker down`), or leave the setting out",
                field=variable,
            )
    return msgspec.structs.replace(
        chosen,
        port=wanted.port,
        api_port=wanted.api_port,
        grpc_port=wanted.grpc_port,
        gateways=wanted.gateways,
        host=wanted.host,
        tls_cert=wanted.tls_cert,
        tls_key=wanted.tls_key,
    )


def _check_ports(home: Home, chosen: Settings) -> None:
    """Raise InvalidInput for a port that another program has. Our own processes, left by a killed agent, may."""
    records = Records(home.processes).read()
    ours = {name for name, record in records.items() if kernel.is_same(record.pid, record.start_ticks)}
    until_s = time.monotonic() + PORT_WAIT_S
    ports = [
        (chosen.host, chosen.port, "PORT", "gateway-0"),
        ("127.0.0.1", chosen.api_port, "STOKER_API_PORT", "control"),
    ]
    if chosen.grpc_port:
        ports.append((chosen.host, chosen.grpc_port, "STOKER_GRPC_PORT", "gateway-0"))
    for host, port, variable, owner in ports:
        while owner not in ours and not _is_free(host, port, variable):
            if time.monotonic() >= until_s:
                raise InvalidInput(f"port {port} is taken by another program; set {variable}=…", field=variable)
            time.sleep(POLL_S)


def _is_free(host: str, port: int, variable: str) -> bool:
    """Return whether nobody listens there. Raises InvalidInput when nobody can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as unknown:
        raise InvalidInput(f"STOKER_HOST={host}: {unknown}", field="STOKER_HOST") from unknown
    with socket.socket(found[0], socket.SOCK_STREAM) as trial:
        # Connections of a platform that just ended may linger; they do not count. Another listener does.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(found[4])
        except OSError as refused:
            if refused.errno == errno.EADDRINUSE:
                return False
            said = f"cannot listen on {host}:{port}: {refused.strerror}; set {variable}=…"
            raise InvalidInput(said, field=variable) from refused
    return True


def _read_wanted(home: Home) -> _Wanted | None:
    try:
        return msgspec.json.decode((home.run / keeper_main.WANTED).read_bytes(), type=_Wanted)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_wanted(home: Home, chosen: Settings) -> None:
    wanted = _Wanted(
        agent_main.agent_argv(chosen),
        chosen.port,
        chosen.api_port,
        chosen.host,
        chosen.gateways,
        chosen.grpc_port,
        chosen.tls_cert,
        chosen.tls_key,
    )
    half = home.run / (keeper_main.WANTED + ".tmp")
    try:
        half.write_bytes(msgspec.json.encode(wanted))
        half.replace(home.run / keeper_main.WANTED)
    except OSError as refused:
        raise Unavailable(f"{home.run} cannot be written: {refused.strerror}") from refused


def _wait_ready(home: Home, chosen: Settings, progress: Progress) -> None:
    """Return once control and every gateway are ready and the credentials are there. Raises Unavailable."""
    until_s = time.monotonic() + chosen.start_timeout_s
    needed = {spec.name for spec in agent_main.system_specs(home, chosen)}
    said, after = "", None
    while True:
        waits: dict[str, str] = {"agent": "starting"}
        with suppress(NotReachable):
            status = node_status(home, after=after, wait_s=CHANGE_WAIT_S)
            after = status.sequence
            found = {one.name: one for one in status.processes if one.name in needed}
            waits = {name: _phase(found.get(name)) for name in sorted(needed) if _phase(found.get(name)) != "ready"}
            for process in found.values():
                if process.crashes_in_row >= CRASHES_MAX:
                    raise Unavailable(
                        _failure(home, process.name, f"died {process.crashes_in_row} times", process.last_error)
                    )
            if not waits and home.credentials.exists():
                return
        _raise_agent_error(home)
        words = "waiting for " + ", ".join(f"{name} ({phase})" for name, phase in waits.items()) if waits else said
        if words != said:
            progress(words)
            said = words
        if time.monotonic() > until_s:
            late = next(iter(waits), "control")
            raise Unavailable(_failure(home, late, f"is not ready after {chosen.start_timeout_s:g} s", ""))
        time.sleep(POLL_S)


def _phase(status: ProcessStatus | None) -> str:
    if status is None:
        return "not there yet"
    return (
        f"died: {status.last_error.splitlines()[-1][:200]}"
        if status.phase == "backoff" and status.last_error
        else status.phase
    )


def _failure(home: Home, name: str, what: str, words: str) -> str:
    path = logs.log_path(home.logs, name)
    words = words or logs.last_words(path)
    return f"{name} {what}; its log is {path}" + (f" and ends with:\n{words}" if words else "")


def _raise_agent_error(home: Home) -> None:
    with suppress(OSError, msgspec.MsgspecError):
        said: dict[str, Any] = msgspec.json.decode((home.run / keeper_main.AGENT_ERROR).read_bytes())
        raise Unavailable(_failure(home, "agent", "cannot run", str(said.get("message", ""))))
