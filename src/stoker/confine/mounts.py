"""A view of the file system of one's own: bounded room, the rest read-only, and nothing where others listen.

It takes a mount namespace, which root may make, and others inside a user namespace where the machine allows those. It
must be asked for while the process has one thread. All of it goes with the last process in it.
"""

import ctypes
import os
import resource
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from stoker.confine import kernel

NEW_MOUNTS, NEW_IPC, NEW_USER = 0x20000, 0x08000000, 0x10000000  # linux/sched.h
MOUNT_SETATTR: Final = 442  # the same on all machines
READ_ONLY: Final = 1  # MOUNT_ATTR_RDONLY
AT_RECURSIVE, AT_FDCWD = 0x8000, -100
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_SLAVE = 2, 4, 0x1000, 0x4000, 1 << 19  # linux/mount.h
CAP_SYS_ADMIN: Final = 21
PROCESSES_MAX: Final = 4096  # and threads; the limit counts those of a user namespace, and never those of root
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - that is the folder that is made private
INODES_MAX: Final = 100_000  # of each: empty files take memory too


def own(tmp: str, bytes_max: int, hidden: Iterable[str], writable: Iterable[str]) -> None:
    """Have `tmp` and shared memory for oneself, each of at most `bytes_max`, see nothing at `hidden`, and all the rest,
    but `writable`, read-only: Landlock keeps no one from changing modes, owners and times of files.

    A folder that is hidden is empty, a file is /dev/null. Raises OSError; perhaps half of it is done then.
    """
    _enter()
    kernel.mount("none", "/", "", MS_REC | MS_SLAVE)  # what is unmounted outside goes here too, and not the other way
    kept = [path for path in writable if os.path.exists(path)]  # noqa: PTH110 - nothing but os is imported yet
    for path in kept:
        kernel.mount(path, path, "", MS_BIND)
    options = f"size={bytes_max},nr_inodes={INODES_MAX},mode=700"
    for folder in (tmp, SHARED_MEMORY):
        if folder and os.path.isdir(folder):  # noqa: PTH112
            kernel.mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, options)
            kept.append(folder)
    for path in hidden:
        with suppress(FileNotFoundError):
            if os.path.isdir(path):  # noqa: PTH112
                kernel.mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=4096,mode=700")
            else:
                kernel.mount("/dev/null", path, "", MS_BIND)
    _set("/", AT_RECURSIVE, READ_ONLY, 0)
    for path in kept:
        _set(path, 0, 0, READ_ONLY)


def _set(path: str, flags: int, attributes: int, cleared: int) -> None:
    """Change attributes of the mount at `path`. Raises OSError."""
    asked = struct.pack("=4Q", attributes, cleared, 0, 0)  # struct mount_attr
    kernel.call(MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, asked, ctypes.c_size_t(len(asked)))


def _enter() -> None:
    held = int(kernel.status()["CapEff"], 16)
    if held >> CAP_SYS_ADMIN & 1:
        kernel.unshare(NEW_MOUNTS | NEW_IPC)
        return
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(NEW_USER | NEW_MOUNTS | NEW_IPC)
    # The same ids inside as outside; see user_namespaces(7).
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(text)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES_MAX, PROCESSES_MAX))
