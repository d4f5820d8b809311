"""Landlock: which files, TCP ports and processes this thread, and all it starts, may reach from now on.

It must be asked for while the process has one thread: others keep what they had. Landlock names what is allowed; what
the kernel at hand does not know is left out, and `abi` says how much it knows:

    1 files   2 renames across folders   3 truncation   4 TCP ports   5 devices' ioctl   6 signals, abstract sockets

See landlock(7). No rule there looks at connect() on a socket file, at UDP, or at what a descriptor held before allows.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from stoker.confine import kernel

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on all machines
VERSION: Final = 1  # the flag that asks for it
PATH_BENEATH, NET_PORT = 1, 2
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
MAKE_SOCK, MAKE_FIFO, MAKE_SYM = 1 << 9, 1 << 10, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2
SCOPES_ABI: Final = 6
PORTS_ABI: Final = 4
# How many bits of rights to files each ABI knows.
_FILE_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}

READING: Final = EXECUTE | READ_FILE | READ_DIR
MAKING: Final = REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER | TRUNCATE
WRITING: Final = READING | WRITE_FILE | MAKING
DEVICE: Final = READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV
_ON_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # the others are rights to folders


@dataclass(frozen=True, slots=True)
class Rule:
    """The rights `allowed` to the file at `path`, or to all below it. A path that is not there is no rule."""

    path: str
    allowed: int


def abi() -> int:
    """Return how much Landlock the kernel has, 0 for none."""
    try:
        return kernel.call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION))
    except OSError:
        return 0


def restrict(rules: Iterable[Rule], ports: tuple[int, ...] | None, known: int) -> None:
    """Allow nothing but what `rules` say, for good. Raises OSError, and nothing is changed then.

    Args:
        ports: TCP ports that may be called, none may be listened on; None: every one, both ways.
        known: of `abi`, at least 1.
    """
    files = (1 << _FILE_BITS.get(known, 16)) - 1
    net = BIND_TCP | CONNECT_TCP if ports is not None and known >= PORTS_ABI else 0
    scopes = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if known >= SCOPES_ABI else 0
    words = (files,) if known < PORTS_ABI else (files, net) if known < SCOPES_ABI else (files, net, scopes)
    asked = struct.pack(f"={len(words)}Q", *words)
    ruleset = kernel.call(CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), ctypes.c_uint32(0))
    try:
        for rule in rules:
            _allow(ruleset, rule, files)
        for port in (ports or ()) if net else ():
            _add(ruleset, NET_PORT, struct.pack("=QQ", CONNECT_TCP, port))
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def without(path: str, kept_out: Sequence[str]) -> Iterator[str]:
    """Yield `path`, or, where something of `kept_out` (no links in them) lies below it, all beside the way there."""
    path = os.path.realpath(path)
    if not any(each.startswith(path.rstrip("/") + "/") for each in kept_out):
        yield path
        return
    with suppress(OSError), os.scandir(path) as found:
        for each in found:
            if each.path not in kept_out and not each.is_symlink():
                yield from without(each.path, kept_out)


def _allow(ruleset: int, rule: Rule, known: int) -> None:
    try:
        opened = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = rule.allowed & known
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            allowed &= _ON_FILES
        _add(ruleset, PATH_BENEATH, struct.pack("=Qi", allowed, opened))
    finally:
        os.close(opened)


def _add(ruleset: int, kind: int, attributes: bytes) -> None:
    kernel.call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(kind), attributes, ctypes.c_uint32(0))
