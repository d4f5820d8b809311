"""Puts walls around this process, each by what the kernel at hand has for it, and says by what.

The order matters: mounts before Landlock, which forbids them; capabilities after mounts, which need one; the filter
last, which refuses most of what was done before. All of it while there is one thread: what others do is not confined.
"""

import os
import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from stoker.confine import filters, kernel, landlock, mounts, places
from stoker.confine.landlock import DEVICE, READING, WRITING, Rule
from stoker.types.sandbox import Network

DNS: Final = 53
TMP_BYTES: Final = 64 << 20  # of shared memory, for processes that need none
# Whoever may connect to one of these is root, or may ask it for what root may.
HOST_SOCKETS: Final = (
    *("/run/docker.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/podman/podman.sock"),
    *("/run/systemd/private", "/run/dbus/system_bus_socket"),
)


@dataclass(frozen=True, slots=True)
class Walls:
    """What a process may reach. It always may what programs are made of (places.py).

    read, write: more files and folders, of the platform's choice; asked_read, asked_write: of others', who get nothing
    of `kept_out` by it. files: existing files it may write, but not remove. tmp: its own folder. tmp_bytes: where it is
    more than 0, and that can be had, all else is read-only whatever Landlock says, and `tmp` and shared memory are its
    own, empty and of at most this size. hidden: folders that it shall not even see then. unix: it may make sockets of
    this machine, also where it has no network.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    asked_read: tuple[str, ...] = ()
    asked_write: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    tmp: str = ""
    tmp_bytes: int = 0
    kept_out: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    unix: bool = False
    network: Network = "none"
    ports: tuple[int, ...] = ()


@dataclass(slots=True)
class Applied:
    """What was done. by: in words. problems: why something was not."""

    by: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def confine(walls: Walls) -> Applied:
    """Confine this process and all that it starts, for good. What the machine does not have is left out, and said.

    Raises RuntimeError when there are other threads.
    """
    if (count := len(os.listdir("/proc/self/task"))) != 1:  # noqa: PTH208
        raise RuntimeError(f"there are {count} threads, of which one alone would be confined")
    done = Applied()
    if walls.tmp_bytes:
        hidden = (*walls.hidden, *HOST_SOCKETS) if walls.unix or walls.network == "open" else ()
        with _noted(done, "no mounts of its own"):
            writable = (*walls.write, *_asked(walls.asked_write, _kept(walls)), *walls.files)
            mounts.own(walls.tmp, walls.tmp_bytes, hidden, writable)
            done.by.append("own mounts")
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    known = landlock.abi()
    if known:
        with _noted(done, "no Landlock"):
            landlock.restrict(_rules(walls), _ports(walls), known)
            done.by.insert(0, f"landlock abi {known}")
    else:
        done.problems.append("the kernel has no Landlock")
    with _noted(done, "privileges are kept"):
        kernel.drop_privileges()
    with _noted(done, "no seccomp"):
        filters.install(filters.Sockets(walls.network, tcp=bool(walls.ports), unix=walls.unix))
        done.by.append("seccomp")
    return done


def _rules(walls: Walls) -> list[Rule]:
    kept = _kept(walls)
    found = [Rule(part, READING) for path in places.readable(os.environ) for part in landlock.without(path, kept)]
    found += [Rule(path, DEVICE) for path in places.devices()]
    found.append(Rule("/dev", landlock.READ_DIR))
    found += [Rule(path, READING) for path in walls.read]
    found += [Rule(path, WRITING) for path in (*walls.write, walls.tmp) if path]
    if walls.tmp:
        found.append(Rule(mounts.SHARED_MEMORY, WRITING))
    found += [Rule(part, READING) for part in _asked(walls.asked_read, kept)]
    found += [Rule(part, WRITING) for part in _asked(walls.asked_write, kept)]
    on_files = landlock.READ_FILE | landlock.WRITE_FILE | landlock.TRUNCATE
    return [*found, *(Rule(path, on_files) for path in walls.files)]


def _asked(paths: Iterable[str], kept: Sequence[str]) -> Iterator[str]:
    """Yield what of the paths that somebody asked for is outside of `kept`."""
    for path in paths:
        real = os.path.realpath(path)
        if not any(real == each or real.startswith(each + "/") for each in kept):
            yield from landlock.without(real, kept)


def _kept(walls: Walls) -> tuple[str, ...]:
    return tuple(os.path.realpath(each) for each in walls.kept_out)


def _ports(walls: Walls) -> tuple[int, ...] | None:
    if walls.network == "open":
        return None
    return (*walls.ports, DNS) if walls.ports else ()


class _noted:  # noqa: N801 - used as a word
    """Notes an OSError as a problem, instead of raising it."""

    def __init__(self, done: Applied, what: str) -> None:
        self._done = done
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> bool:
        if isinstance(problem, OSError):
            self._done.problems.append(f"{self._what}: {problem.strerror or problem}")
            return True
        return False
