"""The system calls that Python has no words for, by ctypes. Linux on x86_64 and aarch64."""

import ctypes
import os
import platform
from typing import Any, Final

PR_SET_NO_NEW_PRIVS: Final = 38  # linux/prctl.h
PR_CAPBSET_DROP: Final = 24
PR_SET_SECCOMP: Final = 22
CAPABILITIES: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words a set
CAPSET: Final = {"x86_64": 126, "aarch64": 91}
# What is left to a replica of root: files of other owners, which its rules for files bound; cores and locked memory.
KEPT_CAPABILITIES: Final = (1, 2, 3, 14, 23)  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, IPC_LOCK, SYS_NICE
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def machine() -> str:
    """Return `x86_64`, `aarch64` or another name, of which nothing is known here."""
    return platform.machine()


def call(number: int, *arguments: Any) -> int:
    """Make a system call. Raises OSError."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def prctl(what: int, *arguments: int) -> int:
    """Raises OSError."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return _checked(_libc.prctl(ctypes.c_int(what), *(ctypes.c_ulong(each) for each in padded)))


def prctl_address(what: int, mode: int, structure: Any) -> int:
    """As `prctl`, with the address of a structure. Raises OSError."""
    return _checked(_libc.prctl(ctypes.c_int(what), ctypes.c_ulong(mode), ctypes.byref(structure), 0, 0))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones. Raises OSError."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Raises OSError."""
    texts = [each.encode() or None for each in (source, target, kind)]
    _checked(_libc.mount(*texts, flags, options.encode() or None))


def drop_privileges() -> None:
    """Keep no capability but KEPT_CAPABILITIES, and gain none by starting a program. For good. Raises OSError."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    kept = sum(1 << each for each in KEPT_CAPABILITIES)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    held = _permitted()
    low, high = held & kept & 0xFFFFFFFF, (held & kept) >> 32
    sets = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)  # effective, permitted, inheritable; twice
    if held & (1 << 8):  # CAP_SETPCAP, without which the bounding set cannot be made smaller
        for each in range(64):
            if not kept >> each & 1:
                try:
                    prctl(PR_CAPBSET_DROP, each)
                except OSError:
                    break  # the kernel has no more
    call(CAPSET[machine()], ctypes.byref(header), ctypes.byref(sets))


def status(pid: int | str = "self") -> dict[str, str]:
    """Return /proc/<pid>/status by name. Raises OSError."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as agent/kernel
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def _permitted() -> int:
    return int(status()["CapPrm"], 16)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
