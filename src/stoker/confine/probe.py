"""Tries, from inside, what a confined process must not be able to do, and says what came of it.

What was asked for is not what is in force: a kernel without one of the mechanisms, or a container that hides it, shows
here and nowhere else. Nothing that succeeds leaves anything behind.
"""

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from stoker.confine import filters, kernel, mounts
from stoker.confine.walls import Applied, Walls
from stoker.types.sandbox import Finding
from stoker.types.units import format_bytes

REFUSED: Final = frozenset((errno.EPERM, errno.EACCES, errno.EROFS))
CLOSED_PORT: Final = 1  # tcpmux, on which nothing listens and that nobody declares
ALLOWED_OF_CAPABILITIES: Final = sum(1 << each for each in kernel.KEPT_CAPABILITIES)


def probe(walls: Walls, done: Applied, secret: str, own_socket: str) -> tuple[Finding, ...]:
    """Return what was found at each wall.

    Args:
        secret: a file of the platform that this user may read.
        own_socket: a socket file among those that others listen on.
    """
    why = "; ".join(done.problems)
    return tuple(
        Finding(each.wall, each.holds, each.said if each.holds or not why else f"{each.said} ({why})")
        for each in (
            _files(secret),
            *_network(walls),
            _sockets(own_socket),
            _processes(),
            _kernel(),
            *_room(walls),
        )
    )


def _files(secret: str) -> Finding:
    folder = os.path.dirname(secret)  # noqa: PTH120
    probe = os.path.join(folder, f".probe-{os.getpid()}")  # noqa: PTH118
    if not _is_refused(lambda: os.close(os.open(secret, os.O_RDONLY))):
        return Finding("files", False, "files of the platform and of other models can be read")
    if not _is_refused(lambda: _make_and_remove(probe)):
        return Finding("files", False, "files of the platform can be written")
    if not _is_refused(lambda: os.chmod(secret, os.stat(secret).st_mode)):  # noqa: PTH101, PTH116
        return Finding("files", False, "modes, owners and times of the platform's files can be changed")
    return Finding("files", True, "its own files only")


def _network(walls: Walls) -> Iterator[Finding]:
    if walls.network == "open":
        yield Finding("network", True, "an open network, as declared")
        return
    datagrams = _is_refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
    raw = _is_refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close())
    streams = all(_is_refused(partial(_call, host, CLOSED_PORT)) for host in ("127.0.0.1", "::1"))
    if not (datagrams and raw and streams):
        ways = (("TCP", streams), ("UDP", datagrams), ("netlink", raw))
        yield Finding("network", False, f"{', '.join(name for name, is_shut in ways if not is_shut)} can be used")
    elif walls.ports:
        yield Finding("network", True, f"TCP to {', '.join(map(str, walls.ports))} and for names only")
    else:
        yield Finding("network", True, "no network")


def _sockets(own_socket: str) -> Finding:
    with suppress(OSError):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
            tried.setblocking(False)
            found = tried.connect_ex(own_socket)
        if found not in (*REFUSED, errno.ENOENT, errno.ENOTDIR):
            return Finding("sockets", False, "sockets of the platform and of other replicas can be called")
    return Finding("sockets", True, "no sockets of others")


def _processes() -> Finding:
    parent = os.getppid()
    if not _is_refused(lambda: os.kill(parent, 0)):
        return Finding("processes", False, "other processes of this user can be signalled")
    if not _is_refused(lambda: os.close(os.open(f"/proc/{parent}/environ", os.O_RDONLY))):
        return Finding("processes", False, "the environments of other processes can be read")
    return Finding("processes", True, "its own processes only")


def _kernel() -> Finding:
    found = kernel.status()
    number = filters.NUMBERS.get(kernel.machine(), {}).get("process_vm_readv", -1)
    with suppress(OSError):
        kernel.call(
            number, ctypes.c_int(os.getpid()), None, ctypes.c_ulong(0), None, ctypes.c_ulong(0), ctypes.c_ulong(0)
        )
        return Finding("kernel", False, "calls into the kernel and other processes are not filtered")
    if found.get("NoNewPrivs") != "1" or int(found.get("CapPrm", "0"), 16) & ~ALLOWED_OF_CAPABILITIES:
        return Finding("kernel", False, "it keeps, or can gain, an administrator's privileges")
    return Finding("kernel", True, "no privileges")


def _room(walls: Walls) -> Iterator[Finding]:
    if not walls.tmp or not walls.tmp_bytes:
        return
    sizes = []
    for folder in (walls.tmp, mounts.SHARED_MEMORY):
        with suppress(OSError):
            seen = os.statvfs(folder)
            sizes.append(seen.f_blocks * seen.f_frsize)
    # The kernel counts in pages.
    holds = bool(sizes) and all(size <= walls.tmp_bytes + 65536 for size in sizes)
    most = format_bytes(walls.tmp_bytes)
    said = f"at most {most} of temporary files" if holds else "temporary files may fill the disk or memory"
    yield Finding("room", holds, said)


def _is_refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError as refused:
        return refused.errno in REFUSED
    return False


def _make_and_remove(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(path)


def _call(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError as refused:
        if refused.errno == errno.EAFNOSUPPORT:  # the machine has none of that family
            raise PermissionError(errno.EPERM, "no such family") from refused
        raise
    with made:
        made.setblocking(False)
        made.connect((host, port))
