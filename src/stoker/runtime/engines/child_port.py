"""Which port a model server that is started shall listen on, and who listens there.

Such a server binds the port itself, long after it was told which: there is no common way to hand it a socket (uvicorn
and vLLM take `--fd` or `--uds`, llama.cpp a path that ends in `.sock`, others nothing). So a port is chosen where the
kernel gives none to anybody by itself, and who answers there is looked at before he is believed.
"""

import contextlib
import random
import socket
from pathlib import Path
from typing import Final

# Below the ports of outgoing connections (32768 and up) and those that Kubernetes takes for its nodes (30000 and up).
LOW, HIGH = 20_000, 29_999
TRIES_MAX: Final = 100
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LISTENS: Final = "0A"  # in the column `st` of /proc/net/tcp (include/net/tcp_states.h)


def choose() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    given = _given_away()
    for _ in range(TRIES_MAX):
        port = random.randint(LOW, HIGH)
        if port not in given and is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Return whether nobody listens on `port`; connections that have ended do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def is_others(port: int, family: int) -> bool:
    """Return whether a process listens on `port` that `family` (a process group) has not started.

    Also where both do: then the kernel deals connections out to them (SO_REUSEPORT). What cannot be looked at, such as
    a listener of another user, is taken for the family's own: a command may have somebody else listen for it.
    """
    listening = _listening(port)
    if not listening:
        return False
    groups = {group for pid, group in _groups().items() if listening & _sockets(pid)}
    return bool(groups - {family})


def _given_away() -> range:
    """Return the ports that the kernel gives to whoever asks for none in particular."""
    try:
        first, last = _RANGE.read_text().split()
    except (OSError, ValueError):
        return range(0)
    return range(int(first), int(last) + 1)


def _listening(port: int) -> set[str]:
    """Return the sockets that listen on `port`, as they are called in /proc/PID/fd."""
    found = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENS and int(columns[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{columns[9]}]")
    return found


def _groups() -> dict[str, int]:
    """Return the process group of every process that can be seen."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            found[folder.name] = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
    return found


def _sockets(pid: str) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for one in Path("/proc", pid, "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(one.readlink()))
    return found
